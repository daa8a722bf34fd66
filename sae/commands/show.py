"""`sae.show`: pages of a dashboard in a notebook, of a latent from its files and of any text through model and SAE."""

import operator
from functools import lru_cache
from pathlib import Path
from typing import SupportsIndex

from sae.dashboards.live.inline import InlineView, find_dashboard, latent_view, read_manifest, text_view
from sae.dashboards.live.text_page import TextReader
from sae.errors import UserError

__all__ = ["show"]

RUNS = Path("runs")


def show(
    what: SupportsIndex | str,
    *,
    dashboard: str | Path | None = None,
    dictionary: str | Path | None = None,
    look: str = "system",
    height: int = 720,
) -> InlineView:
    """Show a latent, or a text with its latents, in a notebook.

    Args:
        what: a latent's number, or a text: model and SAE are then loaded, and kept for the next text.
        dashboard: folder of a dashboard, or of the run or SAE that it stands in. None: the one that was written last in `runs`;
            the line below the page says which.
        dictionary: folder of the SAE, or of its run, where the dashboard stands in neither; texts alone need it.
        look: light, dark, or as the system has it.
        height: of the page, in pixels.

    Returns:
        An object that a notebook shows when it is the last value of a cell.

    Raises:
        UserError: there is no such dashboard or latent, the SAE was not trained by this project, or the text cannot be read.
    """
    if look not in ("light", "dark", "system"):
        raise UserError(f"look={look!r} is unknown: expected light, dark or system.")
    folder = find_dashboard(None if dashboard is None else Path(dashboard).expanduser(), runs=RUNS)
    if not isinstance(what, str):
        return latent_view(folder, _latent(what), height=height, look=look)
    home = _home(folder) if dictionary is None else Path(dictionary).expanduser()
    return text_view(_reader(home.resolve(), folder.resolve()).page(what), folder, height=height, look=look)


def _latent(what: object) -> int:
    if isinstance(what, bool) or not isinstance(what, SupportsIndex):
        raise UserError(
            f"sae.show({what!r}): got {type(what).__name__}, expected a latent's number, as in sae.show(12), or a text, as in "
            'sae.show("Paris is in").'
        )
    return operator.index(what)


def _home(folder: Path) -> Path:
    """The folder of the SAE that a dashboard is of, by where the dashboard stands."""
    from sae.formats.native import find_sae

    folder = folder.absolute()
    several = folder.parent.name == "dashboards"
    try:
        return find_sae(folder.parent.parent / "saes" / folder.name if several else folder.parent)
    except UserError as error:
        raise UserError(f'{error}. Say which SAE the dashboard is of, as in dictionary="runs/NAME".') from None


@lru_cache(maxsize=1)
def _reader(home: Path, folder: Path) -> TextReader:
    """Model and SAE, loaded once."""
    from sae.commands.entry import compose, say
    from sae.commands.origin import open_origin
    from sae.commands.overrides import as_hydra_takes_them
    from sae.commands.saved_sae import check_fits, load_saved, settings_of, typed_layer, with_saved_choices
    from sae.commands.source_config import read_source_config
    from sae.dashboards.live.reader import reader_of
    from sae.formats.native import read_cfg
    from sae.models.unembedding import direct_unembedding

    cfg = read_cfg(home)
    if "config" not in cfg.get("training", {}):
        raise UserError(
            f"{home} does not say which model it reads: `sae.show` needs that for a text. Latents can be shown without, as in "
            "sae.show(12)."
        )
    manifest = read_manifest(folder)
    layer = typed_layer(cfg, manifest["hook_point"])
    tree = compose("evaluate", with_saved_choices("evaluate", as_hydra_takes_them([f"from={home}", *layer])))
    problems: list[str] = []
    config = read_source_config(settings_of(tree, cfg, layer), problems, architecture=cfg["architecture"])
    if config is None:
        raise UserError("\n".join(problems))
    if config.places.mix:
        raise UserError(
            f"the SAE in {home} reads mixed layers, of which the dashboard {folder} is of none: texts cannot be shown"
        )
    origin = open_origin(config)
    sae, _ = load_saved(home, origin)
    num_latents = manifest["num_latents"]
    if sae.d_sae != num_latents:
        raise UserError(f"the SAE in {home} has {sae.d_sae} latents, the dashboard {folder} is of {num_latents}: give its own")
    if origin.other_model is not None:
        raise UserError("the SAE reads two models: texts of such cannot be shown, latents can, as in sae.show(12)")
    check_fits(sae, cfg, origin, say=say)
    only = origin.targets[0] if len(origin.targets) == 1 else None
    unembedding = None if only is None else direct_unembedding(origin.model, only)
    return reader_of(
        folder,
        sae=sae.to(origin.model.device),
        model=origin.model,
        inputs=origin.inputs,
        targets=origin.targets,
        unembedding=unembedding,
    )
