"""Patterns of a sentence, stated as code: what a factor of the middle layers may stand for, whatever the words are."""

import re
from dataclasses import dataclass

__all__ = ["PATTERNS", "Pattern"]

MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
YEAR = r"(?:1[0-9]|20)\d\d"
UNIT = (
    r"(?:km|kilometres|kilometers|mi|miles|m|metres|meters|ft|feet|cm|mm|inches|kg|lb|tons|tonnes|acres|hectares|years|days|hours"
    r"|minutes|people|square miles|square kilometres|°C|°F|K|eV|MPa)"
)
NAME = r"[A-Z][\w'\u2019-]+"
NAMES = rf"{NAME}(?: {NAME})*"


@dataclass(frozen=True)
class Pattern:
    """A pattern that is found by a regular expression.

    Attributes:
        name: how tables call it.
        expression: finds it in running text; what it matches is inside the pattern.
    """

    name: str
    expression: re.Pattern[str]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The characters [begin, end) of every match, in order and without overlap."""
        return [match.span() for match in self.expression.finditer(text) if match.end() > match.start()]


PATTERNS = [
    Pattern(name, re.compile(expression, re.MULTILINE))
    for name, expression in [
        ("enumeration `a, b, and c`", r"\b[a-z][\w-]*, (?:[a-z][\w-]*, )*[a-z][\w-]*,? (?:and|or) [a-z][\w-]*\b"),
        (
            "enumeration of names `A, B, C`",
            rf"\b{NAMES}(?:(?:, {NAMES})+,? and {NAMES}|(?:, {NAMES}){{2,}})",
        ),
        ("quotation of at least 20 characters", r"[\"“][^\"“”\n]{20,300}[\"”]"),
        ("institution (ABBREVIATION)", r"\b[A-Z]\w+(?: (?:of|for|and|the|de|[A-Z]\w+))* \([A-Z][A-Za-z.]*[A-Z]\)"),
        ("(year-year), life or reign", rf"\([^()\n]{{0,60}}?\b{YEAR}\s?[\u2013-]\s?[^()\n]{{0,40}}?\d{{2,4}}\)"),
        ("(year) after a title", rf"\({YEAR}\)"),
        (
            "range of years `from 1914 to 1918`, `1914-18`",
            rf"\b(?:from|between) {YEAR} (?:to|and|until) {YEAR}\b|(?<!\()\b{YEAR}[\u2013/-]\d{{2,4}}\b",
        ),
        ("date with day and month", rf"\b\d{{1,2}} {MONTH}(?: {YEAR})?\b|\b{MONTH} \d{{1,2}}(?:, {YEAR})?\b"),
        ("number with a unit", rf"\b\d[\d,.]*[ \u00a0]?(?:million |billion |thousand )?{UNIT}\b"),
        (
            "passive with its agent `was written by`",
            r"\b(?:was|were|is|are|been|being|be) (?:\w+ly )?\w+(?:ed|en|wn|ught|ade|old|ung|uck|ound|eld) by\b",
        ),
        (
            "comparison `more ... than`",
            r"\b(?:more|less|fewer|greater|higher|lower|larger|smaller|better|worse|older|longer)\b[^.,;\n]{0,40}\bthan\b",
        ),
        (
            "contrast `not only ... but`, `either ... or`",
            r"\bnot only\b[^.;\n]{3,100}?\bbut\b|\b(?:either|whether|both|neither)\b[^.,;\n]{3,50}?\b(?:or|and|nor)\b",
        ),
        ("heading `== ... ==`", r"^={2,}[^=\n]+={2,}$"),
    ]
]
