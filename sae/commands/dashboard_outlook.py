"""What the making of a dashboard takes of memory, disk and time, before it begins."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sae.architectures.base import SparseAutoencoder
from sae.commands.dashboard_node import DashboardNode
from sae.commands.origin import Origin
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import estimate
from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.layout import layout_seconds
from sae.tokens.blocks import TokenBlocks

__all__ = ["Outlook", "outlook"]

EXAMPLE_BYTES = 95  # of an example of 41 tokens in a file of pages, and of a latent besides; fitted to the default SAE's files
LATENT_BYTES = 1900
EXAMPLE_SECONDS = 9e-5  # of the default SAE's pages on 20,000 tokens (23 s of one core), mapped by PCA


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the making takes.

    Attributes:
        memory_bytes: at the peak, model and SAE together with what comes on top.
        disk_bytes: codes and pages.
        seconds: of reading the text; None where it was read before.
        writing: seconds of writing pages, exact effects among them.
    """

    memory_bytes: int
    disk_bytes: int
    seconds: float | None
    writing: float

    def in_words(self) -> str:
        """For the line before the work begins."""
        reading = "already read" if self.seconds is None else f"about {_duration(self.seconds)} to read"
        room = f"{self.memory_bytes / 1e9:.1f} GB of memory and {self.disk_bytes / 1e9:.2f} GB of disk"
        return f"{reading}, about {_duration(self.writing)} to write the pages, about {room}"


def outlook(
    origin: Origin,
    sae: SparseAutoencoder,
    blocks: TokenBlocks,
    node: DashboardNode,
    keywords: Mapping[str, Any],
    codes: CollectedCodes | None,
) -> Outlook:
    """Estimate from one piece of the text that is read for it, and timed; from the codes where there are some.

    Args:
        origin: model and hook points.
        sae: the SAE.
        blocks: the text.
        node: settings.
        keywords: of `collection`.
        codes: where they are complete.
    """
    effects: LossEffects | None = keywords["effects"]
    piece = torch.arange(min(len(blocks), origin.harvester.piece_blocks if effects is None else effects.forward_blocks))
    seconds = None
    if codes is None:
        _read_piece(origin, sae, blocks, piece, keywords)  # the first pass of a kind is slow
        began = time.perf_counter()
        rows, entries = _read_piece(origin, sae, blocks, piece, keywords)
        part = node.part[1]
        seconds = (time.perf_counter() - began) / max(1, rows) * blocks.num_rows / part
        active = entries / max(1, rows)
    else:
        active = codes.num_entries / max(1, codes.num_rows)
    models = [model for model in (origin.model, origin.other_model) if model is not None]
    weights = [weight for module in (sae, *(model.module for model in models)) for weight in module.parameters()]
    collecting = estimate(
        sae,
        blocks,
        active=active,
        chunk_blocks=keywords["chunk_blocks"],
        piece_blocks=origin.harvester.piece_blocks,
        effects=effects,
    )
    vocabulary = 4 * origin.model.vocabulary_size * origin.model.d_model if origin.model.has_lm_head else 0
    making = node.memory_gb * 1e9 + 16 * blocks.ids.numel() + 8 * sae.d_sae * (sae.d_in + sae.d_out) + vocabulary
    examples = sae.d_sae * (node.top + node.intervals * node.per_interval + node.random)
    words = (2 * node.window + 1) / 41
    return Outlook(
        memory_bytes=round(sum(one.numel() * one.element_size() for one in weights) + max(collecting.memory, making)),
        disk_bytes=round(collecting.disk + examples * EXAMPLE_BYTES * words + LATENT_BYTES * sae.d_sae),
        seconds=seconds,
        writing=EXAMPLE_SECONDS * words * examples
        + layout_seconds(node.layout, sae.d_sae)
        + (0.0 if effects is None else node.exact_effects * _seconds_of_removal(effects, blocks)),
    )


def _read_piece(
    origin: Origin, sae: SparseAutoencoder, blocks: TokenBlocks, piece: torch.Tensor, keywords: Mapping[str, Any]
) -> tuple[int, int]:
    """Rows and active latents of some blocks."""
    effects: LossEffects | None = keywords["effects"]
    if effects is None:
        x = join_rows(origin.harvester.rows(blocks, piece).values, keywords["hook_points"])
        return len(x), len(encode_positive(sae, x).values)
    seen = effects.run(blocks.select(piece))
    x = join_rows(seen.values, keywords["hook_points"])
    acts = encode_positive(sae, x)
    effects.estimate(acts, seen.gradients, x)
    return len(x), len(acts.values)


def _seconds_of_removal(effects: LossEffects, blocks: TokenBlocks) -> float:
    """Of one latent at one place, as one of a batch."""
    piece = torch.arange(min(len(blocks), effects.forward_blocks))
    position = blocks.keep[piece].int().argmax(dim=1)
    began = time.perf_counter()
    effects.exact(blocks.select(piece), piece, position, torch.zeros_like(piece))
    return (time.perf_counter() - began) / effects.forward_blocks


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
