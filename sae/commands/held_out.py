"""Numbers on held-out text: its rows, the model's clean predictions, and the evaluations that training is handed."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sae.activations.cache import cached_rows
from sae.activations.outliers import within_norm_limits
from sae.activations.row_source import RowSource, read_rows
from sae.architectures.base import SparseAutoencoder
from sae.commands.assemble import OnRows, Origin, describe_store
from sae.evaluation.cross_entropy import CleanRun, evaluate_splice
from sae.evaluation.reconstruction import evaluate_reconstruction
from sae.metrics.fvu import FVU
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import cut_rows
from sae.training.callbacks.run_metrics import HeldOutEvaluation, HeldOutNumbers
from sae.training.recipe import Budget

__all__ = ["HeldOut", "evaluation_while_training"]


class HeldOut:
    """Held-out rows and the model's clean predictions, each computed when first asked for and then kept."""

    def __init__(
        self, origin: Origin, blocks: TokenBlocks, *, cached: bool, norm_limits: Callable[[], dict[str, float]], on_rows: OnRows
    ) -> None:
        """Choose the blocks.

        Args:
            origin: model and hook point.
            blocks: held-out blocks.
            cached: keep the rows in the cache for later runs.
            norm_limits: outlier limits that training applies; the same rows are left out here.
            on_rows: told (rows done, rows in all).
        """
        self.origin = origin
        self.blocks = cut_rows(blocks, origin.config.evaluation.rows, setting="evaluation.rows")
        self._all_blocks, self._cached, self._norm_limits, self._on_rows = blocks, cached, norm_limits, on_rows
        self._rows: Tensor | None = None
        self._mean: Tensor | None = None
        self._clean_run: CleanRun | None = None

    def batches(self) -> Iterator[Tensor]:
        """Raw held-out rows, `evaluation.batch_rows` at a time."""
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
            rows = read_rows(source, self.blocks, torch.arange(len(self.blocks)))
            rows = rows.select(within_norm_limits(rows, self._norm_limits()).nonzero().squeeze(1))
            self._rows = rows.values[self.origin.hook_point.name].float()
        yield from self._rows.split(self.origin.config.evaluation.batch_rows)

    def mean(self) -> Tensor:
        """Mean of the held-out rows, float64: what the mean ablation puts in."""
        if self._mean is None:
            fvu = FVU(self.origin.hook_point.width)
            for batch in self.batches():
                fvu.update(batch, batch)
            self._mean = fvu.mean
        return self._mean

    def clean_run(self) -> CleanRun | None:
        """The model's own predictions; None where none are asked for."""
        tokens = self.origin.config.evaluation.ce_tokens
        if tokens == 0:
            return None
        if self._clean_run is None:
            self._clean_run = CleanRun(self.origin.model, self._all_blocks, max_tokens=tokens)
        return self._clean_run


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
        clean_run = held_out.clean_run()
        if clean_run is None:
            return {}
        found = evaluate_splice(sae, clean_run, held_out.origin.hook_point, mean=held_out.mean())
        return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}

    return HeldOutEvaluation(
        reconstruct=reconstruct,
        splice=splice if node.ce_every_tokens is not None else None,
        every_tokens=node.every_tokens or max(budget.batch_tokens, budget.train_tokens // 10),
        splice_every_tokens=node.ce_every_tokens,
    )
