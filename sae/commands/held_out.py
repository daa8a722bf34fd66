"""Numbers on held-out text: its rows, the model's clean predictions, and the evaluations that training is handed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.cache import cached_rows
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.outliers import within_norm_limits
from sae.activations.row_source import RowSource, read_rows
from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import OnRows
from sae.commands.hook_node import OTHER_MODEL
from sae.commands.origin import Origin
from sae.commands.provenance import describe_store
from sae.evaluation.cross_entropy import CleanRun, ReadInputs, evaluate_splice, no_cross_entropy
from sae.evaluation.layers import BY_LAYER, Layer, evaluate_layers
from sae.evaluation.reconstruction import Rows, evaluate_reconstruction
from sae.evaluation.suite import Part, evaluate
from sae.metrics.fvu import FVU
from sae.models.capture import capture
from sae.models.hook_points import HookPoint
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import cut_rows
from sae.training.callbacks.run_metrics import HeldOutEvaluation, HeldOutNumbers
from sae.training.recipe import Budget

__all__ = ["HeldOut", "evaluation_while_training"]


class HeldOut:
    """Held-out rows and the model's clean predictions, each computed when first asked for and then kept."""

    def __init__(
        self,
        origin: Origin,
        blocks: TokenBlocks,
        *,
        cached: bool,
        norm_limits: Callable[[], dict[str, float]],
        on_rows: OnRows,
        units: LayerUnits | None = None,
    ) -> None:
        """Choose the blocks.

        Args:
            origin: model and hook points.
            blocks: held-out blocks.
            cached: keep the rows in the cache for later runs.
            norm_limits: outlier limits that training applies; the same rows are left out here.
            on_rows: told (rows done, rows in all).
            units: in which layers are mixed; None where they are not.
        """
        self.origin, self.units = origin, units
        positions = max(1, origin.config.evaluation.rows // (1 if units is None else len(units.layers)))
        self.blocks = cut_rows(blocks, positions, setting="evaluation.rows")
        self._all_blocks, self._cached, self._norm_limits, self._on_rows = blocks, cached, norm_limits, on_rows
        self._rows: ActivationRows | None = None
        self._mean: Tensor | None = None
        self._clean_runs: dict[str, CleanRun] = {}

    def batches(self) -> Iterator[Rows]:
        """Raw held-out rows, `evaluation.batch_rows` at a time; pairs of input and target where these are two.

        Of mixed layers: rows of all of them, each in its layer's units.
        """
        values = self._read().values
        size = self.origin.config.evaluation.batch_rows
        for start in range(0, len(self._read()), size):
            part = {name: rows[start : start + size] for name, rows in values.items()}
            if self.units is not None:
                yield part[MIXED]
                continue
            x = side_by_side(part, self.origin.inputs)
            yield (x, side_by_side(part, self.origin.targets)) if self.origin.has_target else x

    def _layers(self) -> Iterator[Layer]:
        """The mixed layers one after another, with their rows."""
        assert self.units is not None
        rows = self._read()
        assert rows.layer is not None
        for number, point in enumerate(self.origin.inputs):
            raw = self.units.take_back(rows.values[MIXED][rows.layer == number], number)
            batches = raw.split(self.origin.config.evaluation.batch_rows)
            yield Layer(hook_point=point, rows=batches, clean_run=self.clean_run(point))

    def _read(self) -> ActivationRows:
        if self._rows is None:
            source: RowSource = self.origin.harvester
            if self._cached:
                source = cached_rows(
                    self.origin.cache / "activations",
                    self.blocks,
                    self.origin.harvester,
                    describe_store(self.origin),
                    on_rows=self._on_rows,
                )
            if self.units is not None:
                source = MixedLayers(source, self.units)
            rows = read_rows(source, self.blocks, torch.arange(len(self.blocks)))
            kept = within_norm_limits(rows, self._norm_limits()).nonzero().squeeze(1)
            self._rows = rows.chosen(kept, {name: values[kept].float() for name, values in rows.values.items()})
        return self._rows

    def mean(self) -> Tensor:
        """Mean of the target's held-out rows, float64: what the mean ablation puts in."""
        if self._mean is None:
            fvu = FVU(self.origin.d_out)
            for batch in self.batches():
                target = batch[1] if isinstance(batch, tuple) else batch
                fvu.update(target, target)
            self._mean = fvu.mean
        return self._mean

    def clean_run(self, point: HookPoint | None = None) -> CleanRun | None:
        """The untouched predictions of the model that a hook point lies in (the first, if none is given).

        None where none are asked for.
        """
        tokens = self.origin.config.evaluation.ce_tokens
        if tokens == 0:
            return None
        model = self.origin.model if point is None else self.origin.model_of(point)
        name = "model" if model is self.origin.model else OTHER_MODEL
        if name not in self._clean_runs:
            self._clean_runs[name] = CleanRun(model, self._all_blocks, max_tokens=tokens)
        return self._clean_runs[name]

    @property
    def read_inputs(self) -> ReadInputs | None:
        """Gives what an SAE reads on some blocks; None where that is the activation that it reconstructs."""
        return self._read_inputs if self.origin.has_target or len(self.origin.inputs) > 1 else None

    def _read_inputs(self, blocks: TokenBlocks) -> Tensor:
        seen: dict[str, Tensor] = {}
        for model in (self.origin.model, self.origin.other_model):
            points = [] if model is None else [one for one in self.origin.inputs if self.origin.model_of(one) is model]
            if model is not None and points:
                seen |= capture(model, blocks.ids, blocks.attention, points)
        kept = {name: values[blocks.keep.to(values.device)] for name, values in seen.items()}
        return side_by_side(kept, self.origin.inputs)

    def report(
        self,
        sae: SparseAutoencoder,
        *,
        dead_fraction: float | None,
        tokens_trained: int | None,
        tokens_per_second: float | None,
        threshold_factor: float | None = None,
    ) -> dict[str, Any]:
        """All numbers of an SAE that belongs here: see `sae.evaluation.suite.evaluate`; of mixed layers also by layer.

        With `threshold_factor`, what thresholds were multiplied by after training, where they were.
        """
        known: dict[str, Any] = {"hook_point": self.origin.place}
        if threshold_factor is not None:
            known["threshold_factor"] = threshold_factor
        if self.units is not None:
            measured = evaluate(
                sae,
                rows=self.batches(),
                dead_fraction=dead_fraction,
                tokens_trained=tokens_trained,
                tokens_per_second=tokens_per_second,
            )
            layers = evaluate_layers(sae, self.units, self._layers())
            return {**known, **measured, **no_cross_entropy(BY_LAYER), "layers": layers}
        several = len(self.origin.targets) > 1
        measured = evaluate(
            sae,
            rows=self.batches(),
            clean_run=None if several else self.clean_run(),
            hook_point=None if several else self.origin.targets[0],
            inputs=self.read_inputs,
            parts=[Part(hook_point=one, clean_run=self.clean_run(one)) for one in self.origin.targets] if several else (),
            dead_fraction=dead_fraction,
            tokens_trained=tokens_trained,
            tokens_per_second=tokens_per_second,
        )
        return {**known, **measured}


def side_by_side(rows: Mapping[str, Tensor], points: Sequence[HookPoint]) -> Tensor:
    """The rows of some hook points in one tensor."""
    return torch.cat([rows[point.name] for point in points], dim=1) if len(points) > 1 else rows[points[0].name]


def evaluation_while_training(held_out: HeldOut, budget: Budget) -> HeldOutEvaluation:
    """What training calls now and then; it neither touches the training stream nor draws random numbers."""
    node = held_out.origin.config.evaluation

    def reconstruct(sae: SparseAutoencoder, hook_point: str) -> HeldOutNumbers:
        found = evaluate_reconstruction(sae, held_out.batches())
        return HeldOutNumbers(
            numbers={key: float(value) for key, value in found.numbers.items() if value is not None},
            density_edges=list(found.density_histogram["edges"]),
            density_counts=list(found.density_histogram["counts"]),
        )

    def splice(sae: SparseAutoencoder, hook_point: str) -> dict[str, float]:
        (target,) = held_out.origin.targets
        clean_run = held_out.clean_run()
        assert clean_run is not None, "there are no cross-entropies with evaluation.ce_tokens=0"
        found = evaluate_splice(sae, clean_run, target, mean=held_out.mean(), inputs=held_out.read_inputs)
        return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}

    return HeldOutEvaluation(
        reconstruct=reconstruct,
        splice=splice if node.ce_every_tokens is not None else None,
        every_tokens=node.every_tokens or max(budget.batch_tokens, budget.train_tokens // 10),
        splice_every_tokens=node.ce_every_tokens,
    )
