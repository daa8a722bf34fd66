"""The tokens of one data file, each written once and referred to by its place."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Int

from sae.dashboards.schema import TokenText

__all__ = ["Strings", "TextsOf", "read_together"]

TextsOf: TypeAlias = Callable[[Sequence[int]], list[str]]
"""The tokens of a stretch of text as people read them, from their ids in order."""

BROKEN = "\\x"  # in what is shown of a token: bytes that are no whole character


@final
class Strings:
    """A file's tokens, in order of their ids; after them those that a stretch of text shows otherwise than they are alone.

    Args:
        parts: all token ids that the file refers to.
        text_of: a token as people read it.
        texts_of: tokens in a row; None: as each is alone.
    """

    def __init__(
        self, parts: Iterable[Int[np.ndarray, "..."]], text_of: Callable[[int], str], texts_of: TextsOf | None = None
    ) -> None:
        self.ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(part.ravel() for part in parts)]))
        self.entries = [TokenText(id=token, text=text_of(token)) for token in self.ids.tolist()]
        self._texts_of = texts_of
        self._broken = np.array([BROKEN in entry["text"] for entry in self.entries], dtype=bool)
        self._place = {(entry["id"], entry["text"]): place for place, entry in enumerate(self.entries)}

    def places(self, ids: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Where tokens stand in the file's list, by themselves."""
        return np.searchsorted(self.ids, ids)

    def places_in_text(
        self, ids: Int[np.ndarray, " tokens"], offsets: Int[np.ndarray, " bounds"]
    ) -> Int[np.ndarray, " tokens"]:
        """Where the tokens of stretches of text stand: a character whose bytes lie in several of them stands at the first.

        Args:
            ids: of all stretches.
            offsets: where each begins, and the end.
        """
        places = self.places(ids)
        if self._texts_of is None or not self._broken.any():
            return places
        broken = np.flatnonzero(self._broken[places])
        for stretch in np.unique(np.searchsorted(offsets, broken, side="right") - 1).tolist():
            span = slice(offsets[stretch], offsets[stretch + 1])
            tokens = ids[span].tolist()
            places[span] = [self._find(*pair) for pair in zip(tokens, self._texts_of(tokens), strict=True)]
        return places

    def _find(self, token: int, text: str) -> int:
        place = self._place.setdefault((token, text), len(self.entries))
        if place == len(self.entries):
            self.entries.append(TokenText(id=token, text=text))
        return place


def read_together(tokens: Sequence[int], text_of: Callable[[int], str], texts_of: TextsOf | None) -> str:
    """A stretch of text from its tokens.

    Args:
        tokens: their ids, in order.
        text_of: a token as people read it.
        texts_of: tokens in a row; None: as each is alone.
    """
    text = "".join(map(text_of, tokens))
    return text if texts_of is None or BROKEN not in text else "".join(texts_of(tokens))
