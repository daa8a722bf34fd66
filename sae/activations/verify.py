"""Whether the files of a store are those that were written: sizes always, checksums once for each state of a file."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from sae.activations.manifest import FileRecord, StoreManifest, file_record
from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["Verify", "is_intact", "remember", "verify_store"]

Verify = Literal["quick", "full"]

VERIFIED = "verified.json"


def verify_store(folder: Path, manifest: StoreManifest, verify: Verify = "quick") -> None:
    """Check every file of a store against the manifest.

    Args:
        folder: the store.
        manifest: what it should hold.
        verify: `quick` reads a file for its checksum only if its size or time of change are not those of the last check;
            `full` reads all files.

    Raises:
        UserError: a file is missing, truncated, altered or another store's; it is named.
    """
    known = {} if verify == "full" else _remembered(folder)
    for record in manifest.files:
        path = folder / record.file
        if not path.exists():
            raise UserError(f"{path} is missing. Restore it, or run the same harvest again, which writes it anew.")
        if known.get(record.file) == _state(path, record) and path.stat().st_size == record.bytes:
            continue
        _check(path, record, manifest.identity)
    remember(folder, manifest.files)


def is_intact(folder: Path, record: FileRecord) -> bool:
    """Whether a file has its size and checksum."""
    path = folder / record.file
    return path.exists() and path.stat().st_size == record.bytes and file_record(path).sha256 == record.sha256


def remember(folder: Path, files: Iterable[FileRecord]) -> None:
    """Note that these files have been found right."""
    states = {record.file: _state(folder / record.file, record) for record in files}
    if states != _remembered(folder):
        with contextlib.suppress(OSError):  # a store on a read-only or full disk is just checked again
            write_whole(folder / VERIFIED, json.dumps(states, indent=1))


def _check(path: Path, record: FileRecord, identity: str) -> None:
    repair = "Restore it, or delete it and run the same harvest again, which writes it anew."
    size = path.stat().st_size
    if size < record.bytes:
        raise UserError(f"{path} is truncated: {size} of {record.bytes} bytes. {repair}")
    if file_record(path).sha256 == record.sha256:
        return
    with contextlib.suppress(SafetensorError), safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("identity") != identity:
            raise UserError(f"{path} belongs to another store: model, hook points, text or dtype differ. {repair}")
    raise UserError(f"{path} was altered: its checksum is not the manifest's. {repair}")


def _remembered(folder: Path) -> dict[str, list[object]]:
    try:
        return json.loads((folder / VERIFIED).read_text())
    except (OSError, ValueError):
        return {}


def _state(path: Path, record: FileRecord) -> list[object]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, record.sha256]
