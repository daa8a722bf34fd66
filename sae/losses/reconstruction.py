"""How far a reconstruction is from its target."""

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.affine import AffineSAE
from sae.architectures.base import SparseAutoencoder
from sae.architectures.gated import GatedSAE
from sae.architectures.matryoshka import MatryoshkaSAE
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.selection import row_top_k
from sae.functional.sparse import SparseActs, sparse_decode
from sae.losses.term import START, Role, StepInfo

__all__ = ["GateReconstruction", "MultiTopK", "NestedSquaredError", "SquaredError"]


@final
class SquaredError:
    """Squared error of each row, the SUM over dimensions: ||recon - target||^2; `Objective` averages over rows."""

    role: ClassVar[Role] = "reconstruction"
    compiles: ClassVar[bool] = True
    sums_squares: ClassVar[bool] = True

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row, in the units of the target squared."""
        return (output.recon - target).square().sum(dim=-1)


@final
class NestedSquaredError:
    """Squared error summed over dimensions, of every prefix of groups (Bussmann et al. 2025, arXiv:2503.17547, equation 3).

    `reduction="sum"` adds the prefixes up, `mean` averages them: the two differ by the number of prefixes, which matters beside
    other terms. `empty_prefix` counts the reconstruction from no latent, b_dec alone, as one more, as the paper's code does.
    """

    role: ClassVar[Role] = "reconstruction"
    compiles: ClassVar[bool] = True
    sums_squares: ClassVar[bool] = True

    def __init__(self, *, reduction: Literal["sum", "mean"] = "mean", empty_prefix: bool = False) -> None:
        if reduction not in ("sum", "mean"):
            raise ValueError(f"the reduction over prefixes is `sum` or `mean`, got {reduction!r}")
        self.reduction, self.empty_prefix = reduction, empty_prefix

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE without groups.

        Raises:
            ValueError: it has none.
        """
        if not isinstance(sae, MatryoshkaSAE):
            raise ValueError(
                f"nested_coefficient needs an architecture with groups (matryoshka), got {type(sae).__name__}: set it to null"
            )

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row, in the units of the target squared."""
        prefixes = output.prefix_recons
        if prefixes is None:
            raise ValueError("the term `nested` needs an architecture with groups (matryoshka) and a pass of training")
        errors = (prefixes - target).square().sum(dim=-1)
        total, count = errors.sum(dim=0), len(errors)
        if self.empty_prefix:
            total, count = total + (sae.b_dec - target).square().sum(dim=-1), count + 1
        return total if self.reduction == "sum" else total / count


@final
class MultiTopK:
    """Squared error summed over dimensions of the reconstruction from `multiple` * k latents (Gao et al. 2024, section 4.2).

    It keeps a TopK SAE useful at larger k than it was trained with. Its weight beside the squared error at k, 1/8, is as
    remembered. The latents are the largest of each row, also where training selects over the batch (`batch_topk`), and k is the
    one that annealing ends with. What a reconstruction has beside its latents, b_dec and a skip connection, is the same.
    """

    role: ClassVar[Role] = "auxiliary"
    compiles: ClassVar[bool] = True
    sums_squares: ClassVar[bool] = True

    def __init__(self, *, multiple: int = 4) -> None:
        if multiple < 2:
            raise ValueError(f"multi_topk_multiple must be at least 2, got {multiple}")
        self.multiple = multiple

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE that does not choose k of its pre-activations.

        Raises:
            ValueError: it does not.
        """
        if not isinstance(sae, AffineSAE) or sae.num_active is None:
            raise ValueError(
                "multi_topk_coefficient needs an architecture that chooses the k largest pre-activations (topk, batch_topk), "
                f"got {type(sae).__name__}: set it to null"
            )

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row, in the units of the target squared."""
        if sae.num_active is None:
            raise ValueError("the term `multi_topk` needs an architecture with k")
        k = min(self.multiple * sae.num_active, sae.d_sae)
        if isinstance(output, SparseSAEOutput):
            if output.product is None:
                raise ValueError("the term `multi_topk` needs a pass of training")
            added = sae.written(output.product().top_k(k).map(torch.relu)) - sae.written(output.latent_acts)
        else:
            added = sae.written(row_top_k(output.pre_acts, k) - output.latent_acts)
        return (output.recon + added - target).square().sum(dim=-1)  # b_dec and a skip connection are in recon


@final
class GateReconstruction:
    """||target - (relu(pre_acts) @ W_dec + b_dec)||^2: the gate's own activations must reconstruct, which teaches the gate.

    Rajamanoharan et al. 2024, arXiv:2404.16014, equation 8. The decoder is detached in it, as in the paper;
    `through_decoder=True` lets the gradient reach it (with the penalty weighted by decoder norms, for decoders that are free,
    one of the two must give the decoder a reason not to shrink).
    """

    role: ClassVar[Role] = "auxiliary"
    compiles: ClassVar[bool] = True
    sums_squares: ClassVar[bool] = True

    reads_decoder: ClassVar[bool] = True

    def __init__(self, *, through_decoder: bool = False) -> None:
        self.through_decoder = through_decoder

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE without a gate.

        Raises:
            ValueError: it has none.
        """
        if not isinstance(sae, GatedSAE):
            raise ValueError(
                f"gate_coefficient needs an architecture with a gate (gated), got {type(sae).__name__}: set it to null"
            )

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row, in the units of the target squared."""
        if output.pre_acts is None:
            raise ValueError("the term `gate` needs a pass of training")
        weight, bias = (sae.W_dec, sae.b_dec) if self.through_decoder else (sae.W_dec.detach(), sae.b_dec.detach())
        if isinstance(output.pre_acts, SparseActs):
            recon = sparse_decode(output.pre_acts.map(torch.relu), weight)
        else:
            recon = torch.relu(output.pre_acts) @ weight
        return (recon + bias - target).square().sum(dim=-1)
