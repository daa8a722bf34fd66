"""Constructors whose signature lists every keyword, those too that several architectures share."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

__all__ = ["lists_keywords"]

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


def lists_keywords(constructor: Constructor) -> Constructor:
    """In place of `**settings: Unpack[Settings]`, `inspect.signature` shows each key of `Settings`, None by default.

    What a signature lists is what a configuration may say and what a saved file holds.
    """
    *own, settings = inspect.signature(constructor).parameters.values()
    (keys,) = get_args(settings.annotation)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in get_type_hints(keys).items()
    ]
    vars(constructor)["__signature__"] = inspect.Signature([*own, *shared])
    return constructor
