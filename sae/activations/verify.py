"""Whether the files of a store are those that were written: sizes always, checksums once for each state of a file."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from sae.activations.manifest import FileRecord, StoreManifest, file_record
from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["Verify", "intact_files", "remember", "verify_store"]

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
        if not _is_intact(path, record, known):
            raise UserError(_damage(path, record, manifest.identity))
    remember(folder, manifest.files)


def intact_files(folder: Path, files: Iterable[FileRecord]) -> set[str]:
    """Names of the files that are there with their sizes and checksums; checksums of unchanged files are not read again."""
    known = _remembered(folder)
    return {
        record.file for record in files if (folder / record.file).exists() and _is_intact(folder / record.file, record, known)
    }


def remember(folder: Path, files: Iterable[FileRecord]) -> None:
    """Note that these files have been found right."""
    states = {record.file: _state(folder / record.file, record) for record in files}
    if states != _remembered(folder):
        with contextlib.suppress(OSError):  # a store on a read-only or full disk is just checked again
            write_whole(folder / VERIFIED, json.dumps(states, indent=1))


def _is_intact(path: Path, record: FileRecord, known: Mapping[str, list[object]]) -> bool:
    if path.stat().st_size != record.bytes:
        return False
    return known.get(record.file) == _state(path, record) or file_record(path).sha256 == record.sha256


def _damage(path: Path, record: FileRecord, identity: str) -> str:
    """What is wrong with a file that is not the manifest's."""
    repair = "Restore it, or delete it and run the same harvest again, which writes it anew."
    size = path.stat().st_size
    if size < record.bytes:
        return f"{path} is truncated: {size} of {record.bytes} bytes. {repair}"
    with contextlib.suppress(SafetensorError), safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("identity") != identity:
            return f"{path} belongs to another store: model, hook points, text or dtype differ. {repair}"
    return f"{path} was altered: its checksum is not the manifest's. {repair}"


def _remembered(folder: Path) -> dict[str, list[object]]:
    try:
        return json.loads((folder / VERIFIED).read_text())
    except (OSError, ValueError):
        return {}


def _state(path: Path, record: FileRecord) -> list[object]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, record.sha256]
