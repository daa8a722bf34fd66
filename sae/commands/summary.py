"""What a run will do, before it does it: shapes, steps, memory, disk and time."""

import time
from dataclasses import dataclass

import torch

from sae.activations.placement import Placement
from sae.activations.row_source import RowSource
from sae.activations.store import store_bytes
from sae.commands.assemble import Text
from sae.commands.origin import Origin
from sae.commands.settings import TrainConfig
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.training.kernels import PassChoice
from sae.training.step_cost import StepCost, step_cost

__all__ = ["Estimate", "estimate", "in_minutes", "mixing_words", "model_words", "place_words", "summary"]

# A step that goes on through the model runs all of it twice, its rest once more backward, and makes logits three times:
# measured as about so many forward passes up to a hook point in the first third.
PASSES_DOWNSTREAM = 15


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run needs.

    Attributes:
        memory_bytes: at the peak, model, weights, moments and buffers together.
        placement: of the chunks of rows.
        disk_bytes: cache, checkpoints and results.
        harvest_seconds: running the model over training and held-out text.
        step_seconds: the SAE's own arithmetic.
        evaluation_seconds: cross-entropy at the end.
    """

    memory_bytes: int
    placement: Placement
    disk_bytes: int
    harvest_seconds: float
    step_seconds: float
    evaluation_seconds: float

    @property
    def seconds(self) -> float:
        """All together."""
        return self.harvest_seconds + self.step_seconds + self.evaluation_seconds


def estimate(config: TrainConfig, origin: Origin, text: Text, *, cached: bool) -> Estimate:
    """Measure one forward pass and one matrix product, and multiply.

    Times are rough: they hold for an idle machine and know nothing of a cache that is filled already.

    Raises:
        UserError: rows were asked for on the model's device and do not fit there.
    """
    d_in = origin.d_in
    d_sae = config.sae.width(origin.input_widths)
    widths = origin.d_in if origin.is_mixed else sum(point.width for point in origin.hook_points)
    per_position = len(origin.inputs) if origin.is_mixed else 1
    rows, batch = config.budget.train_tokens, config.budget.batch_tokens
    node = config.origin.activations
    models = [model for model in (origin.model, origin.other_model) if model is not None]
    model_bytes = sum(p.numel() * p.element_size() for model in models for p in model.module.parameters())
    parameters = _parameters(config, origin)
    source: RowSource = origin.harvester
    first, later = _step_costs(config, origin)
    placement = Placement.choose(
        "cpu" if config.sae.goes_downstream else node.device,
        origin.model.device,
        row_bytes=widths * source.dtype.itemsize,
        chunk_rows=min(node.chunk_tokens, rows),
        step_bytes=first.memory_bytes,
        from_disk=cached or text.stored is not None,
    )
    held_out_rows = min(config.origin.evaluation.rows, origin.rows_of(text.held_out))
    copied = 4 * parameters  # the weights that are evaluated and exported
    memory = model_bytes + first.memory_bytes + copied + placement.chunk_bytes + 4 * held_out_rows * widths
    stored_rows = held_out_rows // per_position + (text.train.num_rows if text.train is not None else 0) if cached else 0
    disk = (config.checkpoint.keep + 1) * 12 * parameters + 4 * parameters + store_bytes(stored_rows, source)
    forward_rows_per_second = _forward_speed(origin, text)
    positions = rows / per_position
    harvested = 0 if text.stored is not None else min(positions, text.train.num_rows) if cached and text.train else positions
    if config.sae.goes_downstream:
        harvested = PASSES_DOWNSTREAM * rows
    scored = config.origin.evaluation.ce_tokens if origin.model.has_lm_head else 0
    return Estimate(
        memory_bytes=memory,
        placement=placement,
        disk_bytes=disk,
        harvest_seconds=(harvested + held_out_rows / per_position) / forward_rows_per_second,
        step_seconds=config.budget.steps
        * later.operations
        / _operations_per_second(batch, d_in, min(d_sae, 4096), origin.model.device),
        # four runs of the whole model (about three times the layers up to a hook point in its first third) and their logits
        evaluation_seconds=(1 + 3 * len(origin.targets)) * scored * 3 / forward_rows_per_second,
    )


def summary(config: TrainConfig, origin: Origin, text: Text, found: Estimate, *, name: str, cached: bool) -> str:
    """The lines that a person reads before training."""
    d_sae, budget = config.sae.width(origin.input_widths), config.budget
    wide = f"d_in {origin.d_in}, d_out {origin.d_out}" if origin.has_target else f"d_in {origin.d_in}"
    if text.train is None:
        words = "an endless stream"
    else:
        passes = budget.train_tokens / origin.rows_of(text.train)
        words = f"{origin.rows_of(text.train):,} training rows, {passes:.2g} {'pass' if passes == 1 else 'passes'}"
    where = "read from a store" if text.stored is not None else "cached" if cached else "harvested while training"
    lines = [
        ("run", name),
        ("model", model_words(origin.model)),
        *([("other model", model_words(origin.other_model))] if origin.other_model is not None else []),
        *_place_lines(config, origin),
        ("text", f"{config.origin.source.name}: {words}; {origin.rows_of(text.held_out):,} held-out rows of other documents"),
        ("activations", where),
        ("SAE", f"{config.sae.architecture}, {wide}, d_sae {d_sae:,}, {_parameters(config, origin):,} parameters"),
        (
            "training",
            f"{budget.steps:,} steps of {budget.batch_tokens:,} tokens, {budget.steps * budget.batch_tokens:,} in all",
        ),
        ("memory", f"about {found.memory_bytes / 1e9:.1f} GB at the peak, {found.placement}"),
        ("disk", f"about {found.disk_bytes / 1e9:.2f} GB" + (f", cache in {origin.cache}" if cached else "")),
        (
            "time",
            f"about {in_minutes(found.seconds)}: {in_minutes(found.harvest_seconds)} for activations, "
            f"{in_minutes(found.step_seconds)} for the SAE, {in_minutes(found.evaluation_seconds)} for cross-entropies",
        ),
    ]
    return "\n".join(f"  {label:<12} {value}" for label, value in lines)


def model_words(model: LanguageModel) -> str:
    """Which model, how deep, and where it runs."""
    provenance = model.provenance()
    return f"{provenance['name']} ({provenance['architecture']}, {model.num_layers} layers, on {model.device})"


def _place_lines(config: TrainConfig, origin: Origin) -> list[tuple[str, str]]:
    context = config.origin.data.context_length
    if origin.is_mixed:
        by_row = config.sae.recipe.scaling == "layer_norm"
        shape = f"[{context} tokens, {origin.d_in}] a block each"
        return [("hook points", f"{origin.place}, {shape}"), ("mixed", mixing_words(origin, by_row=by_row))]
    labelled = [
        *(("hook point", point) for point in origin.inputs),
        *(("target", point) for point in origin.targets if origin.has_target),
    ]
    return [(label, f"{place_words(point)}, [{context} tokens, {point.width}] a block") for label, point in labelled]


def mixing_words(origin: Origin, *, by_row: bool = False) -> str:
    """How layers make one stream; `by_row`: whether each row is normalised by itself afterwards."""
    law = origin.config.places.layer_units
    units = {
        "none": "each row normalised" if by_row else "raw rows, so that layers of large activations weigh most",
        "scale": "each layer scaled to variance d_in",
        "centre": "each layer less its mean",
        "both": "each layer less its mean and scaled to variance d_in",
    }
    return f"each token gives {len(origin.inputs)} rows, one a layer; {units[law]}"


def place_words(point: HookPoint) -> str:
    """Where a hook point lies."""
    return f"{point.name} = {point.tensor} of {point.module}"


def _step_costs(config: TrainConfig, origin: Origin) -> tuple[StepCost, StepCost]:
    """What the first step takes, and one of the later ones: k may come down meanwhile."""
    with torch.device("meta"):
        sae, objective = origin.build(config.sae)
    passes, k, recipe = PassChoice(config.origin.trainer.passes, sae, objective), sae.num_active, config.sae.recipe
    start = None if k is None else recipe.k_at(0, config.budget, k=k, start=min(sae.d_in, sae.d_sae))
    first, later = (
        step_cost(passes, sae, device=origin.model.device, rows=config.budget.batch_tokens, k=one) for one in (start, k)
    )
    return first, later


def _parameters(config: TrainConfig, origin: Origin) -> int:
    """Numbers that are trained, but for an architecture's own beside encoder, decoder and their biases."""
    with torch.device("meta"):
        sae, _ = origin.build(config.sae)
    return sae.W_enc.numel() + sae.W_dec.numel() + sae.d_out + sae.d_sae


def in_minutes(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _forward_speed(origin: Origin, text: Text) -> float:
    """Rows a second of the harvest, from one forward pass after a warm-up."""
    blocks = min(len(text.held_out), origin.config.activations.forward_blocks)
    index = torch.arange(blocks)
    origin.harvester.rows(text.held_out, index)
    start = time.perf_counter()
    rows = len(origin.harvester.rows(text.held_out, index))
    return max(1.0, rows / max(1e-6, time.perf_counter() - start))


def _operations_per_second(batch: int, d_in: int, d_sae: int, device: torch.device) -> float:
    a, b = torch.ones(batch, d_in, device=device), torch.ones(d_in, d_sae, device=device)
    float((a @ b)[0, 0])  # the first product of a kind is slow; reading a number waits for the device
    start = time.perf_counter()
    float(sum((a @ b)[0, 0] for _ in range(3)))
    # The rest of a step (activation, loss, optimizer) passes over memory and costs about as much again at these widths.
    return 0.5 * 3 * 2.0 * batch * d_in * d_sae / max(1e-6, time.perf_counter() - start)
