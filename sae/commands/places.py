"""Whether a folder can be written where a user wants it, and whether what goes into it has room there."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sae.errors import UserError

__all__ = ["check_can_be_made", "check_room"]


def check_can_be_made(folder: Path, *, remedy: str) -> None:
    """Refuse a folder that cannot be made, by making one beside it: permissions do not tell what a file system allows.

    A folder that is there needs the one above it all the same: locks lie there.

    Args:
        folder: which need not be there.
        remedy: what to type, for the message.

    Raises:
        UserError: with the folder above it, and the remedy.
    """
    above = _there(folder.absolute().parents)
    problem = None if above.is_dir() else "is a file"
    if problem is None:
        try:
            tempfile.TemporaryDirectory(prefix=".", dir=above).cleanup()
        except OSError:
            problem = "is not writable"
    if problem is not None:
        raise UserError(f"{folder} cannot be made: {above} {problem}. Choose another place: {remedy}")


def check_room(folder: Path, needed: int, *, what: str, remedy: str) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: that is written, which need not be there.
        needed: bytes.
        what: takes them, for the message.
        remedy: likewise.

    Raises:
        UserError: with both sizes.
    """
    above = _there((folder.absolute(), *folder.absolute().parents))
    free = shutil.disk_usage(above).free
    if needed > free:
        raise UserError(f"{what} takes about {needed / 1e9:.2f} GB, {above} has {free / 1e9:.2f} GB free: {remedy}")


def _there(folders: Sequence[Path]) -> Path:
    """The first that exists."""
    return next((one for one in folders if one.exists()), Path("/"))
