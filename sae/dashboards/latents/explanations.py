"""Words and numbers for latents that others came by: automatic explanations, probes, evaluations; read from JSON lines.

A line is an explanation, `{"latent": 3, "text": "...", "source": "...", "score": 0.7}` (score may be null or absent), or a
number, `{"latent": 3, "name": "...", "value": 0.9}`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from sae.dashboards.schema import ExplanationEntry, ScoreEntry
from sae.errors import UserError

__all__ = ["Explanations", "best_explanation", "read_explanations"]

EXPLANATION, SCORE = {"latent", "text", "source", "score"}, {"latent", "name", "value"}
SHOWN_MISTAKES = 10


@final
@dataclass(frozen=True)
class Explanations:
    """What is known of some latents beside their codes.

    Attributes:
        texts: latent -> explanations, in the order of the file.
        scores: latent -> numbers, likewise.
    """

    texts: dict[int, list[ExplanationEntry]] = field(default_factory=dict)
    scores: dict[int, list[ScoreEntry]] = field(default_factory=dict)

    def best(self, latent: int) -> ExplanationEntry | None:
        """The best explanation of a latent; None without any."""
        return best_explanation(self.texts.get(latent, []))


def best_explanation(known: Sequence[ExplanationEntry]) -> ExplanationEntry | None:
    """The explanation with the largest score, the first where none has one; None without any."""
    return max(known, key=lambda entry: -math.inf if entry["score"] is None else entry["score"], default=None)


def read_explanations(path: Path, num_latents: int) -> Explanations:
    """Read a file of JSON lines; empty lines are passed over.

    Args:
        path: the file.
        num_latents: of the SAE.

    Raises:
        UserError: the file cannot be read, or a line is neither an explanation nor a number; lines are named.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Explanations could not be read from {path}: {error}. Expected a file of JSON lines.") from error
    found, mistakes = Explanations(), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _add(found, _parsed(line), num_latents)
        except ValueError as error:
            mistakes.append(f"{path}, line {number}: {error}")
    if mistakes:
        more = f"\nand {len(mistakes) - SHOWN_MISTAKES} more" if len(mistakes) > SHOWN_MISTAKES else ""
        raise UserError("\n".join(mistakes[:SHOWN_MISTAKES]) + more)
    return found


def _parsed(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {line.strip()[:60]}")
    return value


def _add(found: Explanations, entry: dict[str, Any], num_latents: int) -> None:
    latent = entry.get("latent")
    if isinstance(latent, bool) or not isinstance(latent, int) or not 0 <= latent < num_latents:
        raise ValueError(f"latent must be a whole number from 0 to {num_latents - 1}, got {latent!r}")
    if set(entry) == SCORE:
        score = ScoreEntry(name=_text(entry, "name"), value=_number(entry, "value"))
        found.scores.setdefault(latent, []).append(score)
    elif EXPLANATION - {"score"} <= set(entry) <= EXPLANATION:
        score = None if entry.get("score") is None else _number(entry, "score")
        words = ExplanationEntry(text=_text(entry, "text"), source=_text(entry, "source"), score=score)
        found.texts.setdefault(latent, []).append(words)
    else:
        raise ValueError(
            f"expected the keys latent, text, source, score or latent, name, value; got {', '.join(sorted(entry))}"
        )


def _text(entry: dict[str, Any], key: str) -> str:
    if not isinstance(entry[key], str):
        raise ValueError(f"{key} must be text, got {entry[key]!r}")
    return entry[key]


def _number(entry: dict[str, Any], key: str) -> float:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, got {value!r}")
    return float(value)
