"""Text that somebody has tokenised already: rows of token ids."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors import SafetensorError, safe_open

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.hugging_face import is_saved_data_set, open_saved_data_set
from sae.tokens.local_files import find_files, read_json_lines, sha256_of_files

__all__ = ["TokenisedRows"]


@final
class TokenisedRows:
    """Rows of token ids, each taken as one document.

    A row's leading document-start token and trailing padding are taken off, since packing sets its own. The held-out split is
    by row: rows cut from one long document can fall on both sides, which whoever made the rows can avoid and we cannot see.

    Args:
        path: a `.npy` array [rows, length], a `.safetensors` file with such an array, a `.jsonl` file with a list of ids
            on each line, or a data set folder written by `save_to_disk`.
        column: the tensor or column of ids (not used for `.npy`).
        split: part of a data set folder that has several.
        licence: licence of the text, if you want it recorded.

    Raises:
        UserError: nothing is at `path`, or it is of no known kind.
    """

    finite = True

    def __init__(self, *, path: str, column: str = "ids", split: str = "train", licence: str | None = None) -> None:
        place = Path(path).expanduser()
        if not place.exists():
            raise UserError(f"`data.path` is {path!r}: nothing is there. Expected a file or folder of token ids.")
        if not is_saved_data_set(place) and place.suffix not in (".npy", ".safetensors", ".jsonl"):
            raise UserError(
                f"`data.path` is {path!r}. Expected a .npy, .safetensors or .jsonl file, or a folder written by `save_to_disk`."
            )
        self.place = place
        self.path = path
        self.column = column
        self.split = split
        self.name = path
        self.licence = licence

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Rows from number `start` on.

        Raises:
            UserError: the file cannot be read, the column is missing, or a row is no list of integers.
        """
        if self.place.suffix == ".jsonl":
            rows = read_json_lines([self.place], self.column, start=start)
        else:
            table = self._table
            rows = ((f"{self.path}, row {number}", table[number]) for number in range(start, len(table)))
        for place, row in rows:
            yield Document.of_ids(_ids(row, place))

    def provenance(self) -> dict[str, object]:
        """Path, column and checksum."""
        return {
            "source": "tokenised",
            "path": self.path,
            "column": self.column,
            "split": self.split,
            "sha256": self._sha256,
            "licence": self.licence,
        }

    @cached_property
    def _sha256(self) -> str:
        return sha256_of_files(find_files(self.path, inside="**/*.arrow"))

    @cached_property
    def _table(self) -> Any:
        if self.place.suffix == ".npy":
            table = _read_npy(self.place)
        elif self.place.suffix == ".safetensors":
            table = _read_safetensors(self.place, self.column)
        else:
            data_set = open_saved_data_set(self.place, split=self.split)
            if self.column not in data_set.column_names:
                raise _missing(self.path, "column", self.column, data_set.column_names)
            return data_set.with_format("numpy", columns=[self.column])[self.column]
        if table.ndim != 2:
            raise UserError(f"{self.path!r} holds an array of shape {list(table.shape)}. Expected [rows, length].")
        return table


def _read_npy(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{str(path)!r} is no array that can be read safely: {error}") from error


def _read_safetensors(path: Path, column: str) -> Any:
    try:
        with safe_open(path, framework="np") as file:
            if column not in file.keys():  # noqa: SIM118 - the file handle is no mapping
                raise _missing(str(path), "tensor", column, file.keys())
            return file.get_tensor(column)
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is no whole safetensors file: {error}") from error


def _missing(path: str, kind: str, column: str, present: Any) -> UserError:
    return UserError(f"{path!r} has no {kind} {column!r}; it has {sorted(present)}. Set `data.column` to one of them.")


def _ids(row: Any, place: str) -> list[int]:
    try:
        ids = np.asarray(row)
    except ValueError:  # lists of unequal length inside the row
        ids = np.empty((0, 0))
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise UserError(f"{place} is no list of token ids: expected integers, got {str(row)[:60]}. Is `data.column` right?")
    return list(map(int, ids.astype(np.int64)))
