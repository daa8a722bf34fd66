"""A pass over some blocks of text, and others that differ from it only after some place in the model and some position."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.next_token import answering, final_states
from sae.models.structure import blocks_path
from sae.models.taps import as_blocks, changed, tap

__all__ = ["CleanPass"]

SAME = 1e-3  # by which states may differ, in units of the largest, where they were made another way


@final
class CleanPass:
    """What a model makes of some blocks, and how it goes on where something is changed.

    A pass that goes on runs neither the transformer blocks before the change, whose output is this pass's, nor the positions
    before it, whose keys and values are. Whether the model can be run that way is tried on one block, nothing changed, where
    final states must come out as they are; if they do not, passes that go on are whole passes.

    Args:
        model: a decoder with a language modelling head.
        ids: token ids.
        attention: positions that may be attended to.
        reads: hook points whose activations are noted.
        changes: hook points at which the passes that go on may be changed.

    Attributes:
        states: final states.
        values: name of a hook point -> activations, of `reads`.
        goes_on: whether passes that go on leave out what lies before the change.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Int[Tensor, "blocks context"],
        attention: Bool[Tensor, "blocks context"],
        *,
        reads: Sequence[HookPoint],
        changes: Sequence[HookPoint],
    ) -> None:
        self._model, self._ids, self._attention = model, ids, attention
        self._skipped = _blocks_before(model, changes)
        self._cache, self._output = DynamicCache(), None
        self.values: dict[str, Float[Tensor, "blocks context _"]] = {}
        with model.lock, ExitStack() as hooks:
            for point in reads:
                module = model.module.get_submodule(point.module)
                hooks.callback(tap(module, point.tensor, partial(self._note, point)).remove)
            if self._skipped:
                hooks.callback(self._skipped[-1].register_forward_hook(self._note_output).remove)
            self.states = final_states(model, ids, attention, past=self._cache)
        self.goes_on = True
        self.goes_on = self._comes_out_the_same()

    def go_on(self, rows: Int[Tensor, " some"], begin: int) -> Float[Tensor, "some later d_final"]:
        """Run some of the blocks again, under the splices that are open, and which see positions from `begin` on.

        Args:
            rows: numbers of the blocks; one may come several times.
            begin: position before which nothing is changed; 0 where `goes_on` is false.

        Returns:
            Final states from there on.
        """
        if not self.goes_on:
            return final_states(self._model, self._ids[rows], self._attention[rows])
        past = None
        if begin > 0:
            past = DynamicCache()
            layers: list[Any] = self._cache.layers
            for number, layer in enumerate(layers):
                past.update(layer.keys[rows, :, :begin], layer.values[rows, :, :begin], number)
        with self._model.lock, ExitStack() as stack:
            answer = changed(self._output, lambda hidden: hidden[rows, begin:])
            for block in self._skipped:
                stack.enter_context(answering(block, answer))
            return final_states(self._model, self._ids[rows, begin:], self._attention[rows], past=past)

    def _comes_out_the_same(self) -> bool:
        """Whether the second half of the longest block, run on its own, has the final states that it has."""
        lengths = self._attention.sum(dim=1)
        row, length = lengths.argmax()[None], int(lengths.max())
        states = self.go_on(row, length // 2)
        expected = self.states[row, length // 2 : length]
        difference = (states[:, : length - length // 2] - expected).abs().max()
        return bool(difference <= SAME * expected.abs().max())

    def _note(self, point: HookPoint, hidden: Tensor) -> None:
        value = as_blocks(hidden, *self._ids.shape)
        assert value is not None, f"{point.name} is not [blocks, context, width]"
        self.values[point.name] = value.clone()  # some models go on to add to their tensors in place

    def _note_output(self, _: nn.Module, __: Any, output: Any) -> None:
        self._output = changed(output, torch.clone)


def _blocks_before(model: LanguageModel, points: Sequence[HookPoint]) -> list[nn.Module]:
    """The transformer blocks that end before any of some hook points, or at one."""
    path = blocks_path(model.module)
    blocks = model.module.get_submodule(path)
    counts = []
    for point in points:
        number, _, inside = point.module.removeprefix(f"{path}.").partition(".")
        in_block = point.module.startswith(f"{path}.")
        counts.append(int(number) + (not inside and point.tensor == "output") if in_block else 0)
    return list(blocks.children())[: min(counts)]
