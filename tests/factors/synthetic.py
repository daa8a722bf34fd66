"""Codes of several layers in memory, with factors that belong to one depth, to all and to none."""

import torch

from tests.dashboards.latents.synthetic import MemoryCodes, some_acts, some_blocks

LAYERS, FACTORS = 4, 11


def some_layer_codes(*, chunk_blocks=5, seed=0, layers=LAYERS, **sizes):
    """Factor 0 never fires; 6 fires at the first layer alone, 7 at the last, 8 at the second; the others as they come."""
    blocks = some_blocks(seed=seed, **sizes)
    parts = [some_acts(blocks.num_rows, FACTORS, seed=seed + 10 * layer) for layer in range(layers)]
    dense = torch.stack(parts, dim=1)
    for factor, layer in ((6, 0), (7, layers - 1), (8, min(1, layers - 1))):
        others = torch.arange(layers) != layer
        dense[:, others, factor] = 0
    dense[:, :, 0] = 0
    return MemoryCodes(blocks, dense.flatten(0, 1), effects=False, chunk_blocks=chunk_blocks, layers=layers)
