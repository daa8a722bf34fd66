"""An SAE of mixed layers, layer by layer: its numbers on the rows of each, in raw units, and put into the model at each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits, layer_view
from sae.evaluation.cross_entropy import CleanRun
from sae.evaluation.reconstruction import Rows
from sae.evaluation.suite import evaluate
from sae.models.hook_points import HookPoint

__all__ = ["BY_LAYER", "Layer", "evaluate_layers"]

BY_LAYER = "layers are mixed, and the reconstruction is put in at each of them in turn: see `layers`"
OF_THE_WHOLE = ("dead_fraction", "tokens_trained", "tokens_per_second", "density_histogram")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One of the mixed layers.

    Attributes:
        hook_point: where it lies.
        rows: its held-out rows in raw units, in batches of any size.
        clean_run: the untouched predictions of its model; None: no cross-entropy.
    """

    hook_point: HookPoint
    rows: Iterable[Rows]
    clean_run: CleanRun | None = None


def evaluate_layers(sae: SparseAutoencoder, units: LayerUnits, layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """Measure each layer's own SAE (`layer_view`) on that layer.

    Args:
        sae: takes rows in units of layers: an exported SAE.
        units: of these layers, in this order.
        layers: may be computed one after another: none is asked for before the one before is done.

    Returns:
        For each layer `hook_point` and what `evaluate` gives, but for what is of the SAE as a whole. `never_fired` is the share
        of latents that fire on no held-out row of this layer.
    """
    found = []
    for number, layer in enumerate(layers):
        view = layer_view(sae, units, number)
        numbers = evaluate(view, rows=layer.rows, clean_run=layer.clean_run, hook_point=layer.hook_point)
        kept = {key: value for key, value in numbers.items() if key not in OF_THE_WHOLE}
        found.append({"hook_point": layer.hook_point.name, **kept})
    return found
