"""Plain text files as documents."""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import final

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.local_files import find_files, read_text, sha256_of_files

__all__ = ["TextFiles", "cut_text"]


@final
class TextFiles:
    """Text files, each one or more documents.

    A long file is cut into documents at paragraph ends, so that a single book can still be split into training and held-out
    documents and is never tokenised in one piece.

    Args:
        path: a file, a folder (all `.txt` files below it), or a pattern such as `notes/**/*.md`.
        split_on: `blank_lines` makes every paragraph a document; None keeps a file together up to `max_characters`.
        max_characters: longest document.
        licence: licence of the text, if you want it recorded.

    Raises:
        UserError: nothing is at `path`, or a setting is out of range.
    """

    finite = True

    def __init__(
        self,
        *,
        path: str,
        split_on: str | None = None,
        max_characters: int = 20_000,
        licence: str | None = None,
    ) -> None:
        if max_characters < 1:
            raise UserError(f"`data.max_characters` is {max_characters}. Expected at least 1; the default is 20000.")
        if split_on not in (None, "blank_lines"):
            raise UserError(f"`data.split_on` is {split_on!r}. Expected `blank_lines` or null.")
        self.files = find_files(path, inside="**/*.txt")
        self.path = path
        self.split_on = split_on
        self.max_characters = max_characters
        self.name = path
        self.licence = licence

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Documents from number `start` on, files in alphabetical order."""
        return islice(self._all_documents(), start, None)

    def provenance(self) -> dict[str, object]:
        """Path, files and their checksum, and how they are cut."""
        return {
            "source": "text",
            "path": self.path,
            "files": len(self.files),
            "sha256": self._sha256,
            "split_on": self.split_on,
            "max_characters": self.max_characters,
            "licence": self.licence,
        }

    @cached_property
    def _sha256(self) -> str:
        return sha256_of_files(self.files)

    def _all_documents(self) -> Iterator[Document]:
        for path in self.files:
            text = read_text(path)
            parts = re.split(r"\n\s*\n", text) if self.split_on == "blank_lines" else [text]
            for part in parts:
                yield from (Document.of_text(piece) for piece in cut_text(part, self.max_characters) if piece.strip())


def cut_text(text: str, max_characters: int) -> list[str]:
    """Pieces of at most `max_characters` that joined give the text again.

    A cut is made after the last blank line in a piece's second half, else after the last line end, else after the last space,
    else in the middle of a word.
    """
    pieces: list[str] = []
    start = 0
    while len(text) - start > max_characters:
        end = start + max_characters
        for border in ("\n\n", "\n", " "):
            found = text.rfind(border, start + max_characters // 2, end)
            if found != -1:
                end = found + len(border)
                break
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces
