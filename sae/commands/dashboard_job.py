"""A dashboard that is to be built: everything checked and loaded, nothing written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sae.architectures.base import SparseAutoencoder
from sae.commands.binding import bind, make, parameters_of, typed
from sae.commands.dashboard_checks import check_address, check_place, check_texts
from sae.commands.dashboard_exports import neuronpedia_names
from sae.commands.dashboard_node import DashboardNode
from sae.commands.dashboard_outlook import Outlook, outlook
from sae.commands.dashboard_plan import (
    DashboardPlaces,
    chosen_blocks,
    collection,
    loss_effects,
    open_chosen_text,
)
from sae.commands.entry import say
from sae.commands.origin import Origin, open_origin
from sae.commands.pages_folder import PagesFolder
from sae.commands.places import check_room
from sae.commands.saved_sae import check_fits, load_saved, settings_of
from sae.commands.show_node import ShowNode, read_show
from sae.commands.source_config import read_source_config
from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.explanations import Explanations, read_explanations
from sae.errors import UserError
from sae.formats.native import read_cfg
from sae.tokens.blocks import TokenBlocks

__all__ = ["Job", "prepare"]


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """What a dashboard is built from.

    Attributes:
        node: settings.
        show: where it goes, and what is done with it.
        folder: that it is written to.
        cfg: what the SAE's `cfg.json` says.
        origin: model and hook points.
        sae: the SAE.
        blocks: the text.
        effects: what estimates effects on the loss; None where there are none.
        explanations: of latents.
        keywords: of `collect`, those that the plan of the codes was made of.
    """

    node: DashboardNode
    show: ShowNode
    folder: PagesFolder
    cfg: Mapping[str, Any]
    origin: Origin
    sae: SparseAutoencoder
    blocks: TokenBlocks
    effects: LossEffects | None
    explanations: Explanations
    keywords: Mapping[str, Any]

    def outlook(self) -> Outlook:
        """What it will take; a piece of the text is read for it.

        Raises:
            UserError: the disk has not so much room.
        """
        found = outlook(self.origin, self.sae, self.blocks, self.node, self.keywords, self.folder.codes())
        if found.seconds is not None:
            remedy = "choose another place with out=, or fewer dashboard.tokens"
            check_room(self.folder.out, found.disk_bytes, what="the dashboard", remedy=remedy)
        return found


def prepare(tree: dict[str, Any], overrides: Sequence[str]) -> Job:
    """Check everything, the cheapest first, and load model, SAE and text.

    Args:
        tree: the composed configuration.
        overrides: as typed.

    Raises:
        UserError: all mistakes that show before the model is loaded, or the first after it.
    """
    if tree["from"] is None:
        raise UserError("from= must be given: an SAE's folder or a run's, as in from=runs/NAME")
    problems: list[str] = []
    parameters = parameters_of(DashboardNode)
    problems += bind("dashboard", tree["dashboard"], parameters)
    node = None if problems else make(lambda: DashboardNode(**typed(tree["dashboard"], parameters)), problems)
    show = read_show(tree, problems)
    path = Path(str(tree["from"])).expanduser()
    cfg = read_cfg(path)
    config = read_source_config(settings_of(tree, cfg, overrides), problems, architecture=cfg["architecture"])
    places = make(lambda: DashboardPlaces.of(path, None if show is None else show.out), problems)
    if places is not None:
        make(lambda: check_place(places.out), problems)
    explanations = Explanations()
    if node is not None and node.explanations is not None:
        file = Path(node.explanations).expanduser()
        explanations = make(lambda: read_explanations(file, cfg["d_sae"]), problems) or explanations
    if show is not None and show.serve and not show.dry_run:
        make(lambda: check_address(show.host, show.port), problems)
    if problems or node is None or show is None or config is None or places is None:
        raise UserError("\n".join(problems))
    if config.places.mix:
        raise UserError(
            "the SAE reads mixed layers, and these pages are of one: name it by hook.layer=. Pages of a factor at all layers: "
            f"python scripts/factors.py from={path}"
        )
    origin = open_origin(config)
    sae, _ = load_saved(path, origin)
    check_fits(sae, cfg, origin, say=say)
    if "neuronpedia" in node.export:
        neuronpedia_names(node, origin, d_sae=sae.d_sae, architecture=cfg["architecture"])
    check_texts(node.texts, origin, sae)
    sae.to(origin.model.device)
    text = open_chosen_text(origin, split=node.split)
    blocks = chosen_blocks(text, tokens=node.tokens, split=node.split, setting="dashboard.tokens")
    effects = loss_effects(origin, sae, node)
    plan, keywords = collection(origin, sae, blocks, effects)
    return Job(
        node=node,
        show=show,
        folder=PagesFolder(places=places, plan=plan),
        cfg=cfg,
        origin=origin,
        sae=sae,
        blocks=blocks,
        effects=effects,
        explanations=explanations,
        keywords=keywords,
    )
