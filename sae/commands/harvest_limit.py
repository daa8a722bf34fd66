"""How far the harvest is from what the machine's matrix products allow."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from sae.activations.row_source import RowSource
from sae.tokens.blocks import TokenBlocks

__all__ = ["HarvestLimit", "measure_harvest"]

REPEATS = 5  # of a forward pass and of the product beside it, in turn


@dataclass(frozen=True, kw_only=True)
class HarvestLimit:
    """What the harvest computes, and how quickly beside a plain product.

    Attributes:
        padding: share of the computed positions that hold no token.
        matmul_share: operations of the pass's matrix products over its time, as a share of the rate of one product
            [tokens, d_model] @ [d_model, 4 * d_model] in the model's number format. The operations of the attention kernel
            are not counted where torch does not count them, as on a CPU.
    """

    padding: float
    matmul_share: float


def measure_harvest(
    source: RowSource, blocks: TokenBlocks, *, d_model: int, dtype: torch.dtype, device: torch.device
) -> HarvestLimit:
    """Time forward passes over the first blocks, and a product in turn with them.

    Args:
        source: the harvester.
        blocks: what it reads; padding is counted over all of them.
        d_model: width of the model.
        dtype: of the model's weights.
        device: where they are.
    """
    index = torch.arange(min(source.piece_blocks, len(blocks)))
    with FlopCounterMode(display=False) as counter:
        source.rows(blocks, index)
    rows = torch.randn(source.piece_blocks * blocks.context_length, d_model, device=device).to(dtype)
    weight = torch.randn(d_model, 4 * d_model, device=device).to(dtype)
    passes, products = [], []
    for _ in range(REPEATS):
        passes.append(_seconds(lambda: source.rows(blocks, index)))
        products.append(_seconds(lambda: (rows @ weight)[0, 0].item()))  # waits for a GPU, as the rows on the CPU do
    rate = 2 * rows.shape[0] * weight.numel() / statistics.median(products)
    return HarvestLimit(
        padding=1 - float(blocks.attention.double().mean()),
        matmul_share=counter.get_total_flops() / rate / statistics.median(passes),
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
