"""The codes of a text on the disk: which latents were active on which tokens, how strongly, and what that did to the loss.

A folder of collected codes:

    manifest.json               what they belong to (`sae.dashboards.collect.plan`), written first
    chunk-00000.safetensors     `ids`, `attention`, `keep`, `document` of some blocks [blocks, context]; and the sparse code of
                                their kept positions in row-major order, of several layers one after another at each:
                                `offsets` [rows + 1], `latents` and `values` [nnz], `effects` [nnz] where they were estimated

The collection is complete when every chunk is there. A chunk carries the manifest's identity, its own number and a checksum, so
that nothing else needs to be kept beside it, and several processes may each write some.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sae.dashboards.collect.plan import CollectPlan, read_plan
from sae.errors import UserError
from sae.functional.files import write_whole
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern
from sae.tokens.blocks import TokenBlocks

__all__ = ["CodeChunk", "CollectedCodes", "chunk_path", "damage", "write_chunk"]

REPAIR = "Run the same command again: it writes this chunk anew."
LABEL = "chunk"  # the one key of a file's metadata: with several, their order in the file would not be fixed


@dataclass(frozen=True, kw_only=True)
class CodeChunk:
    """Some token blocks and the latents on them.

    Attributes:
        blocks: the text.
        acts: activations above zero. Row i is the i-th kept position of `blocks`, in row-major order; of L layers, row
            i * L + l is layer l there.
        effects: of each activation, what the block's summed next-token loss gains by its removal, to first order, in nats
            [nnz]; None where that was not estimated.
    """

    blocks: TokenBlocks
    acts: SparseActs
    effects: Float[Tensor, " nnz"] | None


def chunk_path(folder: Path, number: int) -> Path:
    """Where a chunk lies."""
    return folder / f"chunk-{number:05d}.safetensors"


def write_chunk(folder: Path, number: int, chunk: CodeChunk, plan: CollectPlan) -> None:
    """Write a chunk; it appears whole or not at all, and equal chunks give equal files.

    Args:
        folder: the collection.
        number: of the chunk.
        chunk: what to write.
        plan: what it belongs to.

    Raises:
        OSError: the folder cannot be written.
        SafetensorError: likewise, from the part that is written in Rust.
    """
    tensors = {
        "ids": chunk.blocks.ids.int(),
        "attention": chunk.blocks.attention,
        "keep": chunk.blocks.keep,
        "document": chunk.blocks.document.int(),
        "offsets": chunk.acts.offsets.long(),
        "latents": chunk.acts.indices.int(),
        "values": chunk.acts.values.float(),
    }
    if chunk.effects is not None:
        tensors["effects"] = chunk.effects.float()
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    label = {"identity": plan.identity, "number": number, "sha256": _checksum(tensors)}
    metadata = {LABEL: json.dumps(label)}
    write_whole(chunk_path(folder, number), lambda aside: save_file(tensors, aside, metadata))


def damage(folder: Path, number: int, plan: CollectPlan) -> str | None:
    """What is wrong with a chunk's file, all of it read; None where it is right."""
    try:
        _read(chunk_path(folder, number), number, plan, checked=False)
    except UserError as error:
        return str(error)
    return None


