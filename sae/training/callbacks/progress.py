"""What a person at the terminal sees while training: one bar in tokens, or plain lines where there is no terminal."""

import os
import sys
import time
from typing import Any, final

import lightning as L
from tqdm import tqdm

from sae.training.callbacks.run_metrics import RunMetrics

__all__ = ["Progress"]

SECONDS_BETWEEN_LINES = 10.0
NARROW_COLUMNS = 120  # below this the bar itself gives way to the numbers
WIDE = "{desc} {percentage:3.0f}% {bar} {n_fmt}/{total_fmt} tokens, {rate_fmt}, {remaining} left{postfix}"
NARROW = "{percentage:3.0f}% {n_fmt}/{total_fmt} {rate_fmt} {remaining}{postfix}"


@final
class Progress(L.Callback):
    """A bar with tokens/s, loss, L0, FVU and dead latents of the first SAE; lines every ten seconds without a terminal."""

    def __init__(self, metrics: RunMetrics, *, total_tokens: int, batch_tokens: int) -> None:
        self.metrics, self.total_tokens, self.batch_tokens = metrics, total_tokens, batch_tokens
        self._bar: tqdm[Any] | None = None
        self._narrow = False
        self._last_line = 0.0
        self._began = (0.0, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar at the tokens already trained."""
        done = trainer.global_step * self.batch_tokens
        self._began = (time.perf_counter(), done)
        if sys.stderr.isatty():
            # some terminals say 0 columns, and mean that they do not know
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            self._narrow = columns < NARROW_COLUMNS
            self._bar = tqdm(
                total=self.total_tokens,
                initial=done,
                unit="tok",
                unit_scale=True,
                desc="training",
                smoothing=0.1,
                ncols=columns,
                bar_format=NARROW if self._narrow else WIDE,
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        tokens = trainer.global_step * self.batch_tokens
        if self._bar is not None:
            self._bar.update(tokens - self._bar.n)
            self._bar.set_postfix_str(self._numbers(), refresh=False)
        elif time.perf_counter() - self._last_line > SECONDS_BETWEEN_LINES or trainer.global_step == trainer.max_steps:
            self._last_line = time.perf_counter()
            seconds = self._last_line - self._began[0]
            speed = (tokens - self._began[1]) / seconds if seconds > 0 else 0.0
            left = (self.total_tokens - tokens) / speed if speed > 0 else 0.0
            sys.stderr.write(
                f"training {tokens:,} of {self.total_tokens:,} tokens, {speed:,.0f} tokens/s, {left:,.0f} s left"
                f"{', ' if self._numbers() else ''}{self._numbers()}\n"
            )
            sys.stderr.flush()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _numbers(self) -> str:
        if not self.metrics.latest:
            return ""
        latest = next(iter(self.metrics.latest.values()))
        shown = [
            f"{label} {latest[key]:{form}}"
            for label, key, form in (
                ("loss", "train/loss", ".4g"),
                ("L0", "train/l0", ".1f"),
                ("FVU", "train/fvu", ".3f"),
                ("held-out FVU", "held_out/fvu", ".3f"),
                ("dead", "train/dead_fraction", ".1%"),
            )
            if key in latest and not (self._narrow and key == "held_out/fvu")
        ]
        return (" " if self._narrow else ", ").join(shown)
