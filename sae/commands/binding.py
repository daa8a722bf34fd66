"""Checks a configuration against the constructors that it is for: every mistake at once, before anything is built.

YAML is untyped, so each node is bound to the signature of what it configures: unknown keys are named with the nearest valid
one, missing keys and wrong types are named with what was expected.
"""

import difflib
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from sae.errors import UserError

__all__ = ["bind", "bound", "conforms", "describe", "make", "nearest", "parameters_of", "typed"]

T = TypeVar("T")


def nearest(key: str, known: Iterable[str]) -> str:
    """A sentence that names the closest of the known keys, or nothing where none is close."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def parameters_of(*owners: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Keyword parameters of one or more constructors or functions."""
    found: dict[str, inspect.Parameter] = {}
    for owner in owners:
        for name, parameter in inspect.signature(owner).parameters.items():
            if name != "self" and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                found[name] = parameter
    return found


def bind(path: str, node: Any, parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """What is wrong with a node, as sentences.

    Args:
        path: the node's place in the configuration, for the messages.
        node: its keys and values.
        parameters: what may be given.
    """
    if not isinstance(node, Mapping):
        return [f"{path}: expected keys and values below it, as in {path}.{next(iter(parameters))}=..., got {node!r}"]
    problems = []
    for key, value in node.items():
        if key not in parameters:
            problems.append(f"{path}.{key}: there is no such key.{nearest(key, parameters)}")
        elif not conforms(value, parameters[key].annotation):
            expected = describe(parameters[key].annotation)
            problems.append(f"{path}.{key}: expected {expected}, got {value!r} ({type(value).__name__})")
    problems += [
        f"{path}.{key}: must be given"
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in node
    ]
    return problems


def conforms(value: Any, annotation: Any) -> bool:
    """Whether a value from a configuration is of the annotated type.

    Whole numbers count as floats, lists as tuples; infinity and NaN are no numbers.
    """
    if annotation in (Any, inspect.Parameter.empty):
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if origin in (tuple, list) or (origin is not None and inspect.isclass(origin) and origin.__name__ == "Sequence"):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(conforms, value, arguments))
        return not arguments or all(conforms(one, arguments[0]) for one in value)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is None or annotation is type(None):
        return value is None
    if inspect.isclass(annotation) and annotation.__name__.endswith("Path"):
        return isinstance(value, str)
    return isinstance(value, annotation) if inspect.isclass(annotation) else True


def typed(node: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """A node without mistakes as keyword arguments of the annotated types: whole numbers become floats, lists tuples."""
    return {key: _typed(value, parameters[key].annotation) for key, value in node.items()}


def _typed(value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        exact = [one for one in arguments if inspect.isclass(one) and type(value) is one]
        fitting = exact or [one for one in arguments if conforms(value, one)]
        return _typed(value, fitting[0]) if fitting else value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(map(_typed, value, kinds))
    return float(value) if annotation is float and conforms(value, float) else value


def describe(annotation: Any) -> str:
    """A type in a user's words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(one) for one in arguments if not (one is int and float in arguments))
    if origin is Literal:
        return "one of " + ", ".join(repr(one) for one in arguments)
    if origin in (tuple, list):
        inner = [describe(one) for one in arguments if one is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in arguments
        return f"a list of {len(inner)} ({', '.join(inner)})" if fixed else f"a list of {inner[0]}"
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(annotation, getattr(annotation, "in_words", getattr(annotation, "__name__", str(annotation))))


def make(maker: Callable[[], T], problems: list[str]) -> T | None:
    """What `maker` gives, or None with its complaints about values out of range added to `problems`."""
    try:
        return maker()
    except UserError as error:
        problems += str(error).splitlines()
    except ValueError as error:
        problems += str(error).split("; ")
    return None


def bound(path: str, node: Any, owner: Callable[..., Any], problems: list[str]) -> Any:
    """What a node's owner makes of it.

    Args:
        path: of the node, for messages.
        node: keys and values.
        owner: the constructor that the node's keys are keywords of.
        problems: sentences are added for all that is wrong.

    Returns:
        The object; None if something is wrong.
    """
    parameters = parameters_of(owner)
    found = bind(path, node, parameters)
    problems += found
    return None if found else make(lambda: owner(**typed(node, parameters)), problems)
