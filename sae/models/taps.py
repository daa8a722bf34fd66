"""Hooks that read or replace the hidden states going into or coming out of any module of a model."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["ForwardStopped", "Side", "as_blocks", "changed", "tap"]

Side = Literal["input", "output"]


class ForwardStopped(Exception):
    """Ends a forward pass once everything wanted has been seen; never leaves this package."""


def as_blocks(tensor: Tensor, blocks: int, context: int) -> Float[Tensor, "blocks context width"] | None:
    """The tensor as [blocks, context, width], or None where it is nothing of the kind.

    Some models run their MLP on all tokens as one long list; the result is then a view of it.

    Args:
        tensor: what a module received or gave.
        blocks: rows of the token ids of this forward pass.
        context: columns of the token ids of this forward pass.

    Returns:
        A view of the tensor, or None.
    """
    if not tensor.is_floating_point():
        return None
    if tensor.ndim == 3 and tensor.shape[:2] == (blocks, context):
        return tensor
    if tensor.ndim == 2 and tensor.shape[0] == blocks * context:
        return tensor.reshape(blocks, context, -1)
    return None


def tap(module: nn.Module, side: Side, see: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `see` with the hidden states of a module whenever it runs; what `see` returns, if anything, takes their place.

    Hidden states are the first floating-point tensor of the positional arguments, else of the keyword arguments, or of the
    output.

    Args:
        module: the module to listen to.
        side: "input" or "output".
        see: receives the hidden states, in whatever shape the model has them; returns None or a tensor of that shape.

    Returns:
        The handle that removes the hook.
    """
    if side == "input":
        return module.register_forward_pre_hook(partial(_before, see), with_kwargs=True)
    return module.register_forward_hook(partial(_after, see))


def _before(
    see: Callable[[Tensor], Tensor | None], _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    place, hidden = _first_tensor(args)
    if hidden is None:
        place, hidden = _first_tensor(kwargs)
    replacement = None if hidden is None else see(hidden)
    if replacement is None:
        return None
    if isinstance(place, str):
        return args, {**kwargs, place: replacement}
    return _with(args, place, replacement), kwargs


def _after(see: Callable[[Tensor], Tensor | None], _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
    return changed(output, see)


def changed(output: Any, see: Callable[[Tensor], Tensor | None]) -> Any:
    """A module's output with what `see` makes of its hidden states in their place; None where it makes nothing of them."""
    if isinstance(output, Tensor):
        return see(output)
    place, hidden = _first_tensor(output)
    replacement = None if hidden is None else see(hidden)
    return None if replacement is None else _with(output, place, replacement)


def _first_tensor(values: Any) -> tuple[Any, Tensor | None]:
    """Key or index of the first floating-point tensor, and the tensor."""
    if isinstance(values, Mapping):
        items: Any = values.items()
    elif isinstance(values, (tuple, list)):
        items = enumerate(values)
    else:
        return None, None
    return next(
        ((place, value) for place, value in items if isinstance(value, Tensor) and value.is_floating_point()), (None, None)
    )


def _with(values: Any, place: Any, replacement: Tensor) -> Any:
    """The same collection with one entry replaced."""
    if isinstance(values, Mapping):
        return type(values)(**{**values, place: replacement})
    return type(values)([*values[:place], replacement, *values[place + 1 :]])
