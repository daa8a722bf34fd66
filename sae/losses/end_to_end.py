"""End-to-end terms: what the reconstruction does to the rest of the model (Braun et al. 2024, arXiv:2405.12241).

They need a run that feeds reconstructions back into the model (`StepInfo.downstream`); the run sees to that when one of them is
asked for.
"""

from collections.abc import Mapping
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.losses.term import START, Role, StepInfo

__all__ = ["KL", "DownstreamError"]


@final
class KL:
    """KL(clean || spliced) of the next-token distribution at each row's position, in nats.

    The direction is that of the published code, KL from the original to the new logits; its docstring says the reverse.
    """

    role: ClassVar[Role] = "end_to_end"

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Divergence of each row."""
        return _downstream(output, info)["kl"]


@final
class DownstreamError:
    """||later activation - its clean value||^2, averaged over the next `layers` blocks, in the units of training squared.

    With `Objective(reduction="mean")` it too is divided by d_out, the width of the target and not that of later activations, so
    that it keeps its weight beside the other squared errors.
    """

    role: ClassVar[Role] = "end_to_end"
    sums_squares: ClassVar[bool] = True

    def __init__(self, *, layers: int = 5) -> None:
        """Set up.

        Args:
            layers: blocks after the hook point's whose outputs are compared; as many as there are, where there are fewer.
        """
        if layers < 1:
            raise ValueError(f"downstream_layers must be at least 1, got {layers}")
        self.layers = layers

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row."""
        return _downstream(output, info)["squared_error"]


def _downstream(output: SAEOutput | SparseSAEOutput, info: StepInfo) -> Mapping[str, Tensor]:
    if info.downstream is None:
        raise ValueError("the terms `kl` and `downstream` need a run whose stream goes on through the model")
    return info.downstream(output.recon)
