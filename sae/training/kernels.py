"""Which pass an SAE trains by: dense products, or products over the latents that are active.

The two are equal in values and gradients up to rounding; which is quicker depends on how many latents are active. Early in
training that may be half of them.
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.errors import UserError
from sae.functional import devices
from sae.functional.connections import share_written
from sae.functional.pass_choice import LEAVE, sparse_is_quicker
from sae.losses.objective import Objective

__all__ = ["KernelSettings", "PassChoice"]

ENTER = 0.05  # share of pre-activations that take part below which the sparse pass begins; above LEAVE it ends
DENSE_STEPS = 8  # a dense pass counts active latents once in so many steps: counting is a pass over all of them


@dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """How products with sparse latent activations are made in training.

    Attributes:
        kernels: `dense`, `sparse`, or `auto`: the sparse pass where few enough latents are active, else the dense one. On a GPU
            `auto` takes the sparse pass only with Triton's kernels and where k fixes how many latents are active: elsewhere
            the host would have to wait for that number in every step. `sparse` waits.
        encoder_dtype: of the encoder's product while the active latents are chosen, in the sparse pass: `float32`, or
            `bfloat16`, which is several times as fast on processors made for it and may choose other latents near the border;
            the activations of those chosen are computed in float32. Matching pursuit chooses in the type of its weights.
        compile: passes and their losses by `torch.compile`: dense ones, and on a GPU sparse ones with a k
            (`sae.training.compiled`).
    """

    kernels: Literal["dense", "sparse", "auto"] = "auto"
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.kernels == "dense" and self.encoder_dtype != "float32":
            raise ValueError("trainer.encoder_dtype=bfloat16 belongs to the sparse pass: set trainer.kernels=auto or sparse")

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the product; None: the weights' own."""
        return torch.bfloat16 if self.encoder_dtype == "bfloat16" else None


@final
class PassChoice(nn.Module):
    """The choice for one SAE, step by step; it follows from the rows alone, so that a resumed run chooses alike."""

    sparse: Bool[Tensor, ""]

    def __init__(self, settings: KernelSettings, sae: SparseAutoencoder, objective: Objective) -> None:
        """Set up.

        Args:
            settings: what was asked for.
            sae: to be trained.
            objective: its terms.

        Raises:
            UserError: the sparse pass was asked for and there is none for this SAE or one of the terms, or none that compiles.
        """
        super().__init__()
        able = sae.trains_sparse and not objective.needs_dense(sae)
        if not able and (settings.kernels == "sparse" or settings.dtype is not None):
            asked = "kernels=sparse" if settings.kernels == "sparse" else f"encoder_dtype={settings.encoder_dtype}"
            raise UserError(
                f"trainer.{asked}: {type(sae).__name__} with these terms trains by dense products only: take "
                "trainer.kernels=auto and trainer.encoder_dtype=float32"
            )
        if settings.compile and settings.kernels == "sparse" and sae.num_active is None:
            raise UserError(
                f"trainer.compile=true: how many latents of {type(sae).__name__} are active only the data say, and such a "
                "sparse pass is not compiled: take trainer.kernels=auto or dense, or trainer.compile=false"
            )
        self.settings, self.able = settings, able
        self.d_in, self.d_sae = sae.d_in, sae.d_sae
        # An entry costs the sparse pass a whole decoder row, and the dense one what its latent writes of it.
        self.written = share_written(sae.connections, sae.d_out)
        self.register_buffer("sparse", torch.tensor(False))

    def takes_sparse(self, device: torch.device, k: int | None, *, rows: int) -> bool:
        """Whether the next step's pass is sparse.

        Args:
            device: where it runs.
            k: latents a row in that step, where the architecture fixes that.
            rows: of the batch.
        """
        if not self.able or self.settings.kernels == "dense":
            return False
        if self.settings.kernels == "sparse":
            return True
        if k is None:
            return not devices.host_runs_ahead(device) and bool(self.sparse)  # a GPU is not asked for the flag
        return sparse_is_quicker(k / self.written, device, rows=rows, d_in=self.d_in, d_sae=self.d_sae)

    def forward(self, sae: SparseAutoencoder, x: Float[Tensor, "batch d_in"], *, k: int | None) -> SAEOutput | SparseSAEOutput:
        """The pass of a step of training, dense or sparse.

        Args:
            sae: in training.
            x: rows in its units.
            k: latents a row in that step, where the architecture fixes that.
        """
        if self.takes_sparse(x.device, k, rows=len(x)):
            return sae.forward_train_sparse(x, k=k, encoder_dtype=self.settings.dtype)
        return sae.forward_train(x, k=k)

    @torch.no_grad()
    def advance(self, sae: SparseAutoencoder, output: SAEOutput | SparseSAEOutput, step: int) -> None:
        """Look at a completed step (0-based)."""
        if not self.able or self.settings.kernels != "auto" or sae.num_active is not None:
            return
        if devices.host_runs_ahead(output.recon.device):
            return
        if isinstance(output, SparseSAEOutput):
            held, bound = output.latent_acts.values.numel(), LEAVE
        elif step % DENSE_STEPS == 0:
            held, bound = sae.count_held(output), ENTER
        else:
            return
        self.sparse.fill_(held < bound * self.written * len(output.recon) * self.d_sae)
