"""What the pages of factors show."""

from dataclasses import dataclass, field
from typing import final

from sae.dashboards.latents.settings import PageSettings
from sae.errors import UserError

__all__ = ["FactorSettings"]


@final
@dataclass(frozen=True, kw_only=True)
class FactorSettings:
    """Settings of `sae.factors.records.FactorPages` and of what stands beside it.

    Attributes:
        pages: what latents' pages have too. `top` is the number of contexts at each layer, `tokens` that of tokens listed at
            each, `latents_size` the factors in a file; of the rest, examples by interval and at random, co-activation and
            neurons mean nothing here.
        importance_top: activations whose mean is the importance (n).
        strongest: factors listed on a token of a word or a text, at each layer.
        occurrences: of a word that are shown; of more, so many are drawn.

    Raises:
        UserError: a count is below 1.
    """

    pages: PageSettings = field(default_factory=lambda: PageSettings(top=10, tokens=5, latents_size=8))
    importance_top: int = 500
    strongest: int = 10
    occurrences: int = 200

    def __post_init__(self) -> None:
        for name in ("importance_top", "strongest", "occurrences"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"factors setting {name}={value}: expected a whole number of at least 1.")
