"""How one SAE is trained: every setting beside its architecture and the terms of its objective.

Times are fractions of the training budget, never absolute steps, so that a recipe means the same at any budget.
"""

import math
from dataclasses import dataclass
from typing import Literal

from sae.architectures.directions import Directions
from sae.training.row_space import Centring, TrainingScaling

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
        lr: peak learning rate; null takes `default_learning_rate`, which is for rows of variance d_in. Adam's steps do not know
            the units of rows: weights of unit norm move as far under every scaling; biases and raw thresholds, which are in
            those units, relatively farther where rows are short (`unit`; `none` with small activations) and less where they are
            long. No other rate makes up for that, since weights need theirs: bring short rows to another scale. (A planted
            dictionary of 64 dimensions, TopK, 586 steps, held-out FVU: `variance` 0.162, `unit` 0.165; `none` 0.165 and 0.166
            for rows at a mean distance of 76 and 1.5 from their mean, 0.207 at 0.03, and there 0.33 at 0.4 times the rate.)
        lr_factor: what that default is multiplied by; without effect where `lr` is given.
        lr_width: dictionaries of more latents than this take the default rate times sqrt(lr_width / d_sae), the law of Gao et
            al. 2024; null: every width takes the same. Latents that few rows choose die of large steps.
        scaling: the one scalar that rows are multiplied with while training (folded into the biases at export):
            `variance` makes the mean of ||x - mean||^2 equal d_in, `mean_square` that of ||x||^2, `norm` makes the mean of
            ||x|| equal sqrt(d_in), `unit` makes the mean of ||x||^2 equal 1, `none` leaves rows as they are. `layer_norm`
            brings each row by itself to mean 0 and deviation 1; it cannot be folded and stays in the exported `forward`.
        centring: what is subtracted from rows before they are scaled, and folded into the biases at export: `none`, the first
            rows' `mean` or their `geometric_median`. For architectures whose b_dec cannot do it for the input.
        tied_init: start from W_enc = encoder_scale * W_dec^T (untied from the first step on); otherwise Kaiming-uniform.
        encoder_scale: see above; `d_in/d_sae` is that ratio.
        directions: of the decoder's rows at the start: `random`; `uniform` entries within 1/sqrt(d_out), which needs
            `decoder_norm` null; `data`, those of rows less their mean; or `active_subspace`, random inside the span of the
            leading principal directions of the rows.
        variance_share: share of the rows' variance that this span holds.
        decoder_norm: length of the decoder's rows at the start.
        b_dec_init: where the decoder bias starts: `zero`, the rows' `mean` or their `geometric_median`.
        b_enc_init: where the encoder bias starts: `zero`, or `firing_rate`, so that each latent fires on 10,000 / d_sae of the
            rows, at most 5 %.
        average_half_life: average the weights over training, the weights of this fraction of the budget ago counting half; the
            average is what is evaluated and exported. null exports the last weights.
        unit_norm_decoder: keep the decoder's rows at unit length: the gradient's component along each row is removed before
            the optimizer's step and the rows are renormalised after it. A free decoder needs penalties that weigh by its norms.
        clip_norm: largest norm of this SAE's gradient: a number, `d_in` or `sqrt_d_in`; null does not clip. The gradient of a
            squared error that is summed over dimensions grows with d_in.
        resample_at: fractions of the budget at which dead latents are resampled; an empty list never does.
        resample_window: a latent is resampled if it has not fired in this fraction of the budget.
        resample_window_tokens: the same in rows, in place of the fraction.
        resample_pool_rows: rows of the current chunk from which directions are drawn.
        resample_encoder_norm: new encoder columns' norm, as a multiple of the mean norm of the living latents' columns.
        resample_firing_share: a resampled latent's encoder bias is such that it fires on this share of the pool; null leaves it
            at zero (the paper). With a bias of zero it fires on about half of all rows, and where a few dimensions hold most of
            the variance all of them fire together and add up.
        revive_window: a latent that has not fired in this fraction of the budget (at most ten million rows) counts as dead for
            the terms that bring dead latents back (auxk, ghost, pre_act).
        revive_window_tokens: the same in rows, in place of the fraction.
        k_anneal: fraction of the budget over which k goes down to its value, for architectures with k; 0: not at all.
        k_anneal_from: the k to begin with; null takes d_in, or d_sae where that is less.
        k_anneal_shape: `linear`, or `exponential` (equal ratios).
        threshold_memory: the running threshold of architectures that select over the batch forgets a batch in about this
            fraction of the budget.
        calibration_rows: last training rows on which that threshold, and learnt thresholds that were steered to an L0, are set
            at the end; 0 sets neither: the running threshold stands, and learnt ones stay as they were trained.
        dead_window_tokens: `dead_fraction` counts the latents that fired on none of the last this many training rows;
            null takes a tenth of the budget, at most ten million.
    """

    lr: float | None = None
    lr_factor: float = 1.0
    lr_width: int | None = None
    scaling: TrainingScaling = "variance"
    centring: Centring = "none"
    tied_init: bool = True
    encoder_scale: float | Literal["d_in/d_sae"] = 1.0
    directions: Directions = "random"
    variance_share: float = 0.99
    decoder_norm: float | None = 1.0
    b_dec_init: Literal["zero", "mean", "geometric_median"] = "geometric_median"
    b_enc_init: Literal["zero", "firing_rate"] = "zero"
    average_half_life: float | None = None
    unit_norm_decoder: bool = True
    clip_norm: float | Literal["d_in", "sqrt_d_in"] | None = None
    resample_at: tuple[float, ...] = ()
    resample_window: float = 0.1
    resample_window_tokens: int | None = None
    resample_pool_rows: int = 16384
    resample_encoder_norm: float = 0.2
    resample_firing_share: float | None = None
    revive_window: float = 0.05
    revive_window_tokens: int | None = None
    k_anneal: float = 0.0
    k_anneal_from: int | None = None
    k_anneal_shape: Literal["linear", "exponential"] = "linear"
    threshold_memory: float = 0.02
    calibration_rows: int = 16384
    dead_window_tokens: int | None = None

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (self.lr is not None and self.lr <= 0, f"sae.lr must be above 0, got {self.lr}"),
                (self.lr_factor <= 0, f"sae.lr_factor must be above 0, got {self.lr_factor}"),
                (
                    self.lr_width is not None and self.lr_width < 1,
                    f"sae.lr_width must be 1 or more latents, or null, got {self.lr_width}",
                ),
                (
                    self.decoder_norm is not None and self.decoder_norm <= 0,
                    f"sae.decoder_norm must be above 0, got {self.decoder_norm}",
                ),
                (
                    (self.directions == "uniform") != (self.decoder_norm is None),
                    f"sae.directions=uniform goes with sae.decoder_norm=null, and no other directions do, got "
                    f"{self.directions} with {self.decoder_norm}",
                ),
                (
                    isinstance(self.encoder_scale, float) and self.encoder_scale <= 0,
                    f"sae.encoder_scale must be above 0, got {self.encoder_scale}",
                ),
                (
                    not self.tied_init and self.encoder_scale != 1.0,
                    f"sae.encoder_scale has no meaning with sae.tied_init=false, got {self.encoder_scale}",
                ),
                (
                    not 0 < self.variance_share <= 1,
                    f"sae.variance_share is above 0 and at most 1, got {self.variance_share}",
                ),
                (
                    self.average_half_life is not None and self.average_half_life <= 0,
                    f"sae.average_half_life is a fraction of the budget above 0, got {self.average_half_life}",
                ),
                (
                    self.unit_norm_decoder and self.decoder_norm not in (1.0, None),
                    f"sae.decoder_norm must be 1.0 while sae.unit_norm_decoder is true, got {self.decoder_norm}",
                ),
                (
                    isinstance(self.clip_norm, float) and self.clip_norm <= 0,
                    f"sae.clip_norm must be above 0, got {self.clip_norm}",
                ),
                (
                    any(not 0 < fraction < 1 for fraction in self.resample_at),
                    f"sae.resample_at holds fractions of the budget, each between 0 and 1, got {list(self.resample_at)}",
                ),
                (
                    not 0 < self.resample_window <= 1,
                    f"sae.resample_window is a fraction of the budget above 0, at most 1, got {self.resample_window}",
                ),
                (
                    self.resample_window_tokens is not None and self.resample_window_tokens < 1,
                    f"sae.resample_window_tokens must be at least 1, got {self.resample_window_tokens}",
                ),
                (self.resample_pool_rows < 1, f"sae.resample_pool_rows must be at least 1, got {self.resample_pool_rows}"),
                (
                    self.resample_encoder_norm <= 0,
                    f"sae.resample_encoder_norm must be above 0, got {self.resample_encoder_norm}",
                ),
                (
                    self.resample_firing_share is not None and not 0 < self.resample_firing_share < 1,
                    f"sae.resample_firing_share is a share of rows between 0 and 1, got {self.resample_firing_share}",
                ),
                (
                    not 0 < self.revive_window <= 1,
                    f"sae.revive_window is a fraction of the budget above 0, at most 1, got {self.revive_window}",
                ),
                (
                    self.revive_window_tokens is not None and self.revive_window_tokens < 1,
                    f"sae.revive_window_tokens must be at least 1, got {self.revive_window_tokens}",
                ),
                (not 0 <= self.k_anneal <= 1, f"sae.k_anneal is a fraction of the budget in 0..1, got {self.k_anneal}"),
                (
                    self.k_anneal_from is not None and self.k_anneal_from < 1,
                    f"sae.k_anneal_from must be at least 1, got {self.k_anneal_from}",
                ),
                (
                    not 0 < self.threshold_memory <= 1,
                    f"sae.threshold_memory is a fraction of the budget above 0, at most 1, got {self.threshold_memory}",
                ),
                (
                    self.calibration_rows < 0,
                    f"sae.calibration_rows is a number of rows, or 0 for no calibration, got {self.calibration_rows}",
                ),
                (
                    self.scaling == "layer_norm" and self.centring != "none",
                    "sae.centring has no meaning with sae.scaling=layer_norm, which centres each row: set sae.centring=none",
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

    def clip_norm_at(self, d_in: int) -> float | None:
        """Largest norm of the gradient for an input of this width; None: any."""
        if isinstance(self.clip_norm, str):
            return float(d_in) if self.clip_norm == "d_in" else math.sqrt(d_in)
        return self.clip_norm

    def dead_window(self, budget: Budget) -> int:
        """Training rows without a firing after which a latent counts as dead."""
        if self.dead_window_tokens is not None:
            return self.dead_window_tokens
        return min(10_000_000, max(1, budget.train_tokens // 10))

    def resampling_window(self, budget: Budget) -> int:
        """Training rows without a firing after which a latent is resampled."""
        if self.resample_window_tokens is not None:
            return self.resample_window_tokens
        return max(1, round(self.resample_window * budget.train_tokens))

    def peak_learning_rate(self, budget: Budget, d_sae: int, *, optimizer_factor: float | int = 1.0) -> float:
        """`lr`, or the default rate for this many latents.

        Args:
            budget: of the run.
            d_sae: latents.
            optimizer_factor: what the default is multiplied by for the optimizer (`OptimizerSettings.rate_factor`).
        """
        if self.lr is not None:
            return self.lr
        by_width = 1.0 if self.lr_width is None else min(1.0, math.sqrt(self.lr_width / d_sae))
        return optimizer_factor * self.lr_factor * by_width * default_learning_rate(budget)

    def revival_window(self, budget: Budget) -> int:
        """Training rows without a firing after which auxk, ghost and pre_act take a latent for dead."""
        if self.revive_window_tokens is not None:
            return self.revive_window_tokens
        return min(10_000_000, max(1, round(self.revive_window * budget.train_tokens)))

    def k_at(self, step: int, budget: Budget, *, k: int, start: int) -> int:
        """K at step number `step` (0-based): from `start` down to `k`.

        Args:
            step: number of the step.
            budget: of the run.
            k: the value to end with.
            start: the value to begin with, where `k_anneal_from` is null.
        """
        steps = self.k_anneal * budget.steps
        begin = max(k, start if self.k_anneal_from is None else self.k_anneal_from)
        if step >= steps:
            return k
        done = step / steps
        if self.k_anneal_shape == "linear":
            return round(begin + (k - begin) * done)
        return round(begin * (k / begin) ** done)


def default_learning_rate(budget: Budget) -> float:
    """Peak rate of Adam for rows of variance d_in, by the number of steps.

    Adam moves a weight by about the rate in each step, so what a short run needs is a larger rate, not more of them: 2e-3 up to
    about a thousand steps, falling with the square root of the number of steps after that, and never below 5e-5. Where large
    batches leave fewer than 500 steps it rises likewise, to twice that at most, and by no more than the square root of the
    batch over 512 rows: few steps of small batches are few rows, and a larger rate does not help these. Recipes multiply it
    (`lr_factor`): TopK by 2 (less from 2,560 latents on, `lr_width`), JumpReLU by 1.4, ReLU by 0.5. Measured at 146, 1,171 and
    4,687 steps; `scripts/BENCHMARKS.md` and `scripts/reproduce/RESULTS.md` have the tables.
    """
    steps = max(1, budget.steps)
    by_batch = min(2.0, max(1.0, math.sqrt(budget.batch_tokens / 512)))
    return max(5e-5, 2e-3 * min(math.sqrt(1000 / steps), 1.0) * max(1.0, min(math.sqrt(500 / steps), by_batch)))
