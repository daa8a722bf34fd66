"""Activations written to the disk once: shard by shard, so that a harvest that was stopped goes on where it was."""

import errno
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sae.activations.manifest import BLOCKS, MANIFEST, PARTIAL, Shard, StoreManifest, file_record, read_manifest
from sae.activations.order import split_blocks
from sae.activations.row_source import RowSource, read_rows
from sae.activations.verify import intact_files, remember
from sae.errors import UserError
from sae.functional.files import is_disk_full, write_whole
from sae.tokens.blocks import TokenBlocks

__all__ = ["StoreDescription", "plan_store", "store_bytes", "write_store"]

SHARD_ROWS = 65536  # 150 MB at width 576 in float32: less than a minute's work is lost when a harvest is killed
PLACE_BYTES = 12  # token, position and document of a row, 4 bytes each
SPARE_BYTES = 1 << 20  # manifests, headers, the file system's own


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """Where the activations come from, as JSON-able values.

    Attributes:
        model: the transformer's provenance.
        hook_points: hook point name -> where it lies in the model.
        tokenizer: which tokenizer made the ids.
        text: where the text came from, with its licence.
    """

    model: Mapping[str, Any]
    hook_points: Mapping[str, Mapping[str, Any]]
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)


def plan_store(
    blocks: TokenBlocks, source: RowSource, description: StoreDescription, *, shard_rows: int = SHARD_ROWS
) -> StoreManifest:
    """The manifest of a store before any of its files is written: its `identity` says whether two stores are the same.

    Raises:
        ValueError: the source mixes layers; a store holds them side by side, from which they can be mixed.
    """
    if source.layers:
        raise ValueError("a store holds hook points side by side: write the source below MixedLayers, and mix what is read")
    return StoreManifest(
        model=description.model,
        hook_points={name: {**description.hook_points[name], "width": width} for name, width in source.widths.items()},
        tokenizer=description.tokenizer,
        text=description.text,
        blocks_sha256=blocks.fingerprint(),
        context_length=blocks.context_length,
        num_blocks=len(blocks),
        num_documents=blocks.num_documents,
        rows=blocks.num_rows,
        dtype=str(source.dtype).removeprefix("torch."),
        shard_rows=shard_rows,
    )


def store_bytes(rows: int, source: RowSource) -> int:
    """Bytes on the disk of this many rows of all hook points of the source."""
    return rows * (sum(source.widths.values()) * source.dtype.itemsize + PLACE_BYTES)


def write_store(
    folder: Path,
    blocks: TokenBlocks,
    source: RowSource,
    description: StoreDescription,
    *,
    shard_rows: int = SHARD_ROWS,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> StoreManifest:
    """Harvest all blocks into a folder. Shards that an earlier call finished are kept if their checksums are right.

    Args:
        folder: where the store shall stand.
        blocks: token blocks, stored too.
        source: gives the activations, in the dtype that is written.
        description: what the manifest says about their origin.
        shard_rows: rows in a file at most, to less than one block.
        on_rows: told (rows done, rows in all) now and then.

    Returns:
        The manifest, as written.

    Raises:
        UserError: the folder holds another store, there are no rows, or the disk is too small or full.
    """
    plan = plan_store(blocks, source, description, shard_rows=shard_rows)
    if plan.rows == 0:
        raise UserError(f"Nothing to store: {plan.num_blocks} token blocks hold special tokens alone.")
    found = _found(folder, plan)
    earlier: dict[int, Shard] = {}
    if found is not None:
        intact = intact_files(folder, found.files)
        if (folder / MANIFEST).exists() and len(intact) == len(found.files):
            return found
        earlier = {shard.first_block: shard for shard in found.shards if shard.file in intact}
    missing = plan.rows - sum(shard.rows for shard in earlier.values())
    needed = (
        store_bytes(missing, source) + blocks.ids.numel() * (blocks.ids.itemsize + blocks.document.itemsize + 2) + SPARE_BYTES
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < needed:
            raise OSError(errno.ENOSPC, f"{free} bytes are free")
        return _write(folder, blocks, source, plan, earlier, on_rows)
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        raise UserError(
            f"The disk of {folder} is too small: about {needed} bytes were needed to go on, {shutil.disk_usage(folder).free} "
            "are free. Free some, choose another folder, fewer tokens or `activations.dtype=bfloat16`; finished shards are "
            "kept, and the same command goes on."
        ) from error


def _found(folder: Path, plan: StoreManifest) -> StoreManifest | None:
    """The manifest, finished or partial, of what the folder holds of this store."""
    for name in (MANIFEST, PARTIAL):
        if (folder / name).exists():
            found = read_manifest(folder / name)
            if found.identity != plan.identity:
                raise UserError(
                    f"{folder} holds another store: {_difference(found, plan)}. Choose another folder, or delete it."
                )
            return found
    return None


def _write(
    folder: Path,
    blocks: TokenBlocks,
    source: RowSource,
    plan: StoreManifest,
    earlier: Mapping[int, Shard],
    on_rows: Callable[[int, int], None],
) -> StoreManifest:
    metadata = {"identity": plan.identity}
    path = folder / BLOCKS
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in vars(blocks).items()}
    write_whole(path, lambda aside: save_file(tensors, aside, metadata))
    blocks_file = file_record(path)
    shards: list[Shard] = []
    first = done = 0
    for number, size in enumerate(split_blocks(blocks.rows_per_block(), plan.shard_rows)):
        shard = earlier.get(first)
        if shard is None:
            index = torch.arange(first, first + size)
            rows = read_rows(source, blocks, index, before_piece=lambda read, done=done: on_rows(done + read, plan.rows))
            content = {**rows.values, "token": rows.token, "position": rows.position, "document": rows.document}
            path = folder / f"shard-{number:05d}.safetensors"
            write_whole(path, lambda aside, content=content: save_file(content, aside, metadata))
            shard = Shard(**asdict(file_record(path)), first_block=first, num_blocks=size, rows=len(rows))
        shards.append(shard)
        first, done = first + size, done + shard.rows
        write_whole(folder / PARTIAL, plan.with_files(blocks_file, shards).to_json())
        on_rows(done, plan.rows)
    manifest = plan.with_files(blocks_file, shards)
    remember(folder, manifest.files)
    write_whole(folder / MANIFEST, manifest.to_json())
    (folder / PARTIAL).unlink(missing_ok=True)
    return manifest


def _difference(found: StoreManifest, plan: StoreManifest) -> str:
    """The first thing in which two stores differ, in the reader's words."""
    for words, name in (
        ("token blocks", "blocks_sha256"),
        ("hook points", "hook_points"),
        ("model", "model"),
        ("dtype", "dtype"),
        ("rows a shard", "shard_rows"),
    ):
        if getattr(found, name) != getattr(plan, name):
            return f"its {words} are {getattr(found, name)}, these would be {getattr(plan, name)}"
    return "its manifest differs"
