"""What comes in over HTTP, checked field by field: a mistake is answered with what came and what was expected."""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sae.dashboards.live.messages import Defaults, Limits
from sae.errors import UserError

__all__ = [
    "LIMITS",
    "Ablation",
    "Continuing",
    "body_limit",
    "defaults",
    "read_ablation",
    "read_continuing",
    "read_object",
    "read_text",
]

LIMITS: Limits = {"characters": 20_000, "tokens": 1024, "new_tokens": 256, "clamps": 64, "ablations": 64}

DEFAULTS: Defaults = {"new_tokens": 40, "temperature": 0.0, "seed": 0}
JSON_CHARACTER = 12  # bytes that JSON may write a character with: two escapes of six
MOST_VALUE = 1e9
MOST_TEMPERATURE = 100.0
MOST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Continuing:
    """A checked `SteerRequest`."""

    text: str
    clamps: dict[int, float]
    new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A checked `AblateRequest`: the token of a text, or of a collected block."""

    text: str | None
    block: int | None
    position: int
    latents: list[int]


def body_limit(limits: Limits) -> int:
    """Bytes of a request's body at most: no request within the limits is longer."""
    return JSON_CHARACTER * limits["characters"] + 64 * (limits["clamps"] + limits["ablations"]) + 1024


def defaults(limits: Limits) -> Defaults:
    """What counts where a request does not say, within the limits."""
    return {**DEFAULTS, "new_tokens": min(DEFAULTS["new_tokens"], limits["new_tokens"])}


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        UserError: it is none.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f'The body is not JSON ({error}). Expected an object such as {{"text": "..."}}.') from None
    if not isinstance(value, dict):
        raise UserError(f'The body is JSON of {_kind(value)}. Expected an object such as {{"text": "..."}}.')
    return value


def read_text(fields: Mapping[str, Any]) -> str:
    """The text of a `TextRequest`.

    Raises:
        UserError: a field is missing, unknown or of another kind.
    """
    _known(fields, ("text",))
    return _text(fields)


def read_continuing(fields: Mapping[str, Any], limits: Limits) -> Continuing:
    """A `SteerRequest`.

    Raises:
        UserError: a field is missing, unknown, of another kind or beyond its limits.
    """
    _known(fields, ("text", "clamps", "new_tokens", "temperature", "seed"))
    clamps: dict[int, float] = {}
    for place, entry in enumerate(_list(fields, "clamps", limits["clamps"])):
        name = f"clamps[{place}]"
        if not isinstance(entry, dict):
            raise UserError(f'{name} is {_kind(entry)}. Expected an object such as {{"latent": 3, "value": 20}}.')
        _known(entry, ("latent", "value"), of=name)
        latent = _whole(entry, "latent", 0, MOST_SEED, of=f"{name}.")
        if latent in clamps:
            raise UserError(f"{name} holds latent {latent} a second time. Give each latent once.")
        clamps[latent] = _number(entry, "value", -MOST_VALUE, MOST_VALUE, of=f"{name}.")
    other = defaults(limits)
    return Continuing(
        text=_text(fields),
        clamps=clamps,
        new_tokens=_whole(fields, "new_tokens", 1, limits["new_tokens"], default=other["new_tokens"]),
        temperature=_number(fields, "temperature", 0.0, MOST_TEMPERATURE, default=other["temperature"]),
        seed=_whole(fields, "seed", 0, MOST_SEED, default=other["seed"]),
    )


def read_ablation(fields: Mapping[str, Any], limits: Limits) -> Ablation:
    """An `AblateRequest`.

    Raises:
        UserError: a field is missing, unknown, of another kind or beyond its limits.
    """
    _known(fields, ("text", "block", "position", "latents"))
    text, block = (fields.get(name) is not None for name in ("text", "block"))
    if text == block:
        raise UserError("Give either text or block: the token is one of a text, or one of a block of the collected text.")
    latents = [
        _whole({f"latents[{place}]": entry}, f"latents[{place}]", 0, MOST_SEED)
        for place, entry in enumerate(_list(fields, "latents", limits["ablations"]))
    ]
    if not latents:
        raise UserError("latents is empty or missing. Expected a list of one or more latents, as in [3, 17].")
    return Ablation(
        text=_text(fields) if text else None,
        block=_whole(fields, "block", 0, MOST_SEED) if block else None,
        position=_whole(fields, "position", 0, MOST_SEED),
        latents=latents,
    )


def _known(fields: Mapping[str, Any], names: tuple[str, ...], *, of: str = "The body") -> None:
    for name in fields:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{of} has the unknown field {name[:40]!r}.{hint} Expected {', '.join(names)}.")


def _text(fields: Mapping[str, Any]) -> str:
    value = fields.get("text")
    if not isinstance(value, str):
        raise UserError(f'text is {_kind(value)}. Expected a string, as in {{"text": "The Eiffel Tower"}}.')
    return value


def _list(fields: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise UserError(f"{name} is {_kind(value)}. Expected a list.")
    if len(value) > most:
        raise UserError(f"{name} has {len(value)} entries. Expected at most {most}.")
    return value


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int, *, default: int | None = None, of: str = "") -> int:
    return _between(fields, name, low, high, "a whole number", lambda value: isinstance(value, int), default, of)


def _number(
    fields: Mapping[str, Any], name: str, low: float, high: float, *, default: float | None = None, of: str = ""
) -> float:
    return float(_between(fields, name, low, high, "a number", lambda value: isinstance(value, (int, float)), default, of))


def _between(
    fields: Mapping[str, Any], name: str, low: Any, high: Any, expected: str, fits: Callable[[Any], bool], default: Any, of: str
) -> Any:
    value = fields.get(name, default)
    if isinstance(value, bool) or not fits(value) or not low <= value <= high:
        got = value if isinstance(value, (int, float)) and not isinstance(value, bool) else _kind(value)
        raise UserError(f"{of}{name} is {str(got)[:40]}. Expected {expected} from {low:g} to {high:g}.")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "missing or null"
    names = {bool: "true or false", str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
