"""Activations of a model at chosen hook points, read by a forward pass that ends as soon as it has them."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.taps import ForwardStopped, as_blocks, tap

__all__ = ["capture"]


def capture(
    model: LanguageModel,
    ids: Int[Tensor, "blocks context"],
    attention: Bool[Tensor, "blocks context"],
    hook_points: Sequence[HookPoint],
) -> dict[str, Float[Tensor, "blocks context _"]]:
    """Run the model up to the last of the hook points and return copies of what passes there.

    Logits are never computed, and no hook outlives the call, whatever happens in it.

    Args:
        model: the model.
        ids: token ids.
        attention: positions that may be attended to.
        hook_points: resolved hook points of this model, with distinct names.

    Returns:
        Name of the hook point -> activations, in the model's number format and on its device. Positions that may not be
        attended to hold values without meaning.

    Raises:
        ValueError: a hook point was not reached, or gave other than [blocks, context, width].
    """
    captured: dict[str, Tensor] = {}
    wanted = {point.name for point in hook_points}

    def keep(point: HookPoint, hidden: Tensor) -> None:
        value = as_blocks(hidden, *ids.shape)
        if value is None or value.shape[-1] != point.width:
            raise ValueError(
                f"{point.name}: expected [{ids.shape[0]}, {ids.shape[1]}, {point.width}], got {list(hidden.shape)}."
            )
        captured[point.name] = value.detach().clone()  # some models go on to add to their tensors in place
        if captured.keys() == wanted:
            raise ForwardStopped

    with ExitStack() as hooks, model.lock, torch.no_grad():
        for point in hook_points:
            module = model.module.get_submodule(point.module)
            hooks.callback(tap(module, point.tensor, lambda hidden, point=point: keep(point, hidden)).remove)
        with suppress(ForwardStopped):
            model.run(ids, attention)
    if captured.keys() != wanted:
        raise ValueError(f"The forward pass did not reach {', '.join(sorted(wanted - captured.keys()))}.")
    return captured
