"""Activations read from a store: the same rows as from the transformer, bit for bit."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.manifest import BLOCKS, MANIFEST, PARTIAL, StoreManifest, read_manifest
from sae.activations.memory import copy_rows_
from sae.activations.row_source import rows_without_values
from sae.activations.verify import Verify, verify_store
from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["StoredRows"]


@final
class StoredRows:
    """A store's rows, memory-mapped: nothing is read before it is asked for.

    Blocks are found by their content, so any selection of the store's text can be read, in any order.

    Args:
        folder: the store.
        hook_points: names to read; None reads all.
        model: provenance of the model that the rows are wanted of; None takes the store's.
        verify: `quick` or `full`, see `verify_store`.

    Attributes:
        manifest: what the store holds.
        blocks: its token blocks.

    Raises:
        UserError: there is no finished store, it is damaged or of another model, or a hook point is not in it.
    """

    layers = ()
    rows_per_position = 1

    def __init__(
        self,
        folder: Path,
        *,
        hook_points: Sequence[str] | None = None,
        model: Mapping[str, Any] | None = None,
        verify: Verify = "quick",
    ) -> None:
        self.manifest = _open_manifest(folder)
        names = tuple(self.manifest.widths) if hook_points is None else tuple(hook_points)
        _require(folder, self.manifest, names, model)
        verify_store(folder, self.manifest, verify)
        self.blocks = TokenBlocks(**load_file(folder / BLOCKS))
        if self.blocks.fingerprint() != self.manifest.blocks_sha256:
            raise UserError(f"{folder / BLOCKS} holds other token blocks than {MANIFEST} says. Restore it, or harvest again.")
        self._names = names
        self._shards: list[dict[str, Tensor]] = []
        for shard in self.manifest.shards:
            with safe_open(folder / shard.file, "pt") as file:
                self._shards.append({name: file.get_tensor(name) for name in names})  # mapped, not read
        sizes = torch.tensor([shard.num_blocks for shard in self.manifest.shards])
        rows = self.blocks.rows_per_block()
        self._shard_of = torch.arange(len(sizes)).repeat_interleave(sizes)
        shard_start = torch.tensor([0, *(shard.rows for shard in self.manifest.shards)]).cumsum(0)
        self._first_row = (rows.cumsum(0) - rows)[: len(self._shard_of)] - shard_start[self._shard_of]
        self._block_of = {key: number for number, key in enumerate(_block_keys(self.blocks))}
        self._located = (self.blocks, torch.arange(len(self.blocks)))

    @property
    def widths(self) -> dict[str, int]:
        """Hook point name -> width of its activations."""
        return {name: self.manifest.widths[name] for name in self._names}

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the values."""
        return getattr(torch, self.manifest.dtype)

    @property
    def piece_blocks(self) -> int:
        """Some ten thousand rows: a few dozen megabytes."""
        return 128

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """Activations at the kept positions of `blocks[index]`, block by block in that order.

        Args:
            blocks: token blocks, each of which the store holds.
            index: blocks to read, in this order.

        Returns:
            The rows.

        Raises:
            UserError: the store was made from other text, tokenizer, packing or context length.
        """
        chosen = blocks.select(index)
        result = rows_without_values(chosen, widths=self.widths, dtype=self.dtype)
        numbers = self._locate(blocks)[index]
        done = 0
        places = zip(numbers.tolist(), chosen.rows_per_block().tolist(), strict=True)
        for number, count in places:
            if count == 0:
                continue
            first = int(self._first_row[number])
            for name, values in self._shards[int(self._shard_of[number])].items():
                copy_rows_(result.values[name], done, values[first : first + count])
            done += count
        return result

    def _locate(self, blocks: TokenBlocks) -> Int[Tensor, " blocks"]:
        """The store's number of each block. Kept for the blocks last asked about: a run asks about the same all along."""
        known, numbers = self._located
        if blocks is known:
            return numbers
        found = [self._block_of.get(key, -1) for key in _block_keys(blocks)]
        if missing := found.count(-1):
            raise UserError(
                f"{missing} of {len(blocks)} token blocks are not in the store, which holds {self.manifest.num_blocks} of "
                f"{self.manifest.context_length} tokens: here a block has {blocks.context_length}. It was harvested from other "
                "text or with other `data` settings: use the store's, or harvest again."
            )
        self._located = (blocks, torch.tensor(found))
        return self._located[1]


def _open_manifest(folder: Path) -> StoreManifest:
    if (folder / MANIFEST).exists():
        return read_manifest(folder / MANIFEST)
    if (folder / PARTIAL).exists():
        raise UserError(f"The store in {folder} is not finished. Run the harvest that began it again: it goes on where it was.")
    raise UserError(f"There is no activation store in {folder}: expected {MANIFEST} there. Check `activations.path`.")


def _require(folder: Path, manifest: StoreManifest, names: Sequence[str], model: Mapping[str, Any] | None) -> None:
    """Refuse a store that lacks a hook point or holds another model's activations."""
    for name in names:
        if name not in manifest.hook_points:
            held = ", ".join(manifest.hook_points)
            raise UserError(f"The store in {folder} has no hook point {name!r}: it holds {held}. Choose one of them as `hook`.")
    if model is not None:
        _require_model(folder, manifest.model, model)


def _require_model(folder: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, Mapping):  # a second model
            of_other = held.get(key)
            _require_model(folder, of_other if isinstance(of_other, Mapping) else {}, value)
        elif key in ("weights_sha256", "architecture", "dtype") and held.get(key) != value:
            raise UserError(
                f"The store in {folder} is of another model: its {key} is {held.get(key)!r}, this run's {value!r}. Choose the "
                "store's model, or harvest again."
            )


def _block_keys(blocks: TokenBlocks) -> list[bytes]:
    """A checksum of what each block's rows depend on: ids, attention and which positions are kept."""
    parts = (blocks.ids.int().contiguous(), blocks.attention.contiguous(), blocks.keep.contiguous())
    arrays = [part.numpy() for part in parts]
    return [
        hashlib.blake2b(b"".join(row.tobytes() for row in rows), digest_size=16).digest() for rows in zip(*arrays, strict=True)
    ]
