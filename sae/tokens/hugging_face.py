"""Hugging Face data sets as documents: from the hub or from this machine, as a whole or as a stream."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

from sae.errors import UserError
from sae.tokens.documents import Document

__all__ = ["HuggingFaceText", "is_saved_data_set", "open_saved_data_set"]

PACKAGED_TEXT = "Where the hub is out of reach, the packaged text needs no network: `data=wikipedia-sample`."


@final
class HuggingFaceText:
    """One column of a Hugging Face data set, a document a row.

    Args:
        path: a name on the hub (`org/name`), a folder of data files, or a folder written by `save_to_disk`.
        name: configuration of the data set, where it has several.
        split: which part is read.
        column: the column of text.
        revision: commit, tag or branch on the hub; give a commit to be able to repeat a run.
        streaming: read rows as they come, without a copy on disk; the text is then read in windows, not as a whole.
        licence: licence of the text; by default what the data set says of itself.

    Raises:
        UserError: `path` looks like a folder and is not there.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str | None = None,
        split: str = "train",
        column: str = "text",
        revision: str | None = None,
        streaming: bool = True,
        licence: str | None = None,
    ) -> None:
        looks_local = path.startswith(("/", ".", "~")) or path.count("/") > 1
        if looks_local and not Path(path).expanduser().exists():
            raise UserError(
                f"`data.path` is {path!r}: no such folder. Expected a folder, or a name on the hub such as 'org/name'."
            )
        self.path = path
        self.subset = name
        self.split = split
        self.column = column
        self.revision = revision
        self.name = path if name is None else f"{path}:{name}"
        self.licence = licence
        self.finite = not streaming

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Rows from number `start` on; a missing text counts as an empty document.

        Raises:
            UserError: the data set, its split or its column cannot be had.
        """
        rows = self._rows
        if self.finite and start >= len(rows):  # the library takes an empty selection for a mistake
            return
        remaining = rows.skip(start)
        number = start
        iterator = iter(remaining)
        while True:
            try:
                row = next(iterator, None)
            except OSError as error:  # a stream can break at any row: ConnectionError is an OSError
                raise UserError(f"Reading {self.name!r} broke off at row {number}: {error}. {PACKAGED_TEXT}") from error
            if row is None:
                return
            yield self._document(row, number)
            number += 1

    def provenance(self) -> dict[str, object]:
        """Path, subset, split, column, revision, and the fingerprint of data that stand on this machine."""
        return {
            "source": "hub",
            "path": self.path,
            "name": self.subset,
            "split": self.split,
            "column": self.column,
            "revision": self.revision,
            "fingerprint": self._rows._fingerprint if self.finite else None,
            "licence": self.licence or self._rows.info.license or None,
        }

    def _document(self, row: dict[str, Any], number: int) -> Document:
        if self.column not in row:  # a stream may not know its columns before its first row
            raise _missing_column(self.column, sorted(row))
        value = row[self.column]
        if value is not None and not isinstance(value, str):
            raise UserError(
                f"Row {number} of {self.name!r} holds a {type(value).__name__} in column {self.column!r}. "
                "Expected text: set `data.column`, or use `data=tokenised` for token ids."
            )
        return Document.of_text(value or "")

    @cached_property
    def _rows(self) -> Any:
        folder = Path(self.path).expanduser()
        if is_saved_data_set(folder):
            rows = open_saved_data_set(folder, split=self.split)
            rows = rows if self.finite else rows.to_iterable_dataset()
        else:
            rows = self._load()
        if rows.column_names is not None:
            if self.column not in rows.column_names:
                raise _missing_column(self.column, sorted(rows.column_names))
            rows = rows.select_columns([self.column])
        return rows

    def _load(self) -> Any:
        # Late: a second of imports that local text does not need.
        import datasets  # noqa: PLC0415
        from datasets.exceptions import DatasetGenerationError  # noqa: PLC0415

        try:
            return datasets.load_dataset(
                self.path, self.subset, split=self.split, revision=self.revision, streaming=not self.finite
            )
        except (ValueError, DatasetGenerationError) as error:
            # An unknown split or configuration: the library's own text lists those that exist.
            raise UserError(f"The data set {self.name!r} could not be read with split {self.split!r}: {error}") from error
        except Exception as error:
            # The hub's clients raise errors of several families, none with a common base.
            raise UserError(
                f"The data set {self.name!r} could not be loaded ({type(error).__name__}: {error}). "
                f"Check `data.path`, `data.name` and `data.revision`. {PACKAGED_TEXT}"
            ) from error


def is_saved_data_set(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def open_saved_data_set(folder: Path, *, split: str) -> Any:
    """The data set that `save_to_disk` wrote, memory-mapped.

    Raises:
        UserError: the folder holds several splits and not this one.
    """
    import datasets  # noqa: PLC0415

    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if split not in saved:
        raise UserError(f"`data.split` is {split!r}; {str(folder)!r} holds {sorted(str(part) for part in saved)}.")
    return saved[split]


def _missing_column(column: str, present: list[str]) -> UserError:
    return UserError(f"The data set has no column {column!r}; its columns are {present}. Set `data.column` to one of them.")
