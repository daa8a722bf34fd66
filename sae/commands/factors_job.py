"""What the pages of a dictionary over several layers are made from, and what can be refused before they are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sae.activations.mixed import MIXED, MixedLayers
from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import Text
from sae.commands.dashboard_checks import check_place
from sae.commands.dashboard_plan import CHUNK_ROWS, DashboardPlaces, chosen_blocks
from sae.commands.factors_node import PagesNode
from sae.commands.origin import Origin
from sae.commands.pages_folder import PagesFolder
from sae.commands.provenance import provenance
from sae.dashboards.collect.collector import plan_collection
from sae.dashboards.latents.settings import PageSettings
from sae.errors import UserError
from sae.factors.paths import path_blocks
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.settings import FactorSettings
from sae.factors.subject import FactorSubject
from sae.tokens.blocks import TokenBlocks

__all__ = ["FactorsJob", "check_texts", "factors_job"]


@final
@dataclass(frozen=True, kw_only=True)
class FactorsJob:
    """What pages are made from.

    Attributes:
        node: settings.
        folder: that they are written to.
        cfg: what the dictionary's `cfg.json` says.
        origin: model and layers.
        sae: the dictionary, which takes rows in units of their layers.
        units: of the layers.
        blocks: the text.
        keywords: of `collect`, those that the plan of the codes was made of.
    """

    node: PagesNode
    folder: PagesFolder
    cfg: Mapping[str, Any]
    origin: Origin
    sae: SparseAutoencoder
    units: LayerUnits
    blocks: TokenBlocks
    keywords: Mapping[str, Any]

    @property
    def source(self) -> MixedLayers:
        """Rows of all layers."""
        return MixedLayers(self.origin.harvester, self.units)

    @property
    def subject(self) -> FactorSubject:
        """What texts are read with."""
        return FactorSubject(model=self.origin.model, sae=self.sae, points=self.origin.inputs, units=self.units)

    @property
    def settings(self) -> FactorSettings:
        """What pages show."""
        node = self.node
        return FactorSettings(
            pages=PageSettings(
                top=node.top,
                tokens=5,
                latents_size=8,
                window_before=node.window,
                window_after=node.window,
                layout=node.layout,
                seed=self.origin.config.seed,
                memory_bytes=round(node.memory_gb * 1e9),
            ),
            importance_top=node.importance_top,
            strongest=node.strongest,
            occurrences=node.occurrences,
        )

    @property
    def saliency(self) -> SaliencySettings:
        """How much saliency is measured, and how."""
        return self.node.saliency_settings(self.origin.config.seed, takes_shortlist=self.sae.takes_shortlist)


def factors_job(
    path: Path,
    out: str | None,
    *,
    node: PagesNode,
    cfg: Mapping[str, Any],
    origin: Origin,
    text: Text,
    sae: SparseAutoencoder,
    units: LayerUnits,
) -> FactorsJob:
    """What pages of a dictionary will be made from; nothing is written yet.

    Args:
        path: of the dictionary or its run.
        out: where to; None: in the run's folder.
        node: settings.
        cfg: what the dictionary's `cfg.json` says.
        origin: model and layers.
        text: the text.
        sae: the dictionary.
        units: of the layers.

    Raises:
        UserError: the folder holds something else, or a text is named that can have no page.
    """
    places = DashboardPlaces.of(path, out, command="factors")
    check_place(places.out)
    blocks = chosen_blocks(text, tokens=node.tokens, split=node.split, setting="pages.tokens")
    keywords: dict[str, Any] = {
        "hook_points": [MIXED],
        "layers": units.layers,
        "blocks": blocks,
        "belongs_to": {
            **provenance(origin),
            "layer_units": hashlib.sha256(units.means.numpy().tobytes() + units.scales.numpy().tobytes()).hexdigest(),
            "settings": sae.config(),
        },
        "chunk_blocks": max(1, CHUNK_ROWS // (blocks.context_length * len(units.layers))),
        "effects": None,
    }
    job = FactorsJob(
        node=node,
        folder=PagesFolder(places=places, plan=plan_collection(sae, **keywords)),
        cfg=cfg,
        origin=origin,
        sae=sae.to(origin.model.device),
        units=units,
        blocks=blocks,
        keywords=keywords,
    )
    check_texts(node, origin)
    return job


def check_texts(node: PagesNode, origin: Origin) -> None:
    """Refuse texts that can have no page before anything that may take long.

    Args:
        node: what pages show.
        origin: model and layers.

    Raises:
        UserError: a text is too long or has no token.
    """
    for number, text in enumerate(node.texts):
        try:
            path_blocks(origin.model, text)
        except UserError as error:
            raise UserError(f"pages.texts[{number}]: {error}") from None
