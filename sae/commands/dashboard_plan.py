"""What a dashboard will be made from, before it is: places, text, effects on the loss, the plan of the codes."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sae.architectures.base import SparseAutoencoder
from sae.commands.assemble import Text, open_text
from sae.commands.dashboard_node import DashboardNode
from sae.commands.origin import Origin
from sae.commands.provenance import provenance
from sae.dashboards.collect.collector import plan_collection
from sae.dashboards.collect.loss_effects import LossEffects, no_effects_reason
from sae.dashboards.collect.plan import CollectPlan, read_plan
from sae.errors import UserError
from sae.formats.native import find_sae
from sae.models.quick_products import quick_format
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import cut_rows
from sae.tokens.split import OneDocument

__all__ = [
    "CHUNK_ROWS",
    "DashboardPlaces",
    "chosen_blocks",
    "collection",
    "loss_effects",
    "open_chosen_text",
]

CHUNK_ROWS = 32768  # about so many rows in a file of codes: what is lost when the process is killed


@dataclass(frozen=True, kw_only=True)
class DashboardPlaces:
    """Folders of one dashboard.

    Attributes:
        sae: of the SAE.
        run: of its run; None for an SAE that stands alone.
        out: of the dashboard.
        command: that writes it.
    """

    sae: Path
    run: Path | None
    out: Path
    command: str = "dashboard"

    @staticmethod
    def of(path: Path, out: str | None, *, command: str = "dashboard") -> "DashboardPlaces":
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
            folder = Path(out).expanduser()
        elif run is None:
            folder = sae / "dashboard"
        else:
            folder = run / "dashboards" / sae.name if _several(run) else run / "dashboard"
        return DashboardPlaces(sae=sae, run=run, out=folder, command=command)

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
        return " ".join([f"python scripts/{self.command}.py", *map(shlex.quote, given), "serve=true"])

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


def open_chosen_text(origin: Origin, *, split: Literal["all", "held_out"]) -> Text:
    """The text that latents are read on a part of; where all of it is read, a single document is read whole.

    Args:
        origin: says which text.
        split: `all`, or `held_out` documents.

    Raises:
        UserError: the text cannot be read, or is too short.
    """
    try:
        return open_text(origin)
    except OneDocument:
        if split == "held_out":
            raise
        return open_text(origin, whole=True)


def chosen_blocks(text: Text, *, tokens: int, split: Literal["all", "held_out"], setting: str) -> TokenBlocks:
    """The text that latents are read on: whole blocks from everywhere in it, the same whatever the seed.

    Args:
        text: all of it.
        tokens: positions at most.
        split: `all`, or `held_out` documents.
        setting: what `tokens` is called.

    Raises:
        UserError: `tokens` is less than a block.
    """
    parts = [text.held_out]
    if split == "all" and text.train is not None:
        parts.insert(0, text.train)
    elif split == "all":
        rows = text.held_out.num_rows
        while rows < tokens:
            parts.append(text.windows.current())
            rows += parts[-1].num_rows
            text.windows.advance()
    return cut_rows(_joined(parts), tokens, setting=setting)


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
        "belongs_to": provenance(origin),
        "chunk_blocks": max(1, CHUNK_ROWS // blocks.context_length),
        "effects": effects,
    }
    return plan_collection(sae, **keywords), keywords
