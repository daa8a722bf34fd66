"""What terms of dead latents read: which are dead, and their pre-activations, which are never all held where they are many."""

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.encoder_product import EncoderProduct
from sae.functional.pass_choice import DENSE_ELEMENTS, rows_at_once
from sae.functional.selection import top_k_among
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern
from sae.losses.term import StepInfo

__all__ = ["Dead", "dead_in", "every_latent", "largest_entries", "of_each_row", "product_of"]


@final
class Dead(NamedTuple):
    """The dead latents, or some more of which those that are dead are marked on the device.

    Attributes:
        latents: which.
        marks: which of them are dead; None: all.
        every: of all latents, whether they are dead [d_sae].
    """

    latents: Int[Tensor, " some"]
    marks: Bool[Tensor, " some"] | None
    every: Bool[Tensor, " d_sae"]

    def only(self, values: Float[Tensor, "batch some"], otherwise: float) -> Float[Tensor, "batch some"]:
        """The values of dead latents; those of the others are replaced."""
        return values if self.marks is None else torch.where(self.marks, values, otherwise)

    def only_entries(self, acts: SparseActs) -> SparseActs:
        """The activations of dead latents; those of the others become 0."""
        return acts if self.marks is None else acts.map(lambda values: torch.where(self.every[acts.indices], values, 0.0))

    def if_any(self, values: Float[Tensor, "*shape"], otherwise: float) -> Float[Tensor, "*shape"]:
        """The values if any latent is dead; else they are replaced."""
        return values if self.marks is None else torch.where(self.marks.any(), values, otherwise)


def dead_in(info: StepInfo) -> Dead | None:
    """The dead latents; None where none can be."""
    if info.dead is None:
        return None
    if info.candidates is None:
        return Dead(info.dead.nonzero().squeeze(1), None, info.dead) if bool(info.dead.any()) else None
    latents = info.candidates()
    return Dead(latents, info.dead[latents], info.dead) if len(latents) else None


def every_latent(sae: SparseAutoencoder) -> Dead:
    """All latents, as if all were dead."""
    latents = torch.arange(sae.d_sae, device=sae.b_dec.device)
    return Dead(latents, None, torch.ones_like(latents, dtype=torch.bool))


def of_each_row(
    term: Callable[..., Float[Tensor, " rows"]],
    output: SAEOutput | SparseSAEOutput,
    name: str,
    dead: Dead,
    *of_rows: Float[Tensor, "batch _"],
) -> Float[Tensor, " batch"]:
    """A term of the pre-activations of all dead latents [rows, some], and of what else there is of each row.

    Where they are too many, some rows at a time, and again in the backward pass: only the term's value is kept.
    """
    if isinstance(output, SparseSAEOutput):
        pre_acts = product_of(output, name).of(dead.latents).dense
    else:

        def pre_acts(rows: slice) -> Tensor:
            return output.pre_acts[rows][:, dead.latents]

    def part(rows: slice) -> Tensor:
        return term(pre_acts(rows), *(tensor[rows] for tensor in of_rows))

    batch, at_once = len(output.recon), rows_at_once(len(dead.latents), DENSE_ELEMENTS)
    if batch <= at_once:
        return part(slice(None))
    parts = [slice(first, first + at_once) for first in range(0, batch, at_once)]
    return torch.cat([checkpoint(part, rows, use_reentrant=False, preserve_rng_state=False) for rows in parts])


def largest_entries(output: SAEOutput | SparseSAEOutput, term: str, dead: Dead, k: int) -> SparseActs:
    """The k largest pre-activations of dead latents of each row, and where fewer are dead any others."""
    k = min(k, len(dead.latents))
    if isinstance(output, SparseSAEOutput):
        return product_of(output, term).top_k_among(dead.latents, k, marks=dead.marks)
    indices = top_k_among(output.pre_acts, dead.latents, k, marks=dead.marks)
    pattern = SparsePattern.even(indices, num_latents=output.pre_acts.shape[1])
    return SparseActs(values=output.pre_acts.gather(1, indices).flatten(), pattern=pattern)


def product_of(output: SparseSAEOutput, term: str) -> EncoderProduct:
    """The encoder's product of a pass of training.

    Raises:
        ValueError: it was none; the term is named.
    """
    if output.product is None:
        raise ValueError(f"the term `{term}` needs a pass of training")
    return output.product()
