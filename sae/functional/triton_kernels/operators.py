"""The kernels' entry points as operators of PyTorch, so that `torch.compile` can take a pass that calls them as one graph.

The graph that is traced holds a call as one node, of which nothing but type and shape of its result is known. When the graph
runs, the node is the function itself, which finds out by then whether a kernel or its plain version serves. Outside of a trace
nothing is changed, and nothing added to what a call costs. No gradient flows through: the autograd functions that call them
are traced with their backward passes.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["operator"]

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY = torch.library.Library("sae", "DEF")


def operator(schema: str, result: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function of tensors that changes none of them: traced, it is the operator `sae::NAME`.

    Args:
        schema: arguments and results in PyTorch's notation.
        result: gives empty tensors of the shape and type that the function's results have, from the same arguments.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = function.__name__
        _LIBRARY.define(f"{name}{schema}", tags=torch.Tag.pt2_compliant_tag)
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"sae::{name}", result, lib=_LIBRARY)
        traced = getattr(torch.ops.sae, name)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return traced(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

        return call

    return decorate
