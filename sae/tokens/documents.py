"""Documents and where they come from: the one shape that every kind of text takes."""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Document", "DocumentSource"]


@dataclass(frozen=True)
class Document:
    """One document: its text, or its token ids where somebody has tokenised it already.

    Attributes:
        text: the text, None where `ids` is given.
        ids: the token ids, None where `text` is given.
        key: SHA-256 of the content. It names the document wherever it stands, so the held-out split depends on nothing else.
    """

    text: str | None
    ids: list[int] | None
    key: str

    @staticmethod
    def of_text(text: str) -> "Document":
        """A document of text."""
        # Unpaired surrogates can come out of JSON escapes; they must not end a run of many hours.
        return Document(text=text, ids=None, key=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())

    @staticmethod
    def of_ids(ids: list[int]) -> "Document":
        """A document of token ids."""
        return Document(text=None, ids=ids, key=hashlib.sha256(array("q", ids).tobytes()).hexdigest())


@runtime_checkable
class DocumentSource(Protocol):
    """Where documents come from. Constructor keywords are the keys of `conf/data/*.yaml`.

    Attributes:
        name: what reports call this text.
        licence: licence of the text, None where it is not known.
        finite: whether the documents are read as a whole before training; an endless source is read in windows.
    """

    name: str
    licence: str | None
    finite: bool

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Documents from number `start` on; the order is the same on every call."""
        ...

    def provenance(self) -> dict[str, object]:
        """What a saved autoencoder records about its text: JSON-able, with a checksum of local files."""
        ...
