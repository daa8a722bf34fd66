"""The order of training rows, as functions of the seed and the place alone: no timing, no threads, no state."""

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["plan_chunks", "seeded_permutation", "split_blocks"]


def seeded_permutation(length: int, *key: int) -> Int[Tensor, " {length}"]:
    """A permutation of 0..length-1 that depends on the key alone.

    Args:
        length: how many items.
        key: integers that name the permutation, such as (seed, window, chunk).

    Returns:
        The permutation. Keys that differ in any integer give unrelated ones: the generator is seeded by their hash, since
        neighbouring seeds of a generator need not.
    """
    digest = hashlib.sha256(",".join(map(str, key)).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(length, generator=generator)


def split_blocks(rows_per_block: Int[Tensor, " blocks"], most_rows: int) -> list[int]:
    """Cut consecutive blocks into the fewest, nearly equal groups of about `most_rows` rows.

    Args:
        rows_per_block: rows that each block gives.
        most_rows: rows wanted in a group at most; whole blocks make a group exceed it by less than one block.

    Returns:
        Number of blocks in each group, in order. Every group has rows; where no block has any there are no groups.
    """
    rows = rows_per_block.long()
    total = int(rows.sum())
    if total == 0:
        return []
    groups = -(-total // most_rows)
    # A block belongs to the group in which its first row falls; empty blocks at the end go with the last that has rows.
    start = rows.cumsum(0) - rows
    group = start.clamp(max=int(start[rows > 0].max())) * groups // total
    return [size for size in torch.bincount(group, minlength=groups).tolist() if size]


def plan_chunks(
    rows_per_block: Int[Tensor, " blocks"], *, seed: int, window: int, chunk_rows: int
) -> list[Int[Tensor, " chosen"]]:
    """Permute a window's blocks and cut them into chunks.

    Args:
        rows_per_block: rows that each block of the window gives.
        seed: the run's seed.
        window: number of the epoch or window.
        chunk_rows: rows wanted in a chunk at most.

    Returns:
        For each chunk the blocks to harvest, in that order; together they are all blocks that give rows, each once.
    """
    order = seeded_permutation(len(rows_per_block), seed, window)
    order = order[rows_per_block[order] > 0]
    return list(order.split(split_blocks(rows_per_block[order], chunk_rows)))
