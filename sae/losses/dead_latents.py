"""Terms that bring dead latents back. Which latents count as dead is the run's affair (`StepInfo.dead`)."""

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.activation_functions.relu import ReLU
from sae.architectures.affine import AffineSAE
from sae.architectures.base import SparseAutoencoder
from sae.architectures.gated import GatedSAE
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.pass_choice import sparse_is_quicker
from sae.functional.selection import row_top_k
from sae.losses.among_dead import dead_in, every_latent, largest_entries, of_each_row, product_of
from sae.losses.l0 import thresholds
from sae.losses.term import START, Role, StepInfo
from sae.losses.weighting import decoder_norms, weighted_sum

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
    sums_squares: ClassVar[bool] = True

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
        dead = dead_in(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        residual = (target - output.recon).detach()
        k_aux = max(1, sae.d_out // 2) if self.k_aux is None else self.k_aux
        sizes = {"rows": len(residual), "d_in": sae.d_in, "d_sae": len(dead.latents)}
        if sparse_is_quicker(k_aux, residual.device, **sizes):
            revived = dead.only_entries(largest_entries(output, "auxk", dead, k_aux).map(torch.relu))
            errors = (residual - sae.written(revived)).square().sum(dim=1)
        else:
            weight = sae.decoder_rows(dead.latents)

            def error(pre_acts: Tensor, residual: Tensor) -> Tensor:
                acts = dead.only(torch.relu(pre_acts), 0.0)
                acts = row_top_k(acts, k_aux) if k_aux < len(dead.latents) else acts
                return (residual - acts @ weight).square().sum(dim=1)

            errors = of_each_row(error, output, "auxk", dead, residual)
        errors = dead.if_any(errors, 0.0)
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
    sums_squares: ClassVar[bool] = True

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The term for each row; zero while no latent is dead."""
        dead = dead_in(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        weight = sae.decoder_rows(dead.latents)

        def error(pre_acts: Tensor, residual: Tensor) -> Tensor:
            chosen = dead.only(pre_acts, -torch.inf)
            # A row's largest is taken off before the exponential: the factor below cancels it, and nothing overflows.
            largest = dead.if_any(chosen.detach().amax(dim=1, keepdim=True), 0.0)
            ghost = torch.exp(chosen - largest) @ weight
            tiny = torch.finfo(ghost.dtype).tiny
            lengths = torch.linalg.vector_norm(ghost.detach(), dim=1, keepdim=True).clamp_min(tiny)
            ghost = ghost * (0.5 * torch.linalg.vector_norm(residual, dim=1, keepdim=True) / dead.if_any(lengths, 1.0))
            errors = (residual - ghost).square().sum(dim=1)
            size = dead.if_any(errors.detach().clamp_min(tiny), 1.0)
            return dead.if_any(errors * (residual.square().sum(dim=1) / size), 0.0)

        return of_each_row(error, output, "ghost", dead, (target - output.recon).detach())


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
        """Where the sparse pass does not hold all that is above a threshold."""
        return not (self.dead_only or _holds_all_above(sae))

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The term for each row, in activation units."""
        own, weights = thresholds(sae), decoder_norms(sae, info)
        if not self.dead_only:
            if isinstance(output, SAEOutput):
                return weighted_sum(torch.relu(own - output.pre_acts), weights)
            if torch.finfo(output.recon.dtype).bits >= 32:
                return self._of_sparse(sae, output, own, weights)
            dead = every_latent(sae)  # the two parts below are large and their sum is not: 16 bits lose it
        else:
            dead = dead_in(info)
        if dead is None:
            return torch.zeros_like(output.recon[..., 0])
        weights, own = weights[dead.latents], own[dead.latents] if isinstance(own, Tensor) else own

        def below(pre_acts: Tensor) -> Tensor:
            return weighted_sum(dead.only(torch.relu(own - pre_acts), 0.0), weights)

        return of_each_row(below, output, "pre_act", dead)

    def _of_sparse(
        self,
        sae: SparseAutoencoder,
        output: SparseSAEOutput,
        own: Float[Tensor, " d_sae"] | float,
        weights: Float[Tensor, " d_sae"],
    ) -> Float[Tensor, " batch"]:
        """The term of all latents: relu(theta - z) = (theta - z) + relu(z - theta).

        The sum of the first is linear in z and costs products with vectors; the second is of latents that fire alone.
        """
        above = output.pre_acts
        if above is None or not _holds_all_above(sae):
            raise ValueError("the term `pre_act` of all latents needs the dense pass here")
        linear = (weights * own).sum() - product_of(output, "pre_act").weighted_sums(weights)
        own = above.each(own) if isinstance(own, Tensor) else own
        return linear + above.map(lambda values: torch.relu(values - own)).row_sums(weights)


def _holds_all_above(sae: SparseAutoencoder) -> bool:
    """Whether the sparse pass's pre-activations are all above their threshold, or above 0, and perhaps some below."""
    return isinstance(sae, GatedSAE) or (
        isinstance(sae, AffineSAE) and isinstance(sae.activation_function, LearntThreshold | ReLU)
    )


def _variance(rows: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """Mean squared distance from the mean row."""
    return (rows - rows.mean(dim=0)).square().sum(dim=1).mean()
