"""What the server says and is asked, as JSON.

A refusal is an `ErrorAnswer` with an HTTP status that says of which kind. `app/src/messages.ts` says the same in TypeScript; a
test holds them together.
"""

from typing import TypedDict

from sae.dashboards.schema import TokenText

__all__ = [
    "AblateAnswer",
    "AblateRequest",
    "Clamp",
    "Continuation",
    "Defaults",
    "ErrorAnswer",
    "HelloAnswer",
    "Limits",
    "SteerAnswer",
    "SteerRequest",
    "TextRequest",
]


class Limits(TypedDict):
    """How much the server takes in one request."""

    characters: int  # of a text
    tokens: int  # of a text, as the model splits it
    new_tokens: int  # of a continuation
    clamps: int  # latents held at a value
    ablations: int  # latents removed


class Defaults(TypedDict):
    """What counts where a `SteerRequest` does not say."""

    new_tokens: int
    temperature: float
    seed: int


class HelloAnswer(TypedDict):
    """`GET /api/hello`: that there is a server, and what it can do with this SAE and model."""

    version: str  # of this project
    model: str
    hook_point: str
    d_sae: int
    steer: bool  # /api/steer answers: the model predicts next tokens
    ablate: bool  # /api/ablate answers
    limits: Limits
    defaults: Defaults


class ErrorAnswer(TypedDict):
    """Any refusal, in words for whoever typed."""

    error: str


class TextRequest(TypedDict):
    """`POST /api/text`, answered by a `TextPage`."""

    text: str


class Clamp(TypedDict):
    """A latent and the activation at which it is held on every token that is not special."""

    latent: int
    value: float  # in the units of activations; 0 removes the latent


class SteerRequest(TypedDict, total=False):
    """`POST /api/steer`: go on with a text, with latents held and without; only `text` is required."""

    text: str
    clamps: list[Clamp]
    new_tokens: int  # at most so many
    temperature: float  # 0: the likeliest token each time
    seed: int  # of the draws; both continuations draw alike


class Continuation(TypedDict):
    """What the model wrote."""

    text: str
    tokens: list[TokenText]
    ended: bool  # by a special token, which is not among the tokens, before there were `new_tokens`


class SteerAnswer(TypedDict):
    """The model's own continuation, and the one with latents held."""

    own: Continuation
    clamped: Continuation


class AblateRequest(TypedDict, total=False):
    """`POST /api/ablate`: the exact effect on the loss of removing latents, one at a time, at one token.

    The token is given by `text` and `position`, a place in the tokens of its `TextPage`; or by `block` and `position` (of an
    `Example`: `start` plus an offset), where the dashboard's collected text still stands in its folder.
    """

    text: str
    block: int
    position: int
    latents: list[int]


class AblateAnswer(TypedDict):
    """Exact effects, in the order of the request, in nats: loss after removal less loss before."""

    effects: list[float]
