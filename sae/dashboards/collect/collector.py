"""One pass over a text: the model up to the hook point, the encoder, and the sparse codes written to the disk chunk by chunk.

A chunk's numbers depend on nothing but its own blocks and the settings, so that a pass that was stopped, or shared out among
processes, ends with the same files, to the byte, as one that ran through.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from sae.activations.row_source import RowSource
from sae.architectures.base import SparseAutoencoder
from sae.dashboards.collect.codes import CodeChunk, CollectedCodes, chunk_path, damage, write_chunk
from sae.dashboards.collect.encode import ENCODED_AT_ONCE, encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.collect.plan import MANIFEST, CollectPlan, read_plan
from sae.errors import UserError
from sae.functional.files import is_disk_full, write_whole
from sae.functional.sparse import SparseActs
from sae.functional.sparse_rows import stack_rows
from sae.tokens.blocks import TokenBlocks

__all__ = ["CollectEstimate", "collect", "estimate", "plan_collection"]

CHUNK_COPIES = 3  # of a chunk's entries, while it is joined and written


@dataclass(frozen=True)
class CollectEstimate:
    """What a pass will take, in bytes: on the disk, and of memory beside model and SAE."""

    disk: int
    memory: int


def collect(
    folder: Path,
    *,
    sae: SparseAutoencoder,
    source: RowSource,
    hook_points: Sequence[str],
    blocks: TokenBlocks,
    belongs_to: Mapping[str, Any],
    chunk_blocks: int,
    effects: LossEffects | None,
    layers: Sequence[str] = (),
    shard: tuple[int, int] = (0, 1),
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> CollectedCodes | None:
    """Write the codes of some token blocks. Chunks that an earlier call finished are kept if they are undamaged.

    Args:
        folder: where to; made if needed.
        sae: takes raw activations: an exported SAE.
        source: gives what the encoder reads; not asked where effects are estimated, whose pass has the same activations.
        hook_points: names of what the encoder reads, in the order in which it lies side by side.
        blocks: the text.
        belongs_to: what the manifest says about model, text and SAE; JSON can hold it.
        chunk_blocks: blocks in a file. Memory is bounded by it.
        effects: estimates the effects on the loss.
        layers: that `source` mixes: a position then has a row for each, and there are no effects.
        shard: (i, n): write every n-th chunk from the i-th on; another process writes the others.
        on_rows: told (tokens done, tokens in all) of this shard.

    Returns:
        The collection; None where other shards' chunks are yet to come.

    Raises:
        UserError: the folder holds another collection, there are no rows, an activation is not finite, sizes or names do not
            fit, or the disk is full. Chunks that are finished stay.
        ValueError: the source mixes other layers.
    """
    index, count = shard
    if not 0 <= index < count:
        raise UserError(f"shard {index} of {count} does not exist: expected 0 to {count - 1}.")
    plan = plan_collection(
        sae,
        hook_points=hook_points,
        blocks=blocks,
        belongs_to=belongs_to,
        chunk_blocks=chunk_blocks,
        effects=effects,
        layers=layers,
    )
    widths = source.widths if effects is None else effects.widths
    if effects is None and source.layers != plan.layers:
        raise ValueError(f"the source mixes the layers {source.layers}, the codes are to be of {plan.layers}")
    _check_fit(sae, hook_points, widths)
    try:
        _claim(folder, plan)
        reader = _Reader(sae, source, plan, blocks, effects)
        _write_chunks(folder, plan, range(index, plan.num_chunks, count), reader, on_rows)
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        raise UserError(
            f"The disk of {folder} is full ({shutil.disk_usage(folder).free} bytes are free). Free some or choose another "
            "folder; finished chunks are kept, and the same command goes on."
        ) from error
    whole = all(chunk_path(folder, number).exists() for number in range(plan.num_chunks))
    return CollectedCodes(folder) if whole else None


def plan_collection(
    sae: SparseAutoencoder,
    *,
    hook_points: Sequence[str],
    blocks: TokenBlocks,
    belongs_to: Mapping[str, Any],
    chunk_blocks: int,
    effects: LossEffects | None,
    layers: Sequence[str] = (),
) -> CollectPlan:
    """What the manifest of such a collection says; its `identity` tells whether two are the same.

    Raises:
        UserError: there are no rows, or `chunk_blocks` is below 1.
        ValueError: effects are asked for of several layers.
    """
    if layers and effects is not None:
        raise ValueError("effects on the loss are of one place in the model, and there are several layers")
    if chunk_blocks < 1:
        raise UserError(f"a chunk of {chunk_blocks} blocks holds nothing: expected at least 1.")
    if blocks.num_rows == 0:
        raise UserError(f"Nothing to collect: {len(blocks)} token blocks hold no token but special ones. Give more text.")
    return CollectPlan(
        belongs_to=json.loads(json.dumps(dict(belongs_to))),
        sae_sha256=_sae_sha256(sae),
        architecture=type(sae).__name__,
        num_latents=sae.d_sae,
        hook_points=tuple(hook_points),
        blocks_sha256=blocks.fingerprint(),
        num_blocks=len(blocks),
        context_length=blocks.context_length,
        num_rows=blocks.num_rows,
        chunk_blocks=chunk_blocks,
        effects=None if effects is None else effects.describe(),
        layers=tuple(layers),
    )


def estimate(
    sae: SparseAutoencoder,
    blocks: TokenBlocks,
    *,
    active: float,
    chunk_blocks: int,
    piece_blocks: int,
    effects: LossEffects | None,
    rows_per_position: int = 1,
) -> CollectEstimate:
    """What a pass will take.

    Args:
        sae: the SAE.
        blocks: the text.
        active: latents that fire on a row, on average (L0).
        chunk_blocks: blocks in a chunk.
        piece_blocks: blocks that are read at once: `RowSource.piece_blocks`.
        effects: estimates the effects on the loss.
        rows_per_position: layers at each position.
    """
    entry = 8 if effects is None else 12
    piece_blocks = min(piece_blocks if effects is None else effects.forward_blocks, chunk_blocks)
    chunk_rows, piece_rows = (count * blocks.context_length * rows_per_position for count in (chunk_blocks, piece_blocks))
    encoded = min(piece_rows, max(1, ENCODED_AT_ONCE // sae.d_sae)) * sae.d_sae
    rows = piece_rows * (sae.d_in + (0 if effects is None else sae.d_out))
    graph = 0 if effects is None else effects.graph_bytes(piece_rows)
    return CollectEstimate(
        disk=round(blocks.num_rows * rows_per_position * (active * entry + 8)) + blocks.ids.numel() * 10,
        memory=round(CHUNK_COPIES * chunk_rows * active * entry) + 4 * (encoded + rows) + graph,
    )


@final
class _Reader:
    """Codes of some token blocks, a piece at a time.

    Args:
        sae: the SAE.
        source: gives what the encoder reads, where effects do not.
        plan: says what the encoder reads, and how many rows there are at a position.
        blocks: the text.
        effects: estimates the effects on the loss.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        source: RowSource,
        plan: CollectPlan,
        blocks: TokenBlocks,
        effects: LossEffects | None,
    ) -> None:
        self.blocks = blocks
        self._sae, self._source, self._plan, self._effects = sae, source, plan, effects
        self._piece_blocks = source.piece_blocks if effects is None else effects.forward_blocks

    def chunk(self, span: Int[Tensor, " chosen"], on_read: Callable[[int], None]) -> CodeChunk:
        """The codes of consecutive blocks, read in pieces whose sizes depend on the span alone.

        Args:
            span: numbers of the blocks.
            on_read: told before every piece how many tokens were read.
        """
        parts: list[SparseActs] = []
        effects: list[Tensor] = []
        done = 0
        for piece in span.split(self._piece_blocks):
            on_read(done)
            acts, estimated = self._piece(piece)
            parts.append(acts)
            effects += [] if estimated is None else [estimated]
            done += acts.pattern.num_rows // self._plan.rows_per_position
        return CodeChunk(
            blocks=self.blocks.select(span), acts=stack_rows(parts), effects=torch.cat(effects) if effects else None
        )

    def _piece(self, piece: Int[Tensor, " chosen"]) -> tuple[SparseActs, Float[Tensor, " nnz"] | None]:
        hook_points = self._plan.hook_points
        if self._effects is None:
            return encode_positive(self._sae, join_rows(self._source.rows(self.blocks, piece).values, hook_points)), None
        seen = self._effects.run(self.blocks.select(piece))
        x = join_rows(seen.values, hook_points)
        acts = encode_positive(self._sae, x)
        return acts, self._effects.estimate(acts, seen.gradients, x)


