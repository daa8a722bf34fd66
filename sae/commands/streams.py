"""The stream that a run trains from: shuffled rows, or whole blocks where a loss goes on through the model."""

from sae.activations.block_stream import BlockStream
from sae.activations.row_source import RowSource
from sae.activations.shuffle import ActivationStream
from sae.commands.assemble import Text
from sae.commands.hook_node import first_block_after
from sae.commands.origin import Origin
from sae.commands.settings import TrainConfig
from sae.losses.end_to_end import DownstreamError
from sae.losses.objective import Objective
from sae.models.hook_points import HookPoint, resolve_hook_point
from sae.training.row_stream import RowStream

__all__ = ["open_stream"]

CHUNK_ROWS = 16384  # rows that scales and starting biases are estimated from, where none are read ahead


def open_stream(config: TrainConfig, origin: Origin, text: Text, source: RowSource, objective: Objective) -> RowStream:
    """Batches for training, at their beginning.

    Args:
        config: of the run.
        origin: model and hook points.
        text: what is read.
        source: where rows come from.
        objective: says whether the run goes on through the model.

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
