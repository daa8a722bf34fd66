"""JSON lines as documents: one object a line, the text in one of its columns."""

from collections.abc import Iterator
from functools import cached_property
from typing import final

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.local_files import find_files, read_json_lines, sha256_of_files

__all__ = ["JsonLines"]


@final
class JsonLines:
    """JSON lines files, a document a line.

    Args:
        path: a file, a folder (all `.jsonl` files below it), or a pattern.
        column: key of the text in each object.
        licence: licence of the text, if you want it recorded.

    Raises:
        UserError: nothing is at `path`.
    """

    finite = True

    def __init__(self, *, path: str, column: str = "text", licence: str | None = None) -> None:
        self.files = find_files(path, inside="**/*.jsonl")
        self.path = path
        self.column = column
        self.name = path
        self.licence = licence

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Documents from number `start` on; blank lines do not count.

        Raises:
            UserError: a line is not JSON, lacks the column or holds no text there.
        """
        for place, value in read_json_lines(self.files, self.column, start=start):
            if not isinstance(value, str):
                raise UserError(
                    f"{place} holds a {type(value).__name__} in column {self.column!r}. "
                    "Expected text: set `data.column`, or use `data=tokenised` for token ids."
                )
            yield Document.of_text(value)

    def provenance(self) -> dict[str, object]:
        """Path, column, files and their checksum."""
        return {
            "source": "jsonl",
            "path": self.path,
            "column": self.column,
            "files": len(self.files),
            "sha256": self._sha256,
            "licence": self.licence,
        }

    @cached_property
    def _sha256(self) -> str:
        return sha256_of_files(self.files)
