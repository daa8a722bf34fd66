"""How one SAE is trained: every setting beside its architecture and the terms of its objective.

Times are fractions of the training budget, never absolute steps, so that a recipe means the same at any budget.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Budget", "Recipe", "default_learning_rate"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend, counted in rows (activation vectors after masking).

    Attributes:
        train_tokens: rows in all.
        batch_tokens: rows a step.
    """

    train_tokens: int
    batch_tokens: int

    @property
    def steps(self) -> int:
        """Whole batches in the budget."""
        return self.train_tokens // self.batch_tokens

    def step_at(self, fraction: float) -> int:
        """The number of completed steps at which this fraction of the budget has been spent, rounded down."""
        return math.floor(fraction * self.steps)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training settings of one SAE; the keys of `conf/sae/*.yaml` that are neither the architecture's nor a term's.

    Attributes:
        lr: peak learning rate; null takes `default_learning_rate`.
        scaling: the one scalar that rows are multiplied with while training (folded into the biases at export):
            `variance` makes the mean of ||x - mean||^2 equal d_in, `mean_square` that of ||x||^2, `norm` makes the mean of
            ||x|| equal sqrt(d_in), `unit` makes the mean of ||x||^2 equal 1, `none` leaves rows as they are.
        tied_init: start from W_enc = W_dec^T (untied from the first step on); otherwise W_enc is drawn like W_dec.
        decoder_norm: length of the decoder's rows at the start.
        b_dec_init: where the decoder bias starts: `zero`, the rows' `mean` or their `geometric_median`.
        unit_norm_decoder: keep the decoder's rows at unit length: the gradient's component along each row is removed before
            the optimizer's step and the rows are renormalised after it.
        clip_norm: largest norm of this SAE's gradient; null does not clip.
        resample_at: fractions of the budget at which dead latents are resampled; an empty list never does.
        resample_window: a latent is resampled if it has not fired in this fraction of the budget.
        resample_pool_rows: rows of the current chunk from which directions are drawn.
        resample_encoder_norm: new encoder columns' norm, as a multiple of the mean norm of the living latents' columns.
        dead_window_tokens: `dead_fraction` counts the latents that fired on none of the last this many training rows;
            null takes a tenth of the budget, at most ten million.
    """

    lr: float | None = None
    scaling: Literal["variance", "mean_square", "norm", "unit", "none"] = "variance"
    tied_init: bool = True
    decoder_norm: float = 1.0
    b_dec_init: Literal["zero", "mean", "geometric_median"] = "geometric_median"
    unit_norm_decoder: bool = True
    clip_norm: float | None = None
    resample_at: tuple[float, ...] = ()
    resample_window: float = 0.1
    resample_pool_rows: int = 16384
    resample_encoder_norm: float = 0.2
    dead_window_tokens: int | None = None

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (self.lr is not None and self.lr <= 0, f"sae.lr must be above 0, got {self.lr}"),
                (self.decoder_norm <= 0, f"sae.decoder_norm must be above 0, got {self.decoder_norm}"),
                (
                    self.unit_norm_decoder and self.decoder_norm != 1.0,
                    f"sae.decoder_norm must be 1.0 while sae.unit_norm_decoder is true, got {self.decoder_norm}",
                ),
                (self.clip_norm is not None and self.clip_norm <= 0, f"sae.clip_norm must be above 0, got {self.clip_norm}"),
                (
                    any(not 0 < fraction < 1 for fraction in self.resample_at),
                    f"sae.resample_at holds fractions of the budget, each between 0 and 1, got {list(self.resample_at)}",
                ),
                (
                    not 0 < self.resample_window <= 1,
                    f"sae.resample_window is a fraction of the budget above 0, at most 1, got {self.resample_window}",
                ),
                (self.resample_pool_rows < 1, f"sae.resample_pool_rows must be at least 1, got {self.resample_pool_rows}"),
                (
                    self.resample_encoder_norm <= 0,
                    f"sae.resample_encoder_norm must be above 0, got {self.resample_encoder_norm}",
                ),
                (
                    self.dead_window_tokens is not None and self.dead_window_tokens < 1,
                    f"sae.dead_window_tokens must be at least 1, got {self.dead_window_tokens}",
                ),
            )
            if wrong
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def dead_window(self, budget: Budget) -> int:
        """Training rows without a firing after which a latent counts as dead."""
        if self.dead_window_tokens is not None:
            return self.dead_window_tokens
        return min(10_000_000, max(1, budget.train_tokens // 10))


def default_learning_rate(budget: Budget) -> float:
    """Peak rate of Adam for rows of variance d_in, by the number of steps.

    Adam moves a weight by about the rate in each step, so what a short run needs is a larger rate, not more of them: 2e-3 up to
    about a thousand steps, falling with the square root of the number of steps after that, and never below 5e-5. Measured on
    the packaged models; `scripts/BENCHMARKS.md` has the table.
    """
    return max(5e-5, 2e-3 * min(1.0, math.sqrt(1000 / max(1, budget.steps))))
