"""Which documents are held out: a property of the document itself, whatever the seed, the order or the run."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import final

from sae.errors import UserError
from sae.tokens.documents import Document

__all__ = ["HeldOutSplit", "OneDocument", "is_held_out"]


class OneDocument(UserError):
    """A share is to be held out of a text that is one document."""


def is_held_out(key: str, fraction: float) -> bool:
    """Whether the document with this key is held out; documents of equal content always fall on the same side."""
    return _place(key) < fraction


def _place(key: str) -> float:
    """A number in [0, 1) made of the key. Keys are hashed once more, so that keys of any form spread evenly."""
    return int.from_bytes(hashlib.sha256(f"held-out:{key}".encode()).digest()[:8]) / 2**64


@final
class HeldOutSplit:
    """The split of a source's documents into training and held-out ones.

    Args:
        fraction: expected share of held-out documents, in [0, 1).

    Raises:
        UserError: the fraction is out of range.
    """

    def __init__(self, fraction: float) -> None:
        if not 0 <= fraction < 1:
            raise UserError(f"`data.held_out_fraction` is {fraction}. Expected a number from 0 to just below 1, such as 0.1.")
        self.fraction = fraction

    def train(self, numbered: Iterable[tuple[int, Document]]) -> Iterator[tuple[int, Document]]:
        """The training documents of a stream, with their numbers."""
        return ((number, document) for number, document in numbered if not is_held_out(document.key, self.fraction))

    def held_out(self, numbered: Iterable[tuple[int, Document]]) -> Iterator[tuple[int, Document]]:
        """The held-out documents of a stream, with their numbers."""
        return ((number, document) for number, document in numbered if is_held_out(document.key, self.fraction))

    def of_corpus(self, keys: Sequence[str]) -> list[bool]:
        """For each document of a whole corpus, whether it is held out.

        A small corpus can fall wholly on one side of the hash; the document nearest to the border then changes sides, so that
        there is always something to train on and something to evaluate on.

        Raises:
            OneDocument: a share is to be held out of a corpus that has only one document.
        """
        if self.fraction == 0:
            return [False] * len(keys)
        places = {key: _place(key) for key in keys}
        if len(places) < 2:
            raise OneDocument(
                "The text has only one document, so none can be held out for evaluation. Give more documents (text files: "
                "`data.split_on=blank_lines` or a smaller `data.max_characters`)."
            )
        ordered = sorted(places, key=places.__getitem__)
        count = sum(place < self.fraction for place in places.values())
        chosen = set(ordered[: min(max(count, 1), len(ordered) - 1)])
        return [key in chosen for key in keys]
