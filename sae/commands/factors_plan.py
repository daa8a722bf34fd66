"""What the fit of a dictionary and its pages will take, before it is done: measured on a piece of the text, and multiplied."""

import time
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sae.activations.layer_units import estimate_layer_units
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.placement import Placement
from sae.activations.scaling import estimate_scale
from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import Text
from sae.commands.factors_outlook import pages_bytes
from sae.commands.factors_settings import FactorsConfig
from sae.commands.origin import Origin
from sae.commands.summary import in_minutes, mixing_words, model_words, place_words
from sae.factors.dictionary_fit import DictionaryFit
from sae.factors.saliency.work import Rates, expected_work
from sae.functional.geometry import unit_rows_

__all__ = ["FactorsOutlook", "make_fit", "outlook", "summary"]

KNOWN_NEAR = 2  # times as many rows are coded in a time, where codes of rows like them are known
SHORTLISTED = 30  # likewise, where they are found by a shortlist
STEPS = 2  # of a fit that is thrown away: the first of a kind is slow, the second is timed


@dataclass(frozen=True, kw_only=True)
class FactorsOutlook:
    """What it takes.

    Attributes:
        memory_bytes: at the peak.
        placement: of the chunks of rows.
        disk_bytes: checkpoints, dictionary, codes and pages.
        harvest_seconds: running the model, for the fit and for the pages.
        fit_seconds: codes of the fit, and its steps.
        evaluation_seconds: codes of held-out rows.
        pages_seconds: codes of the text that pages are made from.
        saliency_seconds: of contexts, no more than the settings allow.
    """

    memory_bytes: int
    placement: Placement
    disk_bytes: int
    harvest_seconds: float
    fit_seconds: float
    evaluation_seconds: float
    pages_seconds: float
    saliency_seconds: float | int

    @property
    def seconds(self) -> float:
        """All together."""
        before = self.harvest_seconds + self.fit_seconds + self.evaluation_seconds
        return before + self.pages_seconds + self.saliency_seconds


def make_fit(config: FactorsConfig, origin: Origin, text: Text, *, start: Literal["normal", "rows"]) -> DictionaryFit:
    """A dictionary at its beginning.

    Args:
        config: of the run.
        origin: model and layers.
        text: what it is fitted to.
        start: what its atoms are at first.

    Raises:
        UserError: there are more factors than rows.
    """
    node, counts = config.factors, None
    if node.frequency_weights:
        assert text.train is not None
        counts = torch.bincount(text.train.ids[text.train.keep], minlength=origin.model.vocabulary_size)
    return DictionaryFit(
        d_in=origin.d_in,
        d_sae=node.d_sae,
        l1_coefficient=node.l1_coefficient,
        update=node.make_update(),
        coding=node.make_coding(),
        start=start,
        dead_after_rows=node.dead_after_tokens,
        token_counts=counts,
        total_rows=node.tokens if text.train is None else min(node.tokens, origin.rows_of(text.train)),
        seed=config.origin.seed,
        device=origin.model.device,
    )


def outlook(config: FactorsConfig, origin: Origin, text: Text, *, cached: bool) -> FactorsOutlook:
    """Read one piece of the text, fit a dictionary to it for two steps, and multiply.

    Times are rough: a dictionary codes its first rows in another time than its last.

    Raises:
        UserError: no code of these rows is above zero: the coefficient is too large; or rows were asked for on the model's
            device and do not fit there.
    """
    node, layers = config.factors, len(origin.inputs)
    rows, tokens, harvest_rate = _piece(config, origin, text)
    fit = _first_dictionary(config, origin, text, rows)
    seconds, batch = 0.0, min(len(rows), node.batch_tokens)
    for number in range(STEPS):
        part = torch.arange(number * batch, (number + 1) * batch) % len(rows)
        began = time.perf_counter()
        fit.step(rows[part], tokens[part])
        seconds = time.perf_counter() - began
    rate, active = batch / max(1e-9, seconds), fit.take_figures().l0
    weights = sum(one.numel() * one.element_size() for one in origin.model.module.parameters())
    dictionary = 4 * node.d_sae * origin.d_in
    state = 2 * dictionary + (4 * node.d_sae**2 if node.update == "online" else 0)
    fit_bytes = 3 * state + 4 * 2048 * 2 * node.d_sae
    placement = Placement.choose(
        config.origin.activations.device,
        origin.model.device,
        row_bytes=origin.d_in * origin.harvester.dtype.itemsize,
        chunk_rows=min(config.origin.activations.chunk_tokens, node.tokens),
        step_bytes=fit_bytes,
        from_disk=cached or text.stored is not None,
    )
    page_rows = config.pages.tokens * layers
    page_bytes = pages_bytes(config.pages, d_sae=node.d_sae, layers=layers, activations=active * page_rows)
    held_out = min(config.origin.evaluation.rows, origin.rows_of(text.held_out))
    saliency = _saliency_seconds(config, origin, text, harvest_rate=harvest_rate, coding_rate=rate)
    return FactorsOutlook(
        memory_bytes=round(weights + fit_bytes + placement.chunk_bytes + config.pages.memory_gb * 1e9),
        placement=placement,
        disk_bytes=round((config.checkpoint.keep + 1) * state + dictionary + page_bytes),
        harvest_seconds=(node.tokens + held_out + page_rows) / harvest_rate,
        fit_seconds=node.tokens / rate,
        evaluation_seconds=2 * held_out / rate,  # all layers together, then each by itself
        pages_seconds=page_rows / rate,
        saliency_seconds=saliency,
    )


