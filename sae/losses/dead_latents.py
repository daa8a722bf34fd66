"""Terms that bring dead latents back. Which latents count as dead is the run's affair (`StepInfo.dead`)."""

from typing import ClassVar, Literal, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.row_gradients import picked_rows
from sae.functional.selection import row_top_k
from sae.losses.l0 import thresholds
from sae.losses.objective import START, Role, StepInfo
from sae.losses.weighting import weighted_sum

__all__ = ["AuxK", "GhostGradients", "PreActivation"]


@final
class AuxK:
    """Dead latents reconstruct what the others leave over (Gao et al. 2024, arXiv:2406.04093, appendix A.2).

    ||e - relu(z_dead) @ W_dec||^2 with e = target - recon DETACHED, no bias added, and z_dead the `k_aux` largest
    pre-activations among the dead. The gradient reaches their encoder columns, biases and decoder rows, no other latent, and
    b_dec only where the encoder subtracts it (as in the paper's code, as remembered).

    `normalisation="residual"` multiplies by var(target) / var(e) of the batch (detached), so that the coefficient weighs two
    fractions of variance, as the paper's two normalised errors do; `none` leaves the plain squared error, whose pull fades as
    the reconstruction improves.
    """

    role: ClassVar[Role] = "auxiliary"

    def __init__(self, *, k_aux: int | None = None, normalisation: Literal["residual", "none"] = "residual") -> None:
        """Set up.

        Args:
            k_aux: dead latents that a row may use; None takes half of d_out (a power of two near it in the paper).
            normalisation: see the class.
        """
        if k_aux is not None and k_aux < 1:
            raise ValueError(f"auxk_k_aux must be at least 1, got {k_aux}")
        if normalisation not in ("residual", "none"):
            raise ValueError(f"auxk_normalisation is `residual` or `none`, got {normalisation!r}")
        self.k_aux, self.normalisation = k_aux, normalisation

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row; zero while no latent is dead."""
        dead = _dead(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        dead_acts = dead.only(torch.relu(_pre_acts(output, "auxk", dead.latents)), 0.0)
        k_aux = max(1, sae.d_out // 2) if self.k_aux is None else self.k_aux
        if k_aux < len(dead.latents):
            dead_acts = row_top_k(dead_acts, k_aux)
        residual = (target - output.recon).detach()
        errors = dead.if_any((residual - dead_acts @ picked_rows(sae.W_dec, dead.latents)).square().sum(dim=1), 0.0)
        if self.normalisation == "none":
            return errors
        return errors * (_variance(target) / _variance(residual).clamp_min(torch.finfo(residual.dtype).tiny))


@final
class GhostGradients:
    """Dead latents, made to fire by an exponential, reconstruct what is left over (Anthropic, January 2024, as remembered).

    ghost = exp(pre_acts_dead) @ W_dec_dead, brought row by row to half the norm of the residual (the factor is detached);
    ||residual.detach() - ghost||^2, brought to the size of the reconstruction's squared error (that factor is detached too).
    """

    role: ClassVar[Role] = "auxiliary"

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The term for each row; zero while no latent is dead."""
        dead = _dead(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        chosen = dead.only(_pre_acts(output, "ghost", dead.latents), -torch.inf)
        # A row's largest is taken off before the exponential: the factor below cancels it, and nothing overflows.
        largest = dead.if_any(chosen.detach().amax(dim=1, keepdim=True), 0.0)
        ghost = torch.exp(chosen - largest) @ picked_rows(sae.W_dec, dead.latents)
        residual = (target - output.recon).detach()
        tiny = torch.finfo(ghost.dtype).tiny
        lengths = torch.linalg.vector_norm(ghost.detach(), dim=1, keepdim=True).clamp_min(tiny)
        ghost = ghost * (0.5 * torch.linalg.vector_norm(residual, dim=1, keepdim=True) / dead.if_any(lengths, 1.0))
        errors = (residual - ghost).square().sum(dim=1)
        size = dead.if_any(errors.detach().clamp_min(tiny), 1.0)
        return dead.if_any(errors * (residual.square().sum(dim=1) / size), 0.0)


@final
class PreActivation:
    """sum_i relu(theta_i - z_i) ||d_i||: a small push up for latents below their threshold (Anthropic, January 2025).

    theta is JumpReLU's threshold, with its gradient, and 0 for other architectures. `dead_only` pushes only latents that count
    as dead, as a public replication does.
    """

    role: ClassVar[Role] = "auxiliary"

    reads_decoder: ClassVar[bool] = True

    def __init__(self, *, dead_only: bool = False) -> None:
        self.dead_only = dead_only

    @property
    def compiles(self) -> bool:
        """Where it is of all latents: how many are dead follows from the data."""
        return not self.dead_only

    def needs_dense(self, sae: SparseAutoencoder) -> bool:
        """Nearly every latent is below its threshold on nearly every row."""
        return not self.dead_only

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The term for each row, in activation units."""
        own, weights = thresholds(sae), torch.linalg.vector_norm(sae.W_dec, dim=1)
        if not self.dead_only:
            return weighted_sum(torch.relu(own - _pre_acts(output, "pre_act", None)), weights)
        dead = _dead(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        weights, own = weights[dead.latents], own[dead.latents] if isinstance(own, Tensor) else own
        below = torch.relu(own - _pre_acts(output, "pre_act", dead.latents))
        return weighted_sum(dead.only(below, 0.0), weights)


class _Dead(NamedTuple):
    """The dead latents, or some more of which those that are dead are marked on the device.

    Attributes:
        latents: which.
        marks: which of them are dead; None: all.
    """

    latents: Int[Tensor, " some"]
    marks: Bool[Tensor, " some"] | None

    def only(self, values: Float[Tensor, "batch some"], otherwise: float) -> Float[Tensor, "batch some"]:
        """The values of dead latents; those of the others are replaced."""
        return values if self.marks is None else torch.where(self.marks, values, otherwise)

    def if_any(self, values: Float[Tensor, "*shape"], otherwise: float) -> Float[Tensor, "*shape"]:
        """The values if any latent is dead; else they are replaced."""
        return values if self.marks is None else torch.where(self.marks.any(), values, otherwise)


def _dead(info: StepInfo) -> _Dead | None:
    """The dead latents; None where none can be."""
    if info.dead is None:
        return None
    if info.candidates is None:
        return _Dead(info.dead.nonzero().squeeze(1), None) if bool(info.dead.any()) else None
    latents = info.candidates()
    return _Dead(latents, info.dead[latents]) if len(latents) else None


def _pre_acts(output: SAEOutput | SparseSAEOutput, term: str, latents: Tensor | None) -> Float[Tensor, "batch chosen"]:
    """Pre-activations of some latents; None: of all."""
    if not isinstance(output, SparseSAEOutput):
        return output.pre_acts if latents is None else output.pre_acts[:, latents]
    if output.product is None or latents is None:
        raise ValueError(f"the term `{term}` needs a pass of training, and the dense one for all latents")
    return output.product().columns(latents)


def _variance(rows: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """Mean squared distance from the mean row."""
    return (rows - rows.mean(dim=0)).square().sum(dim=1).mean()
