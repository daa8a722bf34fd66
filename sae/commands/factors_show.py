"""The pages of a dictionary that is there: read from its folder, made, opened or served."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import Text
from sae.commands.binding import make
from sae.commands.dashboard_checks import check_address, check_place
from sae.commands.dashboard_plan import DashboardPlaces, open_chosen_text
from sae.commands.entry import say
from sae.commands.factors_job import FactorsJob, factors_job
from sae.commands.factors_node import PagesNode
from sae.commands.factors_outlook import pages_outlook
from sae.commands.factors_pages import build_pages
from sae.commands.factors_settings import read_pages_node
from sae.commands.origin import Origin, open_origin
from sae.commands.places import check_room
from sae.commands.progress import Interrupted
from sae.commands.saved_sae import check_fits, load_saved, settings_of
from sae.commands.show_node import ShowNode, read_show
from sae.commands.source_config import SourceConfig, read_source_config
from sae.errors import UserError
from sae.formats.native import load_layer_units, read_cfg
from sae.models.hook_points import known_name
from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["pages_of", "show_pages"]


def pages_of(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """Pages of a dictionary that is there."""
    path, problems = Path(str(tree["from"])).expanduser(), []
    cfg, units = read_cfg(path), load_layer_units(path)
    if units is None:
        raise UserError(
            f"the SAE in {path} reads one place, and factors are of several layers. Its pages: python scripts/dashboard.py "
            f"from={path}. A dictionary of several layers: scripts/factors.py without from=, or scripts/train.py hook.mix=true"
        )
    config = read_source_config(settings_of(tree, cfg, overrides), problems, architecture=cfg["architecture"])
    pages, show = read_pages_node(tree, problems), read_show(tree, problems)
    if config is not None:
        problems += _misfits(config, cfg, units)
    if pages is not None:
        problems += pages.misfits(cfg["d_sae"])
    places = make(lambda: DashboardPlaces.of(path, None if show is None else show.out, command="factors"), problems)
    if places is not None:
        make(lambda: check_place(places.out), problems)
    if show is not None and show.serve and not show.dry_run:
        make(lambda: check_address(show.host, show.port), problems)
    if problems or config is None or pages is None or show is None:
        raise UserError("\n".join(problems))
    signals = StopSignals()
    origin = open_origin(config)
    for point in origin.inputs:
        units.number(point.name)  # of modules the names are known now
    text = open_chosen_text(origin, split=pages.split)
    signals.install()
    try:
        as_they_are = not any(line.startswith(("pages.", "data")) for line in overrides)
        return show_pages(path, show, pages, origin, text, signals, as_they_are=as_they_are)
    except Interrupted:
        say("Stopped; what is finished is kept, and the same command goes on.")
        return signals.exit_status
    finally:
        signals.restore()


def _misfits(config: SourceConfig, cfg: Mapping[str, Any], units: LayerUnits) -> list[str]:
    """What does not go with the dictionary, as far as it shows before there is a model."""
    if not config.places.mix:
        return [
            "these pages are of several layers: name them by hook.layers=. Pages of one layer: scripts/dashboard.py with from= "
            "and hook.layer="
        ]
    problems: list[str] = []
    for place in config.places.inputs:
        name = known_name(**place)
        if name is not None:
            make(partial(units.number, name), problems)
    (width,), _ = config.widths()
    if width is not None and width != cfg["d_in"]:
        problems.append(f"the dictionary reads {cfg['d_in']} dimensions, the layers of this model have {width}")
    return list(dict.fromkeys(problems))


def show_pages(
    path: Path,
    show: ShowNode,
    pages: PagesNode,
    origin: Origin,
    text: Text,
    signals: StopSignals,
    *,
    as_they_are: bool = False,
) -> int:
    """Make the pages of a dictionary, and open or serve them; gives the exit status.

    Args:
        path: folder of the dictionary or its run.
        show: where to, and what is done with them.
        pages: what they show.
        origin: model and layers.
        text: the text.
        signals: stop flag.
        as_they_are: whether pages that are there are served without being made again.

    Raises:
        UserError: something that was asked for cannot be had, or the disk is full.
        Interrupted: a signal came.
    """
    cfg = read_cfg(path)
    sae, units = load_saved(path, origin)
    check_fits(sae, cfg, origin, say=say)
    assert units is not None
    job = factors_job(path, show.out, node=pages, cfg=cfg, origin=origin, text=text, sae=sae, units=units)
    if show.serve and as_they_are and not show.dry_run and job.folder.has_pages():
        say(f"{job.folder.out} is built already, and served as it is.")
        return _serve(job, show, signals)
    words = f"{job.blocks.num_rows:,} tokens of {origin.config.source.name} at {len(units.layers)} layers"
    found = pages_outlook(job)
    remedy = "choose another place with out=, or fewer pages.tokens"
    check_room(job.folder.out, found.disk_bytes, what="the dashboard", remedy=remedy)
    say(f"{job.folder.places.title}: pages of {sae.d_sae:,} factors on {words}\n  {found.in_words()}")
    if show.dry_run:
        return 0
    if not build_pages(job, signals):
        say(f"Part {pages.shard} of the codes is made. Whoever makes the last one writes the pages.")
        return 0
    if show.serve:
        return _serve(job, show, signals)
    if show.open:
        import webbrowser

        webbrowser.open((job.folder.out / "index.html").absolute().as_uri())
    return 0


def _serve(job: FactorsJob, show: ShowNode, signals: StopSignals) -> int:
    from sae.factors.live import serve_factors

    signals.restore()  # the server ends on Ctrl-C by itself
    return serve_factors(
        job.folder.out,
        job.subject,
        settings=job.settings,
        saliency=job.saliency,
        host=show.host,
        port=show.port,
        open_browser=show.open,
        say=say,
    )
