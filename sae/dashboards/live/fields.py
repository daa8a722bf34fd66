"""Single fields of a request's JSON object: each is taken as it is expected, or refused in words."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from sae.errors import UserError

__all__ = ["kind_of", "known_fields", "list_field", "number_field", "text_field", "whole_field"]


def known_fields(fields: Mapping[str, Any], names: tuple[str, ...], *, of: str = "The body") -> None:
    """Refuse fields of other names; the nearest is said."""
    for name in fields:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{of} has the unknown field {name[:40]!r}.{hint} Expected {', '.join(names)}.")


def text_field(fields: Mapping[str, Any], name: str = "text", example: str = "The Eiffel Tower") -> str:
    """A string."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise UserError(f'{name} is {kind_of(value)}. Expected a string, as in {{"{name}": "{example}"}}.')
    return value


def list_field(fields: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """A list of at most so many entries; empty where there is none."""
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise UserError(f"{name} is {kind_of(value)}. Expected a list.")
    if len(value) > most:
        raise UserError(f"{name} has {len(value)} entries. Expected at most {most}.")
    return value


def whole_field(fields: Mapping[str, Any], name: str, low: int, high: int, *, default: int | None = None, of: str = "") -> int:
    """A whole number."""
    return _between(fields, name, low, high, "a whole number", lambda value: isinstance(value, int), default, of)


def number_field(
    fields: Mapping[str, Any], name: str, low: float, high: float, *, default: float | None = None, of: str = ""
) -> float:
    """A number."""
    return float(_between(fields, name, low, high, "a number", lambda value: isinstance(value, (int, float)), default, of))


def _between(
    fields: Mapping[str, Any], name: str, low: Any, high: Any, expected: str, fits: Callable[[Any], bool], default: Any, of: str
) -> Any:
    value = fields.get(name, default)
    if isinstance(value, bool) or not fits(value) or not low <= value <= high:
        got = value if isinstance(value, (int, float)) and not isinstance(value, bool) else kind_of(value)
        raise UserError(f"{of}{name} is {str(got)[:40]}. Expected {expected} from {low:g} to {high:g}.")
    return value


def kind_of(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None:
        return "missing or null"
    names = {bool: "true or false", str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]
