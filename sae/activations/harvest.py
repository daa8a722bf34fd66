"""Activations of a transformer that is run now."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.memory import copy_rows_
from sae.activations.row_source import rows_without_values
from sae.errors import UserError
from sae.functional import devices
from sae.functional.devices import CPU
from sae.functional.float32_products import products_as_they_are
from sae.models.capture import capture
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks

__all__ = ["Harvester"]


@final
class Harvester:
    """Runs the transformer up to the last hook point and keeps the rows that training uses.

    Every forward pass has the same shape, [forward_blocks, context]; the last one of a call is filled up with copies of a
    block. Matrix products choose their kernel by shape, so a block's numbers would otherwise depend, in their last bits, on
    how many blocks were asked for with it; and a store written in one order would not equal a live run in another.

    Args:
        model: the transformer.
        hook_points: places to read, in any order.
        forward_blocks: blocks in a forward pass.
        dtype: number format in which rows are handed out and stored.
        device: where rows are handed out: the CPU, or the model's own, where they stay and nobody waits for them.

    Raises:
        UserError: `forward_blocks` is below 1.
    """

    layers = ()
    rows_per_position = 1

    def __init__(
        self,
        model: LanguageModel,
        hook_points: Sequence[HookPoint],
        *,
        forward_blocks: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device = CPU,
    ) -> None:
        if forward_blocks < 1:
            raise UserError(f"`activations.forward_blocks` is {forward_blocks}. Expected at least 1; the default is 16.")
        self._model, self._hook_points = model, tuple(hook_points)
        self._forward_blocks, self._dtype, self._device = forward_blocks, dtype, device

    @property
    def widths(self) -> dict[str, int]:
        """Hook point name -> width of its activations."""
        return {hook_point.name: hook_point.width for hook_point in self._hook_points}

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the values."""
        return self._dtype

    @property
    def piece_blocks(self) -> int:
        """One forward pass."""
        return self._forward_blocks

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """Activations at the kept positions of `blocks[index]`, block by block in that order.

        Args:
            blocks: token blocks.
            index: blocks to run, in this order.

        Returns:
            The rows.

        Raises:
            UserError: a value is too large for float16.
        """
        result = rows_without_values(blocks.select(index), widths=self.widths, dtype=self._dtype, device=self._device)
        done = 0
        for chosen in index.split(self._forward_blocks):
            filled = torch.cat([chosen, chosen[-1:].expand(self._forward_blocks - len(chosen))])
            # Known on the CPU, unlike how many entries of a mask on a device are true.
            kept = blocks.keep[chosen].flatten().nonzero().squeeze(1)
            index_there = devices.send(kept, self._model.device)
            with products_as_they_are():  # whatever the SAE's step, which may be on its way meanwhile, rounds
                captured = capture(self._model, blocks.ids[filled], blocks.attention[filled], self._hook_points)
            for name, values in captured.items():
                rows = values.flatten(0, 1).index_select(0, index_there)
                copy_rows_(result.values[name], done, rows.to(self._device, self._dtype))
            done += len(kept)
        if self._dtype == torch.float16:
            _refuse_overflow(result.values)
        return result


def _refuse_overflow(values: Mapping[str, Float[Tensor, "rows _"]]) -> None:
    for name, rows in values.items():
        if not bool(rows.isfinite().all()):
            raise UserError(
                f"Activations at {name!r} do not fit into float16 (largest 65504). Set `activations.dtype` to bfloat16 or "
                "float32."
            )
