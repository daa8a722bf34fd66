"""What a dashboard will be made from, before it is: places, text, and what it takes of memory, disk and time."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae.architectures.base import SparseAutoencoder
from sae.commands.assemble import Text
from sae.commands.dashboard_node import DashboardNode
from sae.commands.origin import Origin, describe_place
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import estimate, plan_collection
from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects, no_effects_reason
from sae.dashboards.collect.plan import CollectPlan, read_plan
from sae.errors import UserError
from sae.formats.native import find_sae
from sae.models.quick_products import quick_format
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import cut_rows

__all__ = ["CHUNK_ROWS", "DashboardPlaces", "Outlook", "chosen_blocks", "collection", "loss_effects", "outlook"]

CHUNK_ROWS = 32768  # about so many rows in a file of codes: what is lost when the process is killed
EXAMPLE_BYTES = 95  # of an example of 41 tokens in a file of pages, and of a latent besides; fitted to the default SAE's files
LATENT_BYTES = 1900


@dataclass(frozen=True, kw_only=True)
class DashboardPlaces:
    """Folders of one dashboard.

    Attributes:
        sae: of the SAE.
        run: of its run; None for an SAE that stands alone.
        out: of the dashboard.
    """

    sae: Path
    run: Path | None
    out: Path

    @staticmethod
    def of(path: Path, out: str | None) -> "DashboardPlaces":
        """The folders that belong to an SAE's or a run's folder.

        A run with one SAE has its dashboard in `dashboard`, one with several in `dashboards/NAME`.

        Raises:
            UserError: there is no SAE, or more than one.
        """
        sae = find_sae(path)
        sae = sae if sae.name not in ("", "..") else sae.resolve()  # has a name and folders above it then
        inside = sae.absolute().parent.name == "saes"
        run = sae.parent.parent if inside else None
        if out is not None:
            return DashboardPlaces(sae=sae, run=run, out=Path(out).expanduser())
        if run is None:
            return DashboardPlaces(sae=sae, run=None, out=sae / "dashboard")
        return DashboardPlaces(sae=sae, run=run, out=run / "dashboards" / sae.name if _several(run) else run / "dashboard")

    @property
    def title(self) -> str:
        """What the dashboard is called: the run, and the SAE where the run has several."""
        if self.run is None:
            return self.sae.absolute().name
        run = self.run.absolute().name
        return f"{run}: {self.sae.name}" if _several(self.run) else run

    @property
    def serving(self) -> str:
        """The command that serves it."""
        path = self.sae if self.run is None or _several(self.run) else self.run
        given = [f"from={path}"]
        if self.out.absolute() != DashboardPlaces.of(path, None).out.absolute():
            given.append(f"out={self.out}")
        return " ".join(["python scripts/dashboard.py", *map(shlex.quote, given), "serve=true"])

    @property
    def usual(self) -> Path:
        """Where the codes of finished pages are."""
        return self.out / "collected"

    def collected(self, plan: CollectPlan) -> Path:
        """Where codes belong: in the dashboard, or beside other codes there until these are complete and have their pages."""
        usual, aside = self.usual, self.out / f".collected-{plan.identity[:12]}"
        if (usual / "manifest.json").exists():
            try:
                return usual if read_plan(usual).identity == plan.identity else aside
            except UserError:  # damaged
                return aside
        return aside if aside.exists() else usual


def _several(run: Path) -> bool:
    return len(list(run.glob("saes/*/cfg.json"))) > 1


def chosen_blocks(origin: Origin, text: Text, node: DashboardNode) -> TokenBlocks:
    """The text that latents are read on: whole blocks from everywhere in it, the same whatever the seed.

    Raises:
        UserError: `dashboard.tokens` is less than a block.
    """
    parts = [text.held_out]
    if node.split == "all" and text.train is not None:
        parts.insert(0, text.train)
    elif node.split == "all":
        rows = text.held_out.num_rows
        while rows < node.tokens:
            parts.append(text.windows.current())
            rows += parts[-1].num_rows
            text.windows.advance()
    return cut_rows(_joined(parts), node.tokens, setting="dashboard.tokens")


def _joined(parts: list[TokenBlocks]) -> TokenBlocks:
    names = ("ids", "attention", "keep", "document")
    return TokenBlocks(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def loss_effects(origin: Origin, sae: SparseAutoencoder, node: DashboardNode) -> LossEffects | None:
    """What estimates effects on the loss; None where there are none, or none are asked for.

    Raises:
        UserError: they are asked for where there are none.
    """
    if node.effects == "none":
        return None
    reason = no_effects_reason([model for model in (origin.model, origin.other_model) if model is not None])
    if reason is None:
        formats = {"auto": quick_format(origin.model.device), "float32": None, "bfloat16": torch.bfloat16}
        dtype = formats[node.effects_dtype]
        return LossEffects(origin.model, sae, inputs=origin.inputs, targets=origin.targets, dtype=dtype)
    if node.effects == "gradient":
        raise UserError(f"dashboard.effects=gradient: {reason}. Leave it at auto, or set it to none.")
    return None


def collection(
    origin: Origin, sae: SparseAutoencoder, blocks: TokenBlocks, effects: LossEffects | None
) -> tuple[CollectPlan, dict[str, Any]]:
    """The plan of the codes, and the keywords of `collect` that determine it."""
    keywords: dict[str, Any] = {
        "hook_points": [point.name for point in origin.inputs],
        "blocks": blocks,
        "belongs_to": {
            "model": origin.model_provenance(),
            "hook_points": {point.name: describe_place(origin, point) for point in origin.hook_points},
            "text": origin.text_provenance(),
        },
        "chunk_blocks": max(1, CHUNK_ROWS // blocks.context_length),
        "effects": effects,
    }
    return plan_collection(sae, **keywords), keywords


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the making takes.

    Attributes:
        memory_bytes: at the peak, model and SAE together with what comes on top.
        disk_bytes: codes and pages.
        seconds: of reading the text; None where it was read before.
    """

    memory_bytes: int
    disk_bytes: int
    seconds: float | None

    def in_words(self) -> str:
        """For the line before the work begins."""
        pace = "already read" if self.seconds is None else f"about {_duration(self.seconds)} to read"
        return f"{pace}, about {self.memory_bytes / 1e9:.1f} GB of memory and {self.disk_bytes / 1e9:.2f} GB of disk"


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


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
