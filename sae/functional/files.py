"""Files that appear whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["PART", "is_disk_full", "write_whole"]

PART = ".part"
"""Ending of a file that is being written, whose name begins with a dot; a process that is killed leaves it."""


def write_whole(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write a file aside, flush it to the disk, then rename it into place.

    A reader sees the old file or the new one, never a part: also when the process is killed or the disk fills up, in which
    case the file aside is removed and the old file stays.

    Args:
        path: where the file shall stand; its folder is made if needed.
        content: the bytes or text, or a function that writes them to the path that it is given.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    os.close(handle)
    aside = Path(name)
    try:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def is_disk_full(error: Exception) -> bool:
    """Whether an error of writing a file says that the disk, or the user's part of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"os error {errno.ENOSPC}" in str(error) or f"os error {errno.EDQUOT}" in str(error)  # safetensors writes in Rust
