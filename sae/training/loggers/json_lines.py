"""Metrics as lines of JSON: always written, whatever other loggers there are, and exact across resumes."""

import json
import os
from pathlib import Path
from typing import Any, final

__all__ = ["JsonLines", "read_json_lines"]


@final
class JsonLines:
    """Appends rows to a file; a checkpoint remembers the byte it had reached, a resume cuts the file back to it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; it is in the file when this returns."""
        self._file.write(json.dumps(row, allow_nan=True).encode() + b"\n")
        self._file.flush()

    def position(self) -> int:
        """The byte after the last row, once everything before it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def cut_back(self, position: int) -> None:
        """Forget rows after `position`: they belong to steps that a resume takes again."""
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that `JsonLines` wrote; a last line that a crash cut short is left out."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