def _saliency_seconds(
    config: FactorsConfig, origin: Origin, text: Text, *, harvest_rate: float, coding_rate: float
) -> float | int:
    """From the rows that the model gives and the fit takes a second."""
    node, layers, length = config.pages, len(origin.inputs), text.held_out.context_length
    settings, causal = node.saliency_settings(config.origin.seed, takes_shortlist=True), origin.model.has_lm_head
    if not settings.measures_any:
        return 0.0
    work = expected_work(
        settings,
        contexts=config.factors.d_sae * layers * node.top,
        tokens=node.tokens,
        layers=layers,
        context_length=length,
        window=node.window,
        causal=causal,
    )
    block = length * layers / harvest_rate
    rates = Rates(
        copies=block * (min(1.0, 1.5 * (node.window + 1) / length) if causal else 1.0),
        rows=1 / (KNOWN_NEAR * coding_rate),
        short_rows=1 / (SHORTLISTED * coding_rate),
        gradients=3 * settings.steps * block,  # a backward pass counts as two
        lime=settings.copies * block,
    )
    return min(60 * settings.minutes, rates.seconds(replace(work, lime=0))) + rates.lime * work.lime


def _first_dictionary(config: FactorsConfig, origin: Origin, text: Text, rows: Tensor) -> DictionaryFit:
    """A dictionary as the fit will begin it, as far as a piece of the text goes.

    Where it starts from rows, the piece may have fewer of them than there are atoms: the others are random then. A row fits
    itself better than any random direction, so that without it a coefficient would seem too large that is not.
    """
    wanted = config.factors.start
    fit = make_fit(config, origin, text, start="normal" if len(rows) < config.factors.d_sae else wanted)
    if wanted == "rows" and len(rows) < config.factors.d_sae:
        fit.dictionary[: len(rows)] = unit_rows_(rows.to(fit.dictionary, copy=True))
    return fit


def _piece(config: FactorsConfig, origin: Origin, text: Text) -> tuple[Tensor, Tensor, float]:
    """Rows about as the fit will see them, in their units and scaled; their tokens; and rows a second of the harvest."""
    blocks = text.held_out if text.train is None else text.train
    index = torch.arange(min(len(blocks), config.origin.activations.forward_blocks))
    raw = MixedLayers(origin.harvester)
    raw.rows(blocks, index[:1])  # the first pass of a kind is slow
    began = time.perf_counter()
    found = raw.rows(blocks, index)
    rate = len(found) / max(1e-9, time.perf_counter() - began)
    units: LayerUnits = estimate_layer_units(found, config.origin.places.layer_units)
    rows, layer = found.values[MIXED].float(), found.layer
    assert layer is not None
    for number in range(len(units.layers)):
        rows[layer == number] = units.put(rows[layer == number], number)
    return rows * estimate_scale(rows, config.factors.scaling), found.token, rate


def summary(config: FactorsConfig, origin: Origin, text: Text, found: FactorsOutlook) -> str:
    """A table that a person reads before the fit."""
    node, source = config.factors, config.origin.source
    words = "an endless stream"
    if text.train is not None:
        there = origin.rows_of(text.train)
        words = f"{there:,} rows of all layers, {node.tokens / there:.2g} of them a pass" if there else "no rows"
    few = ", fewer than dimensions: much will stay unexplained" if node.d_sae < origin.d_in else ""
    lines = [
        ("run", config.folder.name),
        ("model", model_words(origin.model)),
        *(("layer", place_words(point)) for point in origin.inputs),
        ("mixed", mixing_words(origin)),
        ("text", f"{source.name}: {words}; {origin.rows_of(text.held_out):,} held-out rows of other documents"),
        ("dictionary", f"{node.d_sae:,} factors of {origin.d_in} dimensions{few}, l1_coefficient {node.l1_coefficient:g}"),
        (
            "fit",
            f"{node.steps:,} steps of {node.batch_tokens:,} rows, {node.steps * node.batch_tokens:,} in all; {node.update}",
        ),
        ("pages", f"{config.pages.tokens:,} tokens at {len(origin.inputs)} layers"),
        ("memory", f"about {found.memory_bytes / 1e9:.1f} GB at the peak, {found.placement}"),
        ("disk", f"about {found.disk_bytes / 1e9:.2f} GB"),
        (
            "time",
            f"about {in_minutes(found.seconds)}: {in_minutes(found.harvest_seconds)} for activations, "
            f"{in_minutes(found.fit_seconds)} for the fit, {in_minutes(found.evaluation_seconds)} for the evaluation, "
            f"{in_minutes(found.pages_seconds)} for the pages' codes, "
            f"about {in_minutes(found.saliency_seconds)} for saliency",
        ),
    ]
    return "\n".join(f"  {label:<12} {value}" for label, value in lines)
