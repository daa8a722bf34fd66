"""What the live part works on: a model, an SAE, and the places that it reads and writes."""

from dataclasses import dataclass
from typing import final

from sae.architectures.base import SparseAutoencoder
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel

__all__ = ["Subject"]


@final
@dataclass(frozen=True, kw_only=True)
class Subject:
    """An SAE in its model.

    Attributes:
        model: the transformer.
        sae: takes raw activations: an exported SAE.
        inputs: the hook points that it reads, in the order in which they lie side by side.
        targets: those that it predicts: the inputs, but for a transcoder.
    """

    model: LanguageModel
    sae: SparseAutoencoder
    inputs: tuple[HookPoint, ...]
    targets: tuple[HookPoint, ...]

    def __post_init__(self) -> None:
        for does, width, points in (("reads", self.sae.d_in, self.inputs), ("predicts", self.sae.d_out, self.targets)):
            found = sum(point.width for point in points)
            if width != found:
                names = " + ".join(point.name for point in points)
                raise ValueError(f"the SAE {does} {width} dimensions, {names or 'no hook point'} has {found}")

    @property
    def place(self) -> str:
        """The hook points in words."""
        inputs, targets = (" + ".join(point.name for point in points) for points in (self.inputs, self.targets))
        return inputs if self.inputs == self.targets else f"{inputs} -> {targets}"
