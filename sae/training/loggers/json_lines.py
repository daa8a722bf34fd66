"""Metrics as lines of JSON: always written, whatever other loggers there are, and exact across resumes."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, final

from sae.errors import UserError

__all__ = ["JsonLines", "read_json_lines"]


@final
class JsonLines:
    """Appends rows to a file; a checkpoint remembers the byte it had reached, a resume cuts the file back to it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; it is in the file when this returns.

        Raises:
            UserError: the disk is full or no longer writable.
        """
        line = json.dumps(row, allow_nan=True).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} could not be written ({error}). Free some disk space, then go on with resume= from the last "
                "checkpoint."
            ) from error

    def position(self) -> int:
        """The byte after the last row, once everything before it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def cut_back(self, position: int) -> None:
        """Forget rows after `position`: they belong to steps that a resume takes again.

        Raises:
            UserError: the file ends before that.
        """
        size = self.path.stat().st_size
        if size < position:
            raise UserError(
                f"{self.path} has {size} bytes; when the checkpoint was taken it had {position}: rows are missing. Put the "
                "file back, or delete the checkpoint to go on from an earlier one."
            )
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        """Flush and close; what a full disk does not take is lost, as it would be in a crash."""
        with contextlib.suppress(OSError):
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
