"""The tokens of one data file, each written once and referred to by its place."""

from collections.abc import Callable, Iterable
from typing import final

import numpy as np
from jaxtyping import Int

from sae.dashboards.schema import TokenText

__all__ = ["Strings"]


@final
class Strings:
    """A file's tokens, in order of their ids.

    Args:
        parts: all token ids that the file refers to.
        text_of: a token as people read it.
    """

    def __init__(self, parts: Iterable[Int[np.ndarray, "..."]], text_of: Callable[[int], str]) -> None:
        self.ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(part.ravel() for part in parts)]))
        self.entries = [TokenText(id=token, text=text_of(token)) for token in self.ids.tolist()]

    def places(self, ids: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Where tokens stand in the file's list."""
        return np.searchsorted(self.ids, ids)
