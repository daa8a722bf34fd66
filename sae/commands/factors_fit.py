"""The fit of a dictionary as a run: batches from a stream, metrics, checkpoints, and a resume that repeats it to the bit."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from sae.activations.mixed import MIXED
from sae.activations.scaling import estimate_scale
from sae.activations.shuffle import ActivationStream
from sae.architectures.relu import ReLUSAE
from sae.architectures.sparse_coding import SparseCodingSAE
from sae.commands.assemble import OnRows
from sae.commands.factors_settings import ARCHITECTURE, FactorsConfig
from sae.commands.progress import Interrupted
from sae.factors.amortised import AmortisedEncoder
from sae.factors.dictionary_fit import DictionaryFit
from sae.training.callbacks.checkpoints import (
    StopSignals,
    WholeFileCheckpointIO,
    checkpoint_path,
    latest_checkpoint,
    read_checkpoint,
    remove_leftovers,
    remove_oldest,
)
from sae.training.loggers.json_lines import JsonLines

__all__ = ["FittedDictionary", "fit_amortised", "fit_dictionary"]

ROWS_LOGGED = 100  # of metrics in a run


@dataclass(frozen=True, kw_only=True)
class FittedDictionary:
    """What a run left.

    Attributes:
        sae: takes rows of mixed layers, in their units.
        tokens: rows that it was fitted to.
        scale: what rows were multiplied with; folded away.
        dead_fraction: share of factors silent on the last tenth of the rows.
        seconds: of this session.
        problems: what one should know before trusting it.
    """

    sae: SparseCodingSAE
    tokens: int
    scale: float
    dead_fraction: float
    seconds: float
    problems: list[str]


def fit_dictionary(
    config: FactorsConfig,
    fit: DictionaryFit,
    stream: ActivationStream,
    *,
    folder: Path,
    run_id: str,
    resume: bool,
    signals: StopSignals,
    on_rows: OnRows,
) -> FittedDictionary | None:
    """Fit a dictionary to the end of the budget, or until a signal.

    Args:
        config: of the run.
        fit: at its beginning.
        stream: rows of mixed layers, at its beginning.
        folder: of the run.
        run_id: stable id.
        resume: go on from the latest checkpoint in the folder, if there is one.
        signals: stop flag.
        on_rows: told (rows done, rows in all).

    Returns:
        The dictionary; None after a signal, with a checkpoint written.

    Raises:
        UserError: a checkpoint cannot be read, the disk is full, or no code is above zero.
    """
    run = _Run(config, fit, stream, folder, run_id)
    signals.interrupts(stream.stop)
    began = time.perf_counter()
    try:
        if not run.start(resume=resume) and signals.received is not None:
            return None
        while run.tokens < run.budget:
            on_rows(run.tokens, run.budget)
            batch = None if signals.received is not None else next(stream, None)
            if batch is None:
                run.save()
                return None
            run.step(batch.rows.values[MIXED], batch.rows.token)
        on_rows(run.budget, run.budget)
    finally:
        stream.close()
        run.close()
    return FittedDictionary(
        sae=run.export(),
        tokens=run.tokens,
        scale=run.scale,
        dead_fraction=fit.silent_fraction(max(1, run.budget // 10)),
        seconds=time.perf_counter() - began,
        problems=fit.problems(),
    )


def fit_amortised(dictionary: SparseCodingSAE, stream: ActivationStream, *, total: int, on_rows: OnRows) -> ReLUSAE:
    """Train an encoder to the codes of a dictionary. What was stopped begins anew: it is short beside the fit.

    Args:
        dictionary: in the units of the rows.
        stream: rows of mixed layers.
        total: rows to train on.
        on_rows: told (rows done, rows in all); what it raises ends it.

    Raises:
        Interrupted: the stream was stopped.
    """
    encoder, done = AmortisedEncoder(dictionary, total_rows=total), 0
    try:
        while done < total:
            on_rows(done, total)
            batch = next(stream, None)
            if batch is None:
                raise Interrupted  # a signal stopped the stream
            encoder.step(batch.rows.values[MIXED])
            done += len(batch.rows)
        on_rows(total, total)
    finally:
        stream.close()
    return encoder.sae


@final
class _Run:
    """The state of a run between two steps, and its files."""

    def __init__(self, config: FactorsConfig, fit: DictionaryFit, stream: ActivationStream, folder: Path, run_id: str) -> None:
        node = config.factors
        self._config, self._fit, self._stream, self._folder, self._id = config, fit, stream, folder / "checkpoints", run_id
        self._log_every = max(1, node.steps // ROWS_LOGGED) * node.batch_tokens
        self._metrics, self._timing = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timing.jsonl")
        self._clock = (time.perf_counter(), 0, 0.0)  # seconds, rows, seconds of waiting at the last row of the timing
        self.budget, self.scale = node.steps * node.batch_tokens, 1.0

    @property
    def tokens(self) -> int:
        """Rows so far."""
        return self._fit.rows_seen

    def start(self, *, resume: bool) -> bool:
        """Go to the latest checkpoint, or begin: the first chunk sets the scale. False where the stream was stopped before."""
        remove_leftovers(self._folder)
        found = latest_checkpoint(self._folder) if resume else None
        if found is None:
            self._metrics.cut_back(0)
            if self._config.factors.scaling != "none":
                try:
                    first = self._stream.current_chunk()
                except RuntimeError:
                    return False
                self.scale = estimate_scale(first.values[MIXED], self._config.factors.scaling)
        else:
            saved = read_checkpoint(found)
            self._fit.load_state_dict(saved["state_dict"])
            self._stream.load_state_dict(saved["stream"])
            self._metrics.cut_back(int(saved["run"]["metrics_position"]))
            self.scale = float(saved["run"]["scale"])
        self._clock = (time.perf_counter(), self.tokens, self._stream.seconds_waiting)
        return True

    def step(self, rows: Any, tokens: Any) -> None:
        """Take in one batch; write what is due."""
        before = self.tokens
        self._fit.step(rows * self.scale, tokens)
        if self._due(before, self._log_every) or self.tokens >= self.budget:
            self._log()
        if self._due(before, self._config.every_tokens) or self.tokens >= self.budget:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this step and remove the oldest beyond `checkpoint.keep`."""
        if self.tokens == 0:
            return
        checkpoint = {
            "state_dict": self._fit.state_dict(),
            "stream": self._stream.state_dict(),
            "run": {
                "config": self._config.tree,
                "metrics_position": self._metrics.position(),
                "id": self._id,
                "scale": self.scale,
            },
        }
        WholeFileCheckpointIO().save_checkpoint(checkpoint, checkpoint_path(self._folder, self.tokens))
        remove_oldest(self._folder, keep=self._config.checkpoint.keep)

    def export(self) -> SparseCodingSAE:
        """The dictionary as an SAE that takes rows before they are scaled."""
        node, dictionary = self._config.factors, self._fit.dictionary
        sae = SparseCodingSAE(
            d_in=dictionary.shape[1],
            d_sae=len(dictionary),
            l1_coefficient=node.l1_coefficient,
            **({} if node.tolerance is None else {"tolerance": node.tolerance}),
        )
        sae.W_dec.data.copy_(dictionary)
        sae.fold_scale_(self.scale)
        return sae

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._timing.close()

    def _due(self, before: int, every: int) -> bool:
        return self.tokens // every > before // every

    def _log(self) -> None:
        figures = asdict(self._fit.take_figures())
        del figures["rows"], figures["density"]
        row = {**figures, "dead_fraction": self._fit.silent_fraction(max(1, self.budget // 10)), "redrawn": self._fit.redrawn}
        self._metrics.write({"tokens": self.tokens, "sae": ARCHITECTURE, "split": "train", **row})
        now, waited = time.perf_counter(), self._stream.seconds_waiting
        seconds, rows, before = now - self._clock[0], self.tokens - self._clock[1], self._clock[2]
        pace = {
            "tokens_per_second": rows / max(1e-9, seconds),
            "waiting_share": min(1.0, (waited - before) / max(1e-9, seconds)),
        }
        self._timing.write({"tokens": self.tokens, "time": time.time(), **pace})
        self._clock = (now, self.tokens, waited)
