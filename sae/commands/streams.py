"""The stream that a run trains from: shuffled rows, or whole blocks where a loss goes on through the model."""

from pathlib import Path

import torch

from sae.activations.block_stream import BlockStream
from sae.activations.layer_units import first_chunk_units
from sae.activations.mixed import MixedLayers
from sae.activations.row_source import RowSource
from sae.activations.shuffle import ActivationStream
from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import OnRows, Text
from sae.commands.hook_node import first_block_after
from sae.commands.origin import Origin
from sae.commands.settings import TrainConfig
from sae.formats.layers import LAYERS, layer_units_bytes, read_layer_units
from sae.formats.native import load_layer_units
from sae.functional.files import write_whole
from sae.losses.end_to_end import DownstreamError
from sae.losses.objective import Objective
from sae.models.hook_points import HookPoint, resolve_hook_point
from sae.training.row_stream import RowStream

__all__ = ["mix_layers", "open_stream", "started_units"]

CHUNK_ROWS = 16384  # rows that scales and starting biases are estimated from, where none are read ahead


def mix_layers(
    origin: Origin, text: Text, source: RowSource, folder: Path, *, on_rows: OnRows, started: LayerUnits | None = None
) -> MixedLayers:
    """The layers of a source in one stream, in units that are the run's for good: a file in its folder keeps them.

    Args:
        origin: model and hook points.
        text: what is read, at its beginning.
        source: where rows come from, side by side.
        folder: of the run.
        on_rows: told (rows done, rows in all) while the first chunk is read for the units.
        started: units of an SAE that the run starts from, whose weights mean nothing in others.

    Raises:
        UserError: a layer's rows have no scale, or the file is damaged.
    """
    if (folder / LAYERS).exists():
        return MixedLayers(source, read_layer_units(folder))
    units = started
    if units is None:
        node = origin.config.activations
        units = first_chunk_units(
            text.windows,
            source,
            origin.config.places.layer_units,
            chunk_rows=node.chunk_tokens,
            seed=origin.config.seed,
            max_norm_multiple=node.max_norm_multiple,
            before_piece=lambda rows: on_rows(rows, node.chunk_tokens),
        )
        on_rows(node.chunk_tokens, node.chunk_tokens)
    write_whole(folder / LAYERS, layer_units_bytes(units))
    return MixedLayers(source, units)


def started_units(config: TrainConfig, origin: Origin) -> LayerUnits | None:
    """Those of the SAE that a run starts from; None where it starts from none."""
    units = None if config.init_from is None else load_layer_units(config.init_from)
    return None if units is None else units.select([point.name for point in origin.inputs])


def open_stream(
    config: TrainConfig, origin: Origin, text: Text, source: RowSource, objective: Objective, *, device: torch.device
) -> RowStream:
    """Batches for training, at their beginning.

    Args:
        config: of the run.
        origin: model and hook points.
        text: what is read.
        source: where rows come from.
        objective: says whether the run goes on through the model.
        device: where chunks of rows lie; where the run goes on through the model, its rows are there.

    Raises:
        UserError: it does, and the model predicts no next tokens.
    """
    if not config.sae.goes_downstream:
        return ActivationStream(
            text.windows,
            source,
            batch_rows=config.budget.batch_tokens,
            chunk_rows=config.origin.activations.chunk_tokens,
            seed=config.origin.seed,
            max_norm_multiple=config.origin.activations.max_norm_multiple,
            total_rows=config.budget.steps * config.budget.batch_tokens,
            device=device,
        )
    layers = [term.layers for term in objective.terms.values() if isinstance(term, DownstreamError)]
    return BlockStream(
        text.windows,
        source,
        origin.model,
        origin.targets[0],
        reads=origin.inputs if origin.has_target else (),
        later=_blocks_after(origin, max(layers, default=0)),
        batch_rows=config.budget.batch_tokens,
        chunk_rows=min(config.origin.activations.chunk_tokens, CHUNK_ROWS),
        seed=config.origin.seed,
    )


def _blocks_after(origin: Origin, count: int) -> list[HookPoint]:
    """The outputs of the next blocks, as many as there are; none after a module, whose place among them is not known."""
    first = first_block_after(origin.targets[0].site, origin.targets[0].layer)
    if first is None:
        return []
    last = min(first + count, origin.model.num_layers)
    return [resolve_hook_point(origin.model, site="resid_post", layer=number) for number in range(first, last)]