def _write_chunks(
    folder: Path, plan: CollectPlan, numbers: Sequence[int], reader: _Reader, on_rows: Callable[[int, int], None]
) -> None:
    """Write those of some chunks that are not there, or are damaged."""
    rows_per_block = reader.blocks.rows_per_block()
    spans = {number: torch.tensor(plan.span(number)) for number in numbers}
    total = sum(int(rows_per_block[span].sum()) for span in spans.values())
    done = 0
    for number, span in spans.items():
        if not chunk_path(folder, number).exists() or damage(folder, number, plan) is not None:
            write_chunk(folder, number, reader.chunk(span, lambda read, done=done: on_rows(done + read, total)), plan)
        done += int(rows_per_block[span].sum())
        on_rows(done, total)


def _claim(folder: Path, plan: CollectPlan) -> None:
    """Make the folder this collection's, or find that it is."""
    if not (folder / MANIFEST).exists():
        write_whole(folder / MANIFEST, plan.to_json())
        return
    found = read_plan(folder)
    if found.identity != plan.identity:
        raise UserError(f"{folder} holds other codes, {found.difference(plan)}. Choose another folder, or delete it.")


def _check_fit(sae: SparseAutoencoder, hook_points: Sequence[str], widths: Mapping[str, int]) -> None:
    unknown = [name for name in hook_points if name not in widths]
    if unknown:
        raise UserError(f"hook point {unknown[0]} is not among those that are read: {', '.join(widths)}.")
    width = sum(widths[name] for name in hook_points)
    if width != sae.d_in:
        raise UserError(
            f"the SAE reads {sae.d_in} dimensions, {' + '.join(hook_points)} has {width}: give the SAE's own hook point."
        )


def _sae_sha256(sae: SparseAutoencoder) -> str:
    """Checksum of an SAE's configuration and weights."""
    digest = hashlib.sha256(json.dumps([type(sae).__name__, sae.config()], sort_keys=True).encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
