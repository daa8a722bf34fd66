"""How much saliency is measured, and how."""

from dataclasses import dataclass
from typing import Literal, final

from sae.errors import UserError
from sae.factors.saliency.gradients import STEPS
from sae.factors.saliency.lime import COPIES

__all__ = ["SaliencySettings"]


@final
@dataclass(frozen=True, kw_only=True)
class SaliencySettings:
    """Settings of `sae.factors.saliency.measure`.

    Leaving tokens out was chosen by measurement: on 12 contexts of 34 tokens (MiniLM, 512 factors of sparse coding) its ranks
    agreed better with those of LIME on 301 copies than those of integrated gradients with 16 points did
    (0.47 against 0.39; the same most salient other token in 42 % and 25 %). A context by itself took 0.22 s, 2 s and 0.23 s on
    one core; only what is left out is shared by the contexts of a block, which makes all of them some hundred times cheaper.

    Attributes:
        method: of the contexts that pages show; none: only those of `lime_factors` are measured. A shortlist serves
            dictionaries that search for codes; with any other it is leaving out as it is.
        contexts: measured by it, at most, the strongest first; None: all that there are.
        minutes: that this may take, about: of more than there is time for, the strongest are measured.
        lime_factors: whose contexts are measured by LIME too.
        lime_contexts: of each of these, the strongest at the layer of its largest importance.
        copies: of a text for LIME.
        steps: points of the line for integrated gradients.
        compared: contexts on which both exact cheap ways are used too, to tell how far ways agree; and all on which LIME is.
        batch_tokens: tokens that the model reads at once, about.
        seed: of LIME's copies.

    Raises:
        UserError: a value is out of range.
    """

    method: Literal["leave_one_out_shortlist", "leave_one_out", "integrated_gradients", "none"] = "leave_one_out"
    contexts: int | None = None
    minutes: float | int = 20
    lime_factors: tuple[int, ...] = ()
    lime_contexts: int = 3
    copies: int = COPIES
    steps: int = STEPS
    compared: int = 20
    batch_tokens: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"contexts": 0, "lime_contexts": 1, "copies": 2, "steps": 1, "compared": 0, "batch_tokens": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"saliency setting {name}={value}: expected a whole number of at least {low}.")
        if not self.minutes > 0:
            raise UserError(f"saliency setting minutes={self.minutes}: expected a number above 0.")
        if min(self.lime_factors, default=0) < 0:
            raise UserError(f"lime_factors has {min(self.lime_factors)}: factors are numbered from 0.")

    @property
    def measures_any(self) -> bool:
        """Whether saliency is measured at all."""
        return (self.method != "none" and self.contexts != 0) or bool(self.lime_factors)

    def at_most(self, shown: int) -> int:
        """Contexts that are measured of so many, if there is time.

        Args:
            shown: contexts on all pages.
        """
        return shown if self.contexts is None else min(shown, self.contexts)
