"""Files on this machine that hold text: found by path, folder or pattern, read with errors that name the place."""

import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sae.errors import UserError

__all__ = ["column_value", "find_files", "read_json_lines", "read_text", "sha256_of_files"]


def find_files(path: str, *, inside: str) -> list[Path]:
    """The files that a path names, sorted, hidden ones left out.

    Args:
        path: a file, a folder, or a pattern such as `notes/**/*.txt`.
        inside: pattern of the files that are meant when `path` is a folder.

    Raises:
        UserError: nothing is there.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = (file for file in place.glob(inside) if not any(part.startswith(".") for part in file.relative_to(place).parts))
        expected = f"This folder holds no file like {inside!r}: put some there, or name the files by a pattern."
    else:
        # `Path.glob` refuses absolute patterns.
        found = (Path(file) for file in glob.iglob(str(place), recursive=True))  # noqa: PTH207
        expected = "Nothing is there: expected a file, a folder, or a pattern such as 'texts/**/*.txt'."
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise UserError(f"`data.path` is {path!r}. {expected}")
    return files


def sha256_of_files(files: Sequence[Path]) -> str:
    """SHA-256 of one file's bytes; of several files, SHA-256 over their checksums in order."""
    checksums: list[str] = []
    for path in files:
        with path.open("rb") as file:
            checksums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return checksums[0] if len(checksums) == 1 else hashlib.sha256("".join(checksums).encode()).hexdigest()


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, every line end one newline, a byte order mark left out.

    Raises:
        UserError: the file is not UTF-8.
    """
    return _decode(path.read_bytes(), str(path)).replace("\r\n", "\n")


def read_json_lines(files: Sequence[Path], column: str, *, start: int = 0) -> Iterator[tuple[str, Any]]:
    """The place and the value of one column for each JSON line, from line `start` on; blank lines do not count.

    Raises:
        UserError: a line is not UTF-8, not JSON, not an object, or lacks the column.
    """
    number = 0
    for path in files:
        with path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                number += 1
                if number <= start:
                    continue
                place = f"{path}, line {line_number}"
                try:
                    row = json.loads(_decode(line, place))
                except json.JSONDecodeError as error:
                    raise UserError(
                        f"{place} is not JSON ({error.msg} at column {error.colno}). "
                        "Expected one JSON object on each line; use `data=text` for plain text."
                    ) from None
                if not isinstance(row, dict):
                    raise UserError(f"{place} holds a {type(row).__name__}. Expected an object such as " + '{"text": "..."}.')
                yield place, column_value(row, column, place)


def column_value(row: dict[str, Any], column: str, place: str) -> Any:
    """The value of one column.

    Raises:
        UserError: the row has no such column; the message lists those that it has.
    """
    if column not in row:
        raise UserError(f"{place} has no column {column!r}; its columns are {sorted(row)}. Set `data.column` to one of them.")
    return row[column]


def _decode(raw: bytes, place: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}. Save the text as UTF-8."
        ) from None