@final
class CollectedCodes:
    """A complete folder of chunks.

    A chunk's checksum is verified when it is read for the first time; files are mapped into memory, so that of a chunk only
    what is used is read again.

    Args:
        folder: of the collection.

    Attributes:
        plan: what the codes belong to.
        num_latents: d_sae.
        num_rows: tokens that latents were read on.
        rows_per_position: rows of codes for each of them: as many as layers were read, else one.
        num_blocks: token blocks.
        context_length: positions in a block.
        has_effects: whether effects on the loss stand beside the activations.
        num_entries: activations above zero.

    Raises:
        UserError: chunks are missing or damaged; they are named.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.plan = folder, read_plan(folder)
        self.num_latents, self.num_rows = self.plan.num_latents, self.plan.num_rows
        self.rows_per_position = self.plan.rows_per_position
        self.num_blocks, self.context_length = self.plan.num_blocks, self.plan.context_length
        self.has_effects = self.plan.effects is not None
        missing = [number for number in range(self.plan.num_chunks) if not chunk_path(folder, number).exists()]
        if missing:
            names = ", ".join(chunk_path(folder, number).name for number in missing[:3]) + (", ..." if missing[3:] else "")
            raise UserError(
                f"{folder} is not complete: {len(missing)} of {self.plan.num_chunks} chunks are missing ({names}). Run the "
                "same command again: it goes on where it was."
            )
        self.num_entries = sum(_entries(chunk_path(folder, number), number, self.plan) for number in range(len(self)))
        self._checked: set[int] = set()

    def __len__(self) -> int:
        """Number of chunks."""
        return self.plan.num_chunks

    def first_block(self, number: int) -> int:
        """Number, among all blocks, of a chunk's first."""
        return self.plan.span(number).start

    def block(self, number: int) -> TokenBlocks:
        """One block of the text.

        Args:
            number: from 0.

        Raises:
            UserError: there is no such block, or its file was damaged since.
        """
        if not 0 <= number < self.num_blocks:
            raise UserError(f"There is no block {number}: the dashboard's text has {self.num_blocks}, numbered from 0.")
        chunk, place = divmod(number, self.plan.chunk_blocks)
        return self.chunk(chunk).blocks.select(torch.tensor([place]))

    def chunk(self, number: int) -> CodeChunk:
        """One chunk.

        Args:
            number: from 0.

        Raises:
            UserError: the file was damaged since.
        """
        tensors = _read(chunk_path(self.folder, number), number, self.plan, checked=number in self._checked)
        self._checked.add(number)
        pattern = SparsePattern(indices=tensors["latents"], offsets=tensors["offsets"].int(), num_latents=self.num_latents)
        return CodeChunk(
            blocks=TokenBlocks(**{name: tensors[name] for name in ("ids", "attention", "keep", "document")}),
            acts=SparseActs(values=tensors["values"], pattern=pattern),
            effects=tensors["effects"] if self.has_effects else None,
        )


def _entries(path: Path, number: int, plan: CollectPlan) -> int:
    """Entries of a chunk by its header alone, which says too whether the file is as long as it was."""
    try:
        with safe_open(path, "pt") as file:
            _label(path, file.metadata(), number, plan)
            return int(file.get_slice("values").get_shape()[0])
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read(path: Path, number: int, plan: CollectPlan, *, checked: bool) -> dict[str, Tensor]:
    """All tensors of a chunk, mapped into memory, and compared with their checksum unless that was done before."""
    try:
        with safe_open(path, "pt") as file:
            label = _label(path, file.metadata(), number, plan)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if not checked and _checksum(tensors) != label["sha256"]:
        raise UserError(f"{path} was altered: its checksum is not its own. {REPAIR}")
    return tensors


def _label(path: Path, metadata: Mapping[str, str] | None, number: int, plan: CollectPlan) -> dict[str, Any]:
    """What a chunk says of itself."""
    try:
        label: dict[str, Any] = json.loads((metadata or {})[LABEL])
        identity, own, _ = label["identity"], label["number"], label["sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no chunk of collected codes, or damaged. {REPAIR}") from error
    if identity != plan.identity:
        raise UserError(f"{path} belongs to another collection: its SAE, text or settings differ. {REPAIR}")
    if own != number:
        raise UserError(f"{path} holds chunk {own}: it was renamed. {REPAIR}")
    return label


def _damaged(path: Path, error: Exception) -> UserError:
    size = path.stat().st_size if path.exists() else 0
    return UserError(f"{path} is truncated or damaged ({size} bytes; {error}). {REPAIR}")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)};".encode())
        digest.update(tensors[name].numpy().view(np.uint8).data)
    return digest.hexdigest()
