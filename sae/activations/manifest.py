"""What a store of activations holds: one JSON file beside the shards, written last.

A store is a folder:

    manifest.json           everything about the store; there only once all shards are
    manifest.partial.json   the same while the store is being written, naming the shards that are finished
    blocks.safetensors      ids, attention, keep, document of the token blocks
    shard-00000.safetensors for each hook point its name -> [rows, width]; token, position, document -> [rows]; in block order
    verified.json           sizes and times of files whose checksums were found right, so that they are not read again
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sae.errors import UserError

__all__ = [
    "BLOCKS",
    "FORMAT_VERSION",
    "MANIFEST",
    "PARTIAL",
    "FileRecord",
    "Shard",
    "StoreManifest",
    "file_record",
    "read_manifest",
]

FORMAT_VERSION = 1
MANIFEST, PARTIAL, BLOCKS = "manifest.json", "manifest.partial.json", "blocks.safetensors"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of the store: its name, size in bytes and checksum."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Shard(FileRecord):
    """A file of rows: those of `num_blocks` consecutive blocks from `first_block` on."""

    first_block: int
    num_blocks: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class StoreManifest:
    """What a store holds and what it was made of.

    Attributes:
        identity: checksum of all that determines the numbers: model, hook points, token blocks, dtype, rows a shard. Each
            shard carries it too, so that shards of two stores are told apart.
        model: the transformer's provenance.
        hook_points: hook point name -> its width and where it lies in the model.
        tokenizer: which tokenizer made the ids.
        text: where the text came from.
        blocks_sha256: fingerprint of the token blocks.
        context_length: positions in a block.
        num_blocks: token blocks.
        num_documents: distinct documents.
        rows: rows of each hook point.
        dtype: number format of the values.
        shard_rows: rows in a shard at most, to less than one block.
        shards: the files, in block order.
        blocks_file: the file of token blocks.
        format_version: of this layout.
    """

    model: Mapping[str, Any]
    hook_points: Mapping[str, Mapping[str, Any]]
    tokenizer: Mapping[str, Any]
    text: Mapping[str, Any]
    blocks_sha256: str
    context_length: int
    num_blocks: int
    num_documents: int
    rows: int
    dtype: str
    shard_rows: int
    shards: tuple[Shard, ...] = ()
    blocks_file: FileRecord | None = None
    format_version: int = FORMAT_VERSION

    @property
    def identity(self) -> str:
        """Checksum of all that determines the numbers; neither the text's origin nor where anything lies counts."""
        parts = (self.format_version, self.model, self.hook_points, self.blocks_sha256, self.dtype, self.shard_rows)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def widths(self) -> dict[str, int]:
        """Hook point name -> width."""
        return {name: int(place["width"]) for name, place in self.hook_points.items()}

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """All files that the store consists of."""
        return (*(() if self.blocks_file is None else (self.blocks_file,)), *self.shards)

    def with_files(self, blocks_file: FileRecord, shards: list[Shard]) -> "StoreManifest":
        """The same store with these files."""
        return replace(self, blocks_file=blocks_file, shards=tuple(shards))

    def to_json(self) -> str:
        """The text of the manifest file."""
        return json.dumps({"identity": self.identity, **asdict(self)}, indent=1) + "\n"


def file_record(path: Path) -> FileRecord:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileRecord(file=path.name, bytes=path.stat().st_size, sha256=digest.hexdigest())


def read_manifest(path: Path) -> StoreManifest:
    """Read a manifest file, finished or partial.

    Args:
        path: the file.

    Returns:
        The manifest.

    Raises:
        UserError: it is damaged, altered, or of another version of the format.
    """
    try:
        content = json.loads(path.read_text())
        version = content.pop("format_version")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no manifest of an activation store ({error}). Restore it, or harvest again.") from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}; this version of sae reads {FORMAT_VERSION}. Harvest again, or read it with "
            "the version that wrote it."
        )
    try:
        identity = content.pop("identity")
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        blocks_file = content.pop("blocks_file")
        manifest = StoreManifest(**content, shards=shards, blocks_file=blocks_file and FileRecord(**blocks_file))
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}. Restore it, or harvest again.") from error
    if manifest.identity != identity:
        raise UserError(f"{path} was altered: it no longer has its own checksum. Restore it, or harvest again.")
    return manifest
