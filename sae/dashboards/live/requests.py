"""What comes in over HTTP, checked field by field: a mistake is answered with what came and what was expected."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae.dashboards.live.fields import kind_of, known_fields, list_field, number_field, text_field, whole_field
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
        raise UserError(f'The body is JSON of {kind_of(value)}. Expected an object such as {{"text": "..."}}.')
    return value


def read_text(fields: Mapping[str, Any]) -> str:
    """The text of a `TextRequest`.

    Raises:
        UserError: a field is missing, unknown or of another kind.
    """
    known_fields(fields, ("text",))
    return text_field(fields)


def read_continuing(fields: Mapping[str, Any], limits: Limits) -> Continuing:
    """A `SteerRequest`.

    Raises:
        UserError: a field is missing, unknown, of another kind or beyond its limits.
    """
    known_fields(fields, ("text", "clamps", "new_tokens", "temperature", "seed"))
    clamps: dict[int, float] = {}
    for place, entry in enumerate(list_field(fields, "clamps", limits["clamps"])):
        name = f"clamps[{place}]"
        if not isinstance(entry, dict):
            raise UserError(f'{name} is {kind_of(entry)}. Expected an object such as {{"latent": 3, "value": 20}}.')
        known_fields(entry, ("latent", "value"), of=name)
        latent = whole_field(entry, "latent", 0, MOST_SEED, of=f"{name}.")
        if latent in clamps:
            raise UserError(f"{name} holds latent {latent} a second time. Give each latent once.")
        clamps[latent] = number_field(entry, "value", -MOST_VALUE, MOST_VALUE, of=f"{name}.")
    other = defaults(limits)
    return Continuing(
        text=text_field(fields),
        clamps=clamps,
        new_tokens=whole_field(fields, "new_tokens", 1, limits["new_tokens"], default=other["new_tokens"]),
        temperature=number_field(fields, "temperature", 0.0, MOST_TEMPERATURE, default=other["temperature"]),
        seed=whole_field(fields, "seed", 0, MOST_SEED, default=other["seed"]),
    )


def read_ablation(fields: Mapping[str, Any], limits: Limits) -> Ablation:
    """An `AblateRequest`.

    Raises:
        UserError: a field is missing, unknown, of another kind or beyond its limits.
    """
    known_fields(fields, ("text", "block", "position", "latents"))
    text, block = (fields.get(name) is not None for name in ("text", "block"))
    if text == block:
        raise UserError("Give either text or block: the token is one of a text, or one of a block of the collected text.")
    latents = [
        whole_field({f"latents[{place}]": entry}, f"latents[{place}]", 0, MOST_SEED)
        for place, entry in enumerate(list_field(fields, "latents", limits["ablations"]))
    ]
    if not latents:
        raise UserError("latents is empty or missing. Expected a list of one or more latents, as in [3, 17].")
    return Ablation(
        text=text_field(fields) if text else None,
        block=whole_field(fields, "block", 0, MOST_SEED) if block else None,
        position=whole_field(fields, "position", 0, MOST_SEED),
        latents=latents,
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
