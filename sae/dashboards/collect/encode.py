"""Rows to sparse codes: the activations above zero, a bounded number of rows at a time."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern
from sae.functional.sparse_rows import stack_rows

__all__ = ["ENCODED_AT_ONCE", "encode_positive", "join_rows"]

ENCODED_AT_ONCE = 1 << 26  # rows times latents that an encoder sees in one call: 256 MiB where it makes all of them


def join_rows(values: Mapping[str, Float[Tensor, "rows _"]], hook_points: Sequence[str]) -> Float[Tensor, "rows d_in"]:
    """What the encoder reads: the activations of its hook points side by side."""
    parts = [values[name] for name in hook_points]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


@torch.no_grad()
def encode_positive(sae: SparseAutoencoder, x: Float[Tensor, "rows d_in"]) -> SparseActs:
    """The activations above zero of some rows, on the CPU in float32; a slice of rows at a time.

    Args:
        sae: the SAE.
        x: raw activations, of any number format, anywhere.

    Raises:
        UserError: an activation is not a finite number.
    """
    parts = []
    for rows in x.split(max(1, ENCODED_AT_ONCE // sae.d_sae)):
        acts = sae.encode_sparse(rows.to(sae.W_dec))
        if not bool(acts.values.isfinite().all()):
            raise UserError("A latent's activation is not a finite number: the model's activations overflow. Use float32.")
        parts.append(_on_cpu(acts.where(acts.values > 0)))
    return stack_rows(parts)


def _on_cpu(acts: SparseActs) -> SparseActs:
    indices, offsets = acts.indices.int().cpu(), acts.offsets.int().cpu()
    pattern = SparsePattern(indices=indices, offsets=offsets, num_latents=acts.pattern.num_latents)
    return SparseActs(values=acts.values.float().cpu(), pattern=pattern)
