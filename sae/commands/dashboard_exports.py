"""A dashboard's data for other tools, each in a folder of its own that is written whole or not at all."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sae.architectures.base import SparseAutoencoder
from sae.commands.dashboard_node import DashboardNode
from sae.commands.origin import Origin
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.exports.delphi import write_delphi_cache
from sae.dashboards.exports.neuronpedia import write_neuronpedia
from sae.dashboards.exports.neuronpedia_heads import NeuronpediaNames
from sae.dashboards.exports.parquet import write_parquet
from sae.dashboards.pages.folder import Dashboard, replaced
from sae.models.hook_points import TRANSFORMER_LENS

__all__ = ["neuronpedia_names", "write_exports"]

LENS_NAMES = {site: name for name, site in TRANSFORMER_LENS.items()} | {"embeddings": "hook_embed"}


def write_exports(
    out: Path, node: DashboardNode, *, codes: CollectedCodes, origin: Origin, sae: SparseAutoencoder, architecture: str
) -> list[Path]:
    """Write what `dashboard.export` names.

    Args:
        out: the dashboard's folder, with its pages.
        node: settings.
        codes: that the pages were made from.
        origin: model and hook points.
        sae: the SAE.
        architecture: its name.

    Returns:
        The folders.

    Raises:
        UserError: a name is not one that the other tool takes.
        OSError: the disk is full or the folder cannot be written.
    """

    def delphi(folder: Path) -> None:
        name, source = _model_name(origin), origin.config.source.name
        write_delphi_cache(folder, codes, hook_point=origin.place, model_name=name, dataset=source)

    def neuronpedia(folder: Path) -> None:
        dashboard = Dashboard(out)
        write_neuronpedia(
            folder,
            dashboard.latent_shards(),
            dashboard.manifest,
            W_dec=sae.W_dec.detach().float().cpu(),
            names=neuronpedia_names(node, origin, d_sae=sae.d_sae, architecture=architecture),
            num_layers=origin.model.num_layers,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def parquet(folder: Path) -> None:
        write_parquet(folder, codes, Dashboard(out).latent_shards())

    writers: dict[str, Callable[[Path], None]] = {"delphi": delphi, "neuronpedia": neuronpedia, "parquet": parquet}
    folders = []
    for kind in dict.fromkeys(node.export):
        folders.append(out / "exports" / kind)
        with replaced(folders[-1]) as aside:
            writers[kind](aside)
    return folders


def neuronpedia_names(node: DashboardNode, origin: Origin, *, d_sae: int, architecture: str) -> NeuronpediaNames:
    """What Neuronpedia shall call model, SAE and place.

    Raises:
        UserError: `dashboard.neuronpedia_set` has letters that it does not take.
    """
    point = origin.inputs[0]
    own = f"{point.site or point.module}-{d_sae}-{architecture}".lower()
    return NeuronpediaNames(
        model=node.neuronpedia_model or _model_name(origin).rsplit("/", 1)[-1],
        layer=point.layer or 0,
        source_set=node.neuronpedia_set if node.neuronpedia_set is not None else re.sub(r"[^a-z0-9]+", "-", own).strip("-"),
        hook=LENS_NAMES.get(point.site or "", point.module),
        creator=node.neuronpedia_creator,
    )


def _model_name(origin: Origin) -> str:
    """What the model is called where it comes from: the hub's name, a folder, or a package's."""
    node = origin.config.model
    return str(node.get("name") or node.get("path"))
