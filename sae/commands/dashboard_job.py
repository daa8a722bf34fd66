"""A dashboard that is to be built: everything checked and loaded, nothing written."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

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
from sae.commands.saved_sae import check_fits, load_saved, settings_of
from sae.commands.source_config import read_source_config
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.collect.plan import CollectPlan, read_plan
from sae.dashboards.latents.explanations import Explanations, read_explanations
from sae.dashboards.pages.folder import Dashboard
from sae.errors import UserError
from sae.formats.native import read_cfg
from sae.tokens.blocks import TokenBlocks

__all__ = ["Job", "ShowNode", "prepare"]


@dataclass(frozen=True, kw_only=True)
class ShowNode:
    """The keys of `conf/dashboard.yaml` that say where the dashboard goes and what is done with it."""

    out: str | None = None
    open: bool = False
    serve: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must lie between 0 and {2**16 - 1}, got {self.port}")


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """What a dashboard is built from.

    Attributes:
        node: settings.
        show: where it goes, and what is done with it.
        places: folders.
        cfg: what the SAE's `cfg.json` says.
        origin: model and hook points.
        sae: the SAE.
        blocks: the text.
        effects: what estimates effects on the loss; None where there are none.
        explanations: of latents.
        plan: of the codes.
        keywords: of `collect`, those that the plan was made of.
    """

    node: DashboardNode
    show: ShowNode
    places: DashboardPlaces
    cfg: Mapping[str, Any]
    origin: Origin
    sae: SparseAutoencoder
    blocks: TokenBlocks
    effects: LossEffects | None
    explanations: Explanations
    plan: CollectPlan
    keywords: Mapping[str, Any]

    @cached_property
    def collected(self) -> Path:
        """Where the codes are written."""
        return self.places.collected(self.plan)

    def codes(self) -> CollectedCodes | None:
        """The codes, if they are complete."""
        try:
            return CollectedCodes(self.collected)
        except UserError:
            return None

    def is_built(self) -> bool:
        """Whether there are pages of these codes."""
        return self.collected == self.places.usual and self.codes() is not None and self.has_pages()

    def has_pages(self) -> bool:
        """Whether there are pages of this SAE, with whatever settings."""
        try:
            Dashboard(self.places.out)
            return read_plan(self.places.usual).sae_sha256 == self.plan.sae_sha256
        except UserError:
            return False

    def outlook(self) -> Outlook:
        """What it will take; a piece of the text is read for it.

        Raises:
            UserError: the disk has not so much room.
        """
        found = outlook(self.origin, self.sae, self.blocks, self.node, self.keywords, self.codes())
        above = next(folder for folder in self.places.out.absolute().parents if folder.exists())
        free = shutil.disk_usage(above).free
        if found.seconds is not None and found.disk_bytes > free:
            raise UserError(
                f"the dashboard takes about {found.disk_bytes / 1e9:.2f} GB, {above} has {free / 1e9:.2f} GB free: choose "
                "another place with out=, or fewer dashboard.tokens"
            )
        return found

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            UserError: one is there.
        """
        out = self.places.out.absolute()
        out.parent.mkdir(parents=True, exist_ok=True)
        path = out.parent / f".{out.name}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is writing {self.places.out}: wait for it, or choose another place: out="
            ) from None
        try:
            yield
        finally:
            if sys.platform != "win32":  # while it is held: who waits for it sees that its name is gone, and asks anew
                path.unlink(missing_ok=True)
            lock.release()


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
    show = _read_show(tree, problems)
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
    blocks = chosen_blocks(origin, open_chosen_text(origin, node), node)
    effects = loss_effects(origin, sae, node)
    plan, keywords = collection(origin, sae, blocks, effects)
    return Job(
        node=node,
        show=show,
        places=places,
        cfg=cfg,
        origin=origin,
        sae=sae,
        blocks=blocks,
        effects=effects,
        explanations=explanations,
        plan=plan,
        keywords=keywords,
    )


def _read_show(tree: Mapping[str, Any], problems: list[str]) -> ShowNode | None:
    parameters = parameters_of(ShowNode)
    given = {key: tree[key] for key in parameters}
    found = [mistake.removeprefix("dashboard.") for mistake in bind("dashboard", given, parameters)]
    problems += found
    return None if found else make(lambda: ShowNode(**typed(given, parameters)), problems)
