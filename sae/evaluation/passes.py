"""Passes over rows that are only looked at: sparse where that is quicker, and of a bounded number of rows at a time."""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.activity import count_active
from sae.functional.pass_choice import rows_at_once, sparse_is_quicker

__all__ = ["RowPasses"]

FIRST_ROWS = 512  # of the first dense pass, which tells how many latents are active where the architecture does not
SPARSE_ENTRIES = 1 << 24  # active latents of a sparse pass at a time: each takes some 30 bytes while they are gathered


@final
class RowPasses:
    """Runs an SAE over rows, slice by slice; numbers of a row do not depend on its slice, but for rounding.

    Which pass a slice takes follows from how many latents were active on the one before; on the first, from the architecture's
    k, or it is dense.
    """

    def __init__(self, sae: SparseAutoencoder) -> None:
        """Set up.

        Args:
            sae: its weights must not change while this is in use.
        """
        self._sae = sae
        self._active: float | int | None = sae.num_active  # latents a row

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "rows d_in"]) -> Iterator[SAEOutput | SparseSAEOutput]:
        """What the SAE gives on these rows, a slice of them after the other; without a graph."""
        done = 0
        while done < len(x):
            sparse, size = self._next(x.device, len(x) - done)
            rows = x[done : done + size]
            output = self._sae.forward_sparse(rows) if sparse else self._sae(rows)
            self._active = int(count_active(output.latent_acts)) / len(rows)
            yield output
            done += len(rows)

    def recon(self, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_out"]:
        """The reconstruction of all of them."""
        return torch.cat([x.new_zeros(0, self._sae.d_out), *(output.recon for output in self(x))])

    def _next(self, device: torch.device, rows: int) -> tuple[bool, int]:
        """Whether the next pass is sparse, and how many of the rows that are left it takes."""
        sae, dense = self._sae, min(rows, rows_at_once(self._sae.d_sae))
        if self._active is None:
            return False, min(dense, FIRST_ROWS)
        sparse = min(rows, rows_at_once(self._active, SPARSE_ENTRIES))
        if sparse_is_quicker(self._active, device, rows=sparse, d_in=sae.d_in, d_sae=sae.d_sae):
            return True, sparse
        return False, dense
