"""A model's transformer blocks, found by structure, and a short probe that shows what its modules receive and give."""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sae.errors import UserError
from sae.models.language_model import LanguageModel
from sae.models.taps import ForwardStopped, as_blocks, tap

__all__ = ["PROBE_BLOCKS", "PROBE_CONTEXT", "ModuleCall", "blocks_path", "holds_weights", "trace"]

PROBE_BLOCKS, PROBE_CONTEXT = 2, 11  # unlike sizes, so that a transposed tensor is not taken for hidden states


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """What one module received and gave in the probe; None where that was not [blocks, context, width]."""

    module: str
    input: Float[Tensor, "blocks context d_received"] | None
    output: Float[Tensor, "blocks context d_given"] | None


def holds_weights(module: nn.Module) -> bool:
    """Whether a module or one inside it multiplies by a matrix: norms, dropouts and activation functions do not."""
    return any(parameter.ndim >= 2 for parameter in module.parameters())


def blocks_path(module: PreTrainedModel) -> str:
    """Path of the list that holds the transformer blocks.

    Args:
        module: a Hugging Face model.

    Returns:
        The path, such as "model.layers".

    Raises:
        UserError: not exactly one list of modules with weights is as long as the model has layers.
    """
    depth = module.config.get_text_config().num_hidden_layers
    lists = {name: child for name, child in module.named_modules() if isinstance(child, nn.ModuleList)}
    fitting = [name for name, blocks in lists.items() if len(blocks) == depth and all(map(holds_weights, blocks))]
    outermost = [name for name in fitting if not any(name.startswith(f"{other}.") for other in fitting)]
    if len(outermost) == 1:
        return outermost[0]
    seen = ", ".join(f"{name} ({len(blocks)} modules)" for name, blocks in lists.items()) or "none"
    weighty = [name for name, child in module.named_modules() if name and holds_weights(child)]
    raise UserError(
        f"The blocks of {type(module).__name__} were not recognised: expected exactly one list of {depth} modules with "
        f"weights; its lists are: {seen}. Name a place by its module instead, hook.module=PATH hook.tensor=input|output; "
        f"paths are {', '.join(weighty[:12])}{', ...' if len(weighty) > 12 else ''}."
    )


def trace(model: LanguageModel, paths: Iterable[str], stop_after: str | None = None) -> list[ModuleCall]:
    """Run a short fixed input through the model and note what modules receive and give.

    Args:
        model: the model.
        paths: the modules to note.
        stop_after: the module after which the forward pass ends, or None to run all of it below the head.

    Returns:
        One entry a call, in the order in which the calls ended.
    """
    shape = (PROBE_BLOCKS, PROBE_CONTEXT)
    ids = torch.randint(0, model.vocabulary_size, shape, generator=torch.Generator().manual_seed(0))
    received: dict[str, Tensor | None] = {}
    calls: list[ModuleCall] = []

    def receive(path: str, hidden: Tensor) -> None:
        value = as_blocks(hidden, *shape)
        received[path] = None if value is None else value.clone()  # some models go on to add to their tensors in place

    def give(path: str, hidden: Tensor) -> None:
        value = as_blocks(hidden, *shape)
        calls.append(ModuleCall(path, received.pop(path, None), None if value is None else value.clone()))
        if path == stop_after:
            raise ForwardStopped

    with ExitStack() as hooks, model.lock, torch.no_grad():
        for path in paths:
            module = model.module.get_submodule(path)
            hooks.callback(tap(module, "input", lambda hidden, path=path: receive(path, hidden)).remove)
            hooks.callback(tap(module, "output", lambda hidden, path=path: give(path, hidden)).remove)
        with suppress(ForwardStopped):
            model.run(ids, torch.ones(shape, dtype=torch.bool))
    return calls
