"""Names of the kinds of text, as `data.source` in a config gives them."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sae.errors import UserError
from sae.tokens.documents import DocumentSource
from sae.tokens.hugging_face import HuggingFaceText
from sae.tokens.json_lines import JsonLines
from sae.tokens.mixture import Mixture
from sae.tokens.text_files import TextFiles
from sae.tokens.tokenised import TokenisedRows
from sae.tokens.wikipedia_sample import WikipediaSample

__all__ = ["SHARED_KEYS", "SOURCES", "build_source"]

SOURCES: dict[str, Callable[..., DocumentSource]] = {
    "hub": HuggingFaceText,
    "jsonl": JsonLines,
    "mixture": Mixture,
    "text": TextFiles,
    "tokenised": TokenisedRows,
    "wikipedia-sample": WikipediaSample,
}

# Keys of every `data` config that say what is done with the documents, whatever the source.
SHARED_KEYS = frozenset(
    {
        "context_length",
        "held_out_fraction",
        "held_out_rows",
        "max_rows",
        "min_tail",
        "packing",
        "repeat",
        "window_blocks",
    }
)


def build_source(settings: Mapping[str, Any]) -> DocumentSource:
    """The source that a `data` config describes: `source` names its kind, the other keys are its constructor's keywords.

    Args:
        settings: the config, shared keys included. A mixture's `sources` hold a config each, without shared keys.

    Raises:
        UserError: an unknown kind or key, a value that must be given, or what the source itself finds wrong.
    """
    return _build({key: value for key, value in settings.items() if key not in SHARED_KEYS}, place="data")


def _build(settings: Mapping[str, Any], *, place: str) -> DocumentSource:
    kind = settings.get("source")
    if kind not in SOURCES:
        raise UserError(f"`{place}.source` is {kind!r}. Expected one of {sorted(SOURCES)}.{_nearest(kind, SOURCES)}")
    parameters = inspect.signature(SOURCES[kind]).parameters
    keywords = {key: value for key, value in settings.items() if key != "source"}
    mistakes = [
        f"`{place}.{key}` is no key of {kind!r}; its keys are {sorted(parameters)}.{_nearest(key, parameters)}"
        for key in keywords
        if key not in parameters
    ]
    mistakes += [
        f"`{place}.{key}` must be given."
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and keywords.get(key) is None
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))
    if SOURCES[kind] is Mixture:
        keywords["sources"] = _build_parts(keywords["sources"], place=f"{place}.sources")
    return SOURCES[kind](**keywords)


def _build_parts(parts: Mapping[str, Mapping[str, Any]], *, place: str) -> dict[str, DocumentSource]:
    built: dict[str, DocumentSource] = {}
    mistakes: list[str] = []
    for label, settings in parts.items():
        try:
            built[label] = _build(settings, place=f"{place}.{label}")
        except UserError as error:
            mistakes.append(f"In `{place}.{label}`: {error}")
    if mistakes:
        raise UserError("\n".join(mistakes))
    return built


def _nearest(key: object, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
