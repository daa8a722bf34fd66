"""The activations of a chunk of collected codes, each with its place in the text."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sae.dashboards.collect.codes import CollectedCodes

__all__ = ["Entries", "chunk_entries"]


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Activations above zero, in row-major order.

    Attributes:
        block: number of the block among all [nnz].
        position: in the block [nnz].
        latent: which is active [nnz].
        activation: how strongly [nnz].
        effect: estimated effect on the loss, nats [nnz]; None where it was not estimated.
    """

    block: Int[Tensor, " nnz"]
    position: Int[Tensor, " nnz"]
    latent: Int[Tensor, " nnz"]
    activation: Float[Tensor, " nnz"]
    effect: Float[Tensor, " nnz"] | None


def chunk_entries(codes: CollectedCodes, number: int) -> Entries:
    """The activations of one chunk.

    Args:
        codes: of a text.
        number: of the chunk.
    """
    chunk = codes.chunk(number)
    block, position = chunk.blocks.keep.nonzero(as_tuple=True)
    rows = chunk.acts.pattern.rows.long()
    return Entries(
        block=(codes.first_block(number) + block[rows]).int(),
        position=position[rows].int(),
        latent=chunk.acts.indices.int(),
        activation=chunk.acts.values,
        effect=chunk.effects,
    )
