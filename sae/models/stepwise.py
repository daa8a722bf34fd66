"""A model that reads one text a piece at a time, as it does when it writes: what it has read it does not read again."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.taps import ForwardStopped, as_blocks, tap

__all__ = ["Stepwise"]


@final
class Stepwise:
    """Keys and values of the tokens that were read so far, and the model that reads on.

    One object either reads to the end (`read`) or up to hook points that are the same every time (`capture`), since each layer
    must have seen every token.

    Args:
        model: a decoder. Splices that are open while it reads change what it goes on with.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._cache = DynamicCache(config=model.module.config)

    def read(self, ids: Int[Tensor, "1 new"]) -> Float[Tensor, "1 new d_final"]:
        """Final states of the next tokens: what the language modelling head reads."""
        return self._run(ids)[0]

    def capture(self, ids: Int[Tensor, "1 new"], hook_points: Sequence[HookPoint]) -> dict[str, Float[Tensor, "1 new _"]]:
        """Activations of the next tokens at hook points: name -> values. The pass ends as soon as it has them.

        Raises:
            ValueError: a hook point was not reached, or gave other than [1, new, width].
        """
        captured: dict[str, Tensor] = {}

        def keep(point: HookPoint, hidden: Tensor) -> None:
            value = as_blocks(hidden, *ids.shape)
            if value is None or value.shape[-1] != point.width:
                raise ValueError(f"{point.name}: expected [1, {ids.shape[1]}, {point.width}], got {list(hidden.shape)}.")
            captured[point.name] = value.clone()
            if len(captured) == len(hook_points):
                raise ForwardStopped

        with ExitStack() as hooks, self.model.lock:
            for point in hook_points:
                module = self.model.module.get_submodule(point.module)
                hooks.callback(tap(module, point.tensor, lambda hidden, point=point: keep(point, hidden)).remove)
            with suppress(ForwardStopped):
                self._run(ids)
        if len(captured) != len(hook_points):
            raise ValueError(f"The forward pass reached {', '.join(captured) or 'none'} of the {len(hook_points)} hook points.")
        return captured

    def _run(self, ids: Int[Tensor, "1 new"]) -> Any:
        base = self.model.module.base_model
        with self.model.lock, torch.no_grad():
            return base(input_ids=ids.to(self.model.device, torch.long), past_key_values=self._cache, use_cache=True)
