"""The units of mixed layers, estimated once from the first chunk, in float64."""

from collections.abc import Callable

from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.chunks import ChunkReader
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.row_source import RowSource
from sae.activations.scaling import SLICE_ROWS
from sae.architectures.layer_units import LayerLaw, LayerUnits
from sae.errors import UserError
from sae.functional.streaming import Moments, merge_moments, moments
from sae.tokens.windows import BlockWindows

__all__ = ["estimate_layer_units", "first_chunk_units"]


def first_chunk_units(
    windows: BlockWindows,
    source: RowSource,
    law: LayerLaw,
    *,
    chunk_rows: int,
    seed: int,
    max_norm_multiple: int | float | None = None,
    before_piece: Callable[[int], None] = lambda rows: None,
) -> LayerUnits:
    """Units from the rows that training will read first; they depend on the text, the model and the seed alone.

    Args:
        windows: of the text, at its beginning, where the first chunk leaves it.
        source: hook points of one width side by side.
        law: which units; `none` reads nothing.
        chunk_rows: rows in a chunk, of all layers together.
        seed: of the order of rows.
        max_norm_multiple: rows whose norm exceeds this multiple of their layer's median norm are left out; None keeps all.
        before_piece: called between parts of the harvest with the rows read so far; what it raises ends it.

    Raises:
        UserError: the hook points differ in width, or a layer's rows do not vary or are not finite.
    """
    mixed = MixedLayers(source)
    if law == "none":
        return LayerUnits.raw(mixed.layers, mixed.widths[MIXED])
    reader = ChunkReader(windows, mixed, chunk_rows=chunk_rows, seed=seed, max_norm_multiple=max_norm_multiple)
    return estimate_layer_units(reader.read(before_piece).used_rows(), law)


def estimate_layer_units(rows: ActivationRows, law: LayerLaw) -> LayerUnits:
    """Units of every layer from mixed raw rows.

    Args:
        rows: raw rows of all layers, mixed.
        law: `none`: raw. `scale`: the mean of ||s*(x - mean)||^2 is d_in, and nothing is subtracted. `centre`: the mean is
            subtracted. `both`: the mean is subtracted, then the scale applied.

    Raises:
        UserError: a layer's rows do not vary or are not finite, so that they have no scale.
    """
    assert rows.layer is not None, "expected rows of mixed layers"
    values = rows.values[MIXED]
    units = LayerUnits.raw(rows.layers, values.shape[1])
    for number, name in enumerate(rows.layers):
        found = _moments_of(values[(rows.layer == number).nonzero().squeeze(1)])
        if law in ("centre", "both"):
            units.means[number] = found.mean
        if law in ("scale", "both"):
            units.scales[number] = _variance_scale(found, name, law)
    return units


def _moments_of(values: Tensor) -> Moments:
    total = Moments.empty(values.shape[1])
    for part in values.split(SLICE_ROWS):
        total = merge_moments(total, moments(part.cpu()))
    return total


def _variance_scale(found: Moments, name: str, law: LayerLaw) -> float:
    variance = float(found.squares.sum() / found.count)
    if not 0 < variance < float("inf"):
        raise UserError(
            f"hook.layer_units={law} found no scale for {name}: the variance of its first {int(found.count)} activations is "
            f"{variance}. They are all equal or not finite: leave the layer out, or set hook.layer_units=none."
        )
    return (len(found.mean) / variance) ** 0.5
