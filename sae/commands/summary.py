"""What a run will do, before it does it: shapes, steps, memory, disk and time."""

import time
from dataclasses import dataclass

import torch

from sae.activations.row_source import RowSource
from sae.activations.store import store_bytes
from sae.commands.assemble import Origin, Text
from sae.commands.settings import TrainConfig

__all__ = ["Estimate", "estimate", "summary"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run needs.

    Attributes:
        memory_bytes: at the peak, model, weights, moments and buffers together.
        disk_bytes: cache, checkpoints and results.
        harvest_seconds: running the model over training and held-out text.
        step_seconds: the SAE's own arithmetic.
        evaluation_seconds: cross-entropy at the end.
    """

    memory_bytes: int
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
    """
    d_in = origin.hook_point.width
    d_sae = config.sae.width(d_in)
    rows, batch = config.budget.train_tokens, config.budget.batch_tokens
    node = config.origin.activations
    model_bytes = sum(p.numel() * p.element_size() for p in origin.model.module.parameters())
    parameters = 2 * d_in * d_sae + d_in + d_sae
    source: RowSource = origin.harvester
    chunk_bytes = 2 * min(node.chunk_tokens, rows) * d_in * source.dtype.itemsize
    held_out_rows = min(config.origin.evaluation.rows, text.held_out.num_rows)
    memory = model_bytes + 16 * parameters + 5 * 4 * batch * d_sae + chunk_bytes + 4 * held_out_rows * d_in
    stored_rows = held_out_rows + (text.train.num_rows if text.train is not None else 0) if cached else 0
    disk = (config.checkpoint.keep + 1) * 12 * parameters + 4 * parameters + store_bytes(stored_rows, source)
    forward_rows_per_second = _forward_speed(origin, text)
    harvested = 0 if text.stored is not None else min(rows, text.train.num_rows) if cached and text.train else rows
    operations = 12.0 * rows * d_in * d_sae
    scored = config.origin.evaluation.ce_tokens if origin.model.has_lm_head else 0
    return Estimate(
        memory_bytes=memory,
        disk_bytes=disk,
        harvest_seconds=(harvested + held_out_rows) / forward_rows_per_second,
        step_seconds=operations / _operations_per_second(batch, d_in, min(d_sae, 4096), origin.model.device),
        # four runs of the whole model (about three times the layers up to a hook point in its first third) and their logits
        evaluation_seconds=4 * scored * 3 / forward_rows_per_second,
    )


def summary(config: TrainConfig, origin: Origin, text: Text, found: Estimate, *, name: str, cached: bool) -> str:
    """The lines that a person reads before training."""
    point, d_in = origin.hook_point, origin.hook_point.width
    d_sae, budget = config.sae.width(d_in), config.budget
    parameters = 2 * d_in * d_sae + d_in + d_sae
    provenance = origin.model.provenance()
    if text.train is None:
        words = "an endless stream"
    else:
        passes = budget.train_tokens / text.train.num_rows
        words = f"{text.train.num_rows:,} training rows, {passes:.2g} {'pass' if passes == 1 else 'passes'}"
    where = "read from a store" if text.stored is not None else "cached" if cached else "harvested while training"
    lines = [
        ("run", name),
        (
            "model",
            f"{provenance['name']} ({provenance['architecture']}, {origin.model.num_layers} layers, on {origin.model.device})",
        ),
        (
            "hook point",
            f"{point.name} = {point.tensor} of {point.module}, [{config.origin.data.context_length} tokens, {d_in}] a block",
        ),
        ("text", f"{config.origin.source.name}: {words}; {text.held_out.num_rows:,} held-out rows of other documents"),
        ("activations", where),
        ("SAE", f"{config.sae.architecture}, d_in {d_in}, d_sae {d_sae:,}, {parameters:,} parameters"),
        (
            "training",
            f"{budget.steps:,} steps of {budget.batch_tokens:,} tokens, {budget.steps * budget.batch_tokens:,} in all",
        ),
        ("memory", f"about {found.memory_bytes / 1e9:.1f} GB at the peak"),
        ("disk", f"about {found.disk_bytes / 1e9:.2f} GB" + (f", cache in {origin.cache}" if cached else "")),
        (
            "time",
            f"about {_minutes(found.seconds)}: {_minutes(found.harvest_seconds)} for activations, "
            f"{_minutes(found.step_seconds)} for the SAE, {_minutes(found.evaluation_seconds)} for cross-entropies",
        ),
    ]
    return "\n".join(f"  {label:<12} {value}" for label, value in lines)


def _minutes(seconds: float) -> str:
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
