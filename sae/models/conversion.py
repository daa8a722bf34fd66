"""Folders that are made once, by one process, and appear whole or not at all."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from sae.errors import UserError

__all__ = ["default_cache_dir", "made_once"]

log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """Where converted models are kept: the folder that SAE_CACHE names, else ~/.cache/sae."""
    return Path(os.environ.get("SAE_CACHE") or Path.home() / ".cache" / "sae")


def made_once(folder: Path, make: Callable[[Path], None], *, task: str) -> Path:
    """The folder, made now if it does not exist.

    Of several processes that want the folder at once, one makes it and the others wait. A process killed while making leaves
    only a part aside, which the next one removes.

    Args:
        folder: where the result shall stand.
        make: fills an empty folder.
        task: what `make` does, for the log line and the error.

    Returns:
        `folder`.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process: %s", task)
            lock.acquire()
        try:
            if not folder.is_dir():
                log.info("%s, once, into %s", task, folder)
                _make(folder, make)
        finally:
            lock.release()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise
        reason = os.strerror(error.errno)
        raise UserError(
            f"{task} failed in {folder.parent}: {reason}. Free space there, or set SAE_CACHE to another folder."
        ) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    prefix = f".{folder.name}.part-"
    for left_over in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
    try:
        make(aside)
        for path in aside.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
            _flush(path)
        aside.chmod(0o755)
        _flush(aside)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _flush(folder.parent)  # the rename itself must survive a power cut


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
