"""Numbers of one training batch, for loggers."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.activity import count_active
from sae.losses.objective import LossParts

__all__ = ["numbers_of_batch"]


@torch.no_grad()
def numbers_of_batch(
    output: SAEOutput | SparseSAEOutput,
    target: Float[Tensor, "batch d_out"],
    loss: LossParts,
    coefficients: Mapping[str, float | int | Tensor],
) -> dict[str, float | Float[Tensor, ""]]:
    """What is logged of a batch: the loss and its parts, L0, FVU, coefficients; tensors stay on the device.

    Args:
        output: of the pass, in the units of training.
        target: what was to be reconstructed, likewise.
        loss: and its parts.
        coefficients: of the parts, at this step.
    """
    residual = (output.recon - target).square().sum(dtype=torch.float64)
    return {
        "loss": loss.total.detach(),
        **{f"loss_{name}": part.detach() for name, part in loss.parts.items()},
        "l0": count_active(output.latent_acts).double() / len(target),
        "fvu": residual / (target - target.mean(dim=0)).square().sum(dtype=torch.float64),
        **{f"{name}_coefficient": value for name, value in coefficients.items()},
    }
