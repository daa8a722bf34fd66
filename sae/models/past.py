"""Keys and values of the tokens that a causal model has read, from which it goes on."""

from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["Past", "beginning", "nothing_yet"]

Past = Cache


def nothing_yet() -> Past:
    """To be filled by a pass of the model; every layer of attention keeps all of it, also one that sees a window alone."""
    return DynamicCache()


def beginning(past: Past, length: int, copies: int) -> Past:
    """Those of the first tokens of one text, once for each copy.

    Args:
        past: of one text, which is left as it is.
        length: tokens.
        copies: how many.
    """
    found = DynamicCache()
    for number, layer in enumerate(past.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        keys, values = (part[:, :, :length].expand(copies, -1, -1, -1) for part in (layer.keys, layer.values))
        found.update(keys, values, number)
    return found
