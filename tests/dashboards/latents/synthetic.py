"""Codes in memory with what pages must cope with: dead latents, one firing, ties, dense and bursty latents, padding."""

import torch

from sae.dashboards.collect.codes import CodeChunk
from sae.functional.sparse import SparseActs, sparse_from_dense
from sae.functional.sparse_pattern import SparsePattern
from sae.tokens.blocks import TokenBlocks


class MemoryCodes:
    """Stands for a folder of collected codes."""

    def __init__(self, blocks: TokenBlocks, dense: torch.Tensor, *, effects: bool, chunk_blocks: int, layers: int = 1) -> None:
        self.blocks, self.num_latents, self.has_effects = blocks, dense.shape[1], effects
        self.read = 0
        self._chunks = []
        for index in torch.arange(len(blocks)).split(chunk_blocks):
            part = blocks.select(index)
            before = int(blocks.keep[: int(index[0])].sum()) * layers
            acts = sparse_from_dense(dense[before : before + part.num_rows * layers])
            indices = acts.indices.int()
            pattern = SparsePattern(indices=indices, offsets=acts.offsets, num_latents=self.num_latents)
            acts = SparseActs(values=acts.values, pattern=pattern)
            effect = torch.sin(37 * acts.values + acts.indices) if effects else None
            self._chunks.append(CodeChunk(blocks=part, acts=acts, effects=effect))

    def __len__(self) -> int:
        return len(self._chunks)

    def chunk(self, number: int) -> CodeChunk:
        self.read += 1
        return self._chunks[number]


def some_blocks(blocks: int = 12, context: int = 16, vocabulary: int = 19, seed: int = 0) -> TokenBlocks:
    """Blocks that open with a special token; every third is padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocabulary, (blocks, context), generator=generator)
    attention = torch.ones(blocks, context, dtype=torch.bool)
    attention[::3, context - 5 :] = False
    ids[:, 0], ids[~attention] = 1, 0
    document = (torch.arange(blocks) // 2)[:, None].expand(blocks, context).masked_fill(~attention, -1)
    return TokenBlocks(ids=ids, attention=attention, keep=attention & (ids > 1), document=document)


def some_acts(rows: int, latents: int = 11, seed: int = 0) -> torch.Tensor:
    """Dense activations: latent 0 never fires, 1 once, 2 always equally, 3 always, 4 in a few rows next to one another."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.rand(rows, latents, generator=generator) * 3 + 0.01
    acts[torch.rand(rows, latents, generator=generator) < torch.linspace(0, 0.95, latents)] = 0
    acts[:, 5] = (acts[:, 5] * 2).round()  # many ties
    acts[:, 0] = 0
    acts[:, 1] = 0
    acts[rows // 2, 1] = 0.7
    acts[:, 2] = torch.where(acts[:, 2] > 0, 1.7, 0.0)
    acts[:, 3] += 0.3
    acts[: rows // 3, 4] = 0
    acts[rows // 3 + 9 :, 4] = 0
    acts[-1] = 0
    return acts


def some_codes(*, effects: bool = True, chunk_blocks: int = 5, seed: int = 0, **sizes: int) -> MemoryCodes:
    blocks = some_blocks(seed=seed, **sizes)
    return MemoryCodes(blocks, some_acts(blocks.num_rows, seed=seed), effects=effects, chunk_blocks=chunk_blocks)
