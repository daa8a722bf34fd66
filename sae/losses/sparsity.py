"""Penalties that keep latents silent. Each is a sum over latents for each row; the objective averages over rows."""

import math
from collections.abc import Callable
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.affine import AffineSAE
from sae.architectures.base import SparseAutoencoder
from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.gated import GatedSAE
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.sparse import SparseActs
from sae.losses.objective import START, StepInfo

__all__ = ["L0", "L1", "Lp", "Tanh", "Weighting", "thresholds", "weighted_sum"]

Weighting = Literal["none", "decoder_norm", "frozen_decoder_norm", "part_norms"]


@final
class L1:
    """Sum over latents of each row's activations (they are never negative).

    `weighting="none"`: sum_i f_i, for decoders held at unit norm (Towards Monosemanticity). `decoder_norm`: sum_i f_i ||d_i||,
    for free decoders (Anthropic April 2024), where the plain sum could be shrunk by growing the decoder; its gradient reaches
    the decoder. `frozen_decoder_norm`: the same value, with no gradient to the decoder (one of two remedies for gated SAEs with
    free decoders; the other is `GateReconstruction(through_decoder=True)`). `part_norms`: sum_i f_i sum_l ||d_i^l||, for
    crosscoders (Anthropic October 2024). Each is a sum, whichever reduction the squared error has: see `SquaredError` for how a
    coefficient converts.

    `on="pre_acts"` penalises relu(pre_acts) in place of the activations: the gate's, in a gated SAE.
    """

    def __init__(self, *, weighting: Weighting = "none", on: Literal["latent_acts", "pre_acts"] = "latent_acts") -> None:
        self.weighting: Weighting = _checked_weighting("l1", weighting)
        if on not in ("latent_acts", "pre_acts"):
            raise ValueError(f"l1_on is `latent_acts` or `pre_acts`, got {on!r}")
        self.on = on

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts where there are none."""
        _check_parts("l1", self.weighting, sae)

    def needs_dense(self, sae: SparseAutoencoder) -> bool:
        """The sparse pass has the positive pre-activations at hand only where they are those that fire."""
        return self.on == "pre_acts" and not isinstance(sae, GatedSAE)

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row, in activation units; summed in float32 at least."""
        if self.on == "latent_acts":
            return weighted_sum(output.latent_acts, _weights(sae, self.weighting))
        if output.pre_acts is None or (isinstance(output, SparseSAEOutput) and self.needs_dense(sae)):
            raise ValueError("l1_on=pre_acts needs the dense pass")
        return weighted_sum(_mapped(output.pre_acts, torch.relu), _weights(sae, self.weighting))


@final
class Lp(nn.Module):
    """factor * sum_i f_i^p over the latents that fire, 0 < p <= 1 (the sum of powers, not the norm); p may be annealed.

    p-annealing (Karvonen et al. 2024, arXiv:2408.00113): p goes from `p` to `p_end` in `updates` equal moves, the first at the
    fraction `start` of the budget, the others evenly over the rest. Each move multiplies the factor, 1 at first, by
    mean(sum_i f_i^p_old) / mean(sum_i f_i^p_new) over the last `memory` batches, each sum weighted as the penalty is, so that
    the penalty keeps its size.

    A latent that does not fire gets no gradient, though the power's derivative is infinite at 0.
    """

    p_now: Float[Tensor, ""]
    factor: Float[Tensor, ""]
    moves: Float[Tensor, ""]
    sums_now: Float[Tensor, " memory"]
    sums_next: Float[Tensor, " memory"]

    def __init__(
        self,
        *,
        p: float | int = 1.0,
        p_end: float | int | None = None,
        start: float | int = 0.1,
        updates: int = 10,
        memory: int = 10,
        weighting: Weighting = "none",
    ) -> None:
        super().__init__()
        for name, value in (("lp_p", p), ("lp_p_end", p if p_end is None else p_end)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie above 0 and be at most 1, got {value}")
        if not 0 <= start < 1 or updates < 1 or memory < 1:
            raise ValueError(
                "lp_start must be a fraction of the budget below 1, lp_updates and lp_memory at least 1; got "
                f"{start}, {updates}, {memory}"
            )
        self.p, self.p_end, self.start, self.updates = p, p_end, start, updates
        self.weighting: Weighting = _checked_weighting("lp", weighting)
        self.register_buffer("p_now", torch.tensor(float(p), dtype=torch.float64))
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))
        self.register_buffer("moves", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sums_now", torch.zeros(memory, dtype=torch.float64))
        self.register_buffer("sums_next", torch.zeros(memory, dtype=torch.float64))
        self._weights: Tensor | None = None  # of the last penalty, for `advance`, which follows it in each step

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts where there are none."""
        _check_parts("lp", self.weighting, sae)

    def forward(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row, in activation units to the power p."""
        powers, weights = (
            _mapped(output.latent_acts, lambda acts: _power(acts, float(self.p_now))),
            _weights(sae, self.weighting),
        )
        self._weights = None if weights is None else weights.detach()
        return float(self.factor) * weighted_sum(powers, weights)

    @torch.no_grad()
    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Remember this batch's sums, and move p where a move is due."""
        if self.p_end is None or int(self.moves) >= self.updates:
            return
        upcoming = self._p_after(int(self.moves) + 1)
        rows = max(1, len(output.recon))
        for sums, power in ((self.sums_now, float(self.p_now)), (self.sums_next, upcoming)):
            powers = _mapped(output.latent_acts, lambda acts, power=power: _power(acts, power))
            sums.copy_(sums.roll(1))
            sums[0] = weighted_sum(powers, self._weights).sum(dtype=torch.float64) / rows
        due = self.start + (1 - self.start) * int(self.moves) / self.updates
        if info.progress < due:
            return
        if float(self.sums_next.sum()) > 0:
            self.factor.mul_(self.sums_now.sum() / self.sums_next.sum())
        self.p_now.fill_(upcoming)
        self.moves.add_(1)
        self.sums_now.zero_()
        self.sums_next.zero_()

    def _p_after(self, moves: int) -> float:
        assert self.p_end is not None
        return self.p + (self.p_end - self.p) * moves / self.updates


@final
class Tanh:
    """sum_i tanh(c f_i ||d_i||) (Anthropic, February 2024 and January 2025): it stops growing, so strong latents do not shrink.

    February 2024 prints (A / B) tanh(B x): B is `scale`, and the coefficient A / B.
    """

    def __init__(self, *, scale: float | int = 4.0, weighting: Weighting = "decoder_norm") -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"tanh_scale must be positive and finite, got {scale}")
        self.scale = scale
        self.weighting: Weighting = _checked_weighting("tanh", weighting)

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts where there are none."""
        _check_parts("tanh", self.weighting, sae)

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row: no more than the number of latents that fire."""
        weights, acts = _weights(sae, self.weighting), output.latent_acts
        if isinstance(acts, SparseActs):
            own = None if weights is None else weights.index_select(0, acts.indices)
            return acts.map(lambda values: torch.tanh(self.scale * (values if own is None else values * own))).row_sums()
        return weighted_sum(torch.tanh(self.scale * (acts if weights is None else acts * weights)), None)


@final
class L0(nn.Module):
    """Number of latents that fire, by straight-through gradients to JumpReLU's thresholds (arXiv:2407.14435, equation 12).

    With `target` it steers to a number of latents instead of charging a price for each, in one of two ways:
    `steering="square"`: (L0 / target - 1)^2 with the batch's mean L0 (arXiv:2407.14435, section 5.4 as remembered; public
    libraries differ in its constant). `steering="price"`: L0 times a price that starts at 1 and is multiplied after each step
    by (L0 / target)^speed, the ratio taken within 1/e..e: it rises while too many latents fire and settles where the target is
    met. The optimum is then that of the paper's penalty at the right coefficient, whatever the data.

    SAELens' `quadratic` form, (2 / target) (L0 - target)^2, is `square` with the coefficient times 2 * target.
    """

    price: Float[Tensor, ""]

    def __init__(
        self,
        *,
        target: float | int | None = None,
        steering: Literal["square", "price"] = "square",
        speed: float | int = 0.05,
    ) -> None:
        super().__init__()
        if target is not None and not 0 < target < math.inf:
            raise ValueError(f"l0_target must be positive and finite, or null, got {target}")
        if steering not in ("square", "price"):
            raise ValueError(f"l0_steering is `square` or `price`, got {steering!r}")
        if not 0 < speed < math.inf:
            raise ValueError(f"l0_speed must be positive and finite, got {speed}")
        self.target, self.steering, self.speed = target, steering, speed
        self.register_buffer("price", torch.ones((), dtype=torch.float64))

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE without learnt thresholds, and a target that it has not as many latents for.

        Raises:
            ValueError: it has none, or fewer.
        """
        if not isinstance(sae, AffineSAE) or not isinstance(sae.activation_function, LearntThreshold):
            raise ValueError(f"l0_coefficient needs learnt thresholds (jumprelu), got {type(sae).__name__}: set it to null")
        if self.target is not None and self.target > sae.d_sae:
            raise ValueError(
                f"l0_target={self.target:g} is more than d_sae={sae.d_sae} latents: lower l0_target, or raise d_sae or "
                "expansion"
            )

    def forward(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row; the same for all rows with a target and `square`."""
        function = sae.activation_function if isinstance(sae, AffineSAE) else None
        if not isinstance(function, LearntThreshold) or output.pre_acts is None:
            raise ValueError("the term `l0` needs an architecture with learnt thresholds (jumprelu), and a pass of training")
        pre_acts = output.pre_acts
        fires = function.fired(pre_acts) if isinstance(pre_acts, SparseActs) else function.fires(pre_acts)
        fired = weighted_sum(fires, None)
        if self.target is None:
            return fired
        if self.steering == "price":
            return self.price.to(fired.dtype) * fired
        return (fired.mean() / self.target - 1).square().expand_as(fired)

    @torch.no_grad()
    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Raise the price where too many latents fired, lower it where too few did."""
        if self.target is None or self.steering != "price":
            return
        acts = output.latent_acts.values if isinstance(output.latent_acts, SparseActs) else output.latent_acts
        mean = (acts > 0).sum() / len(output.recon)
        self.price.mul_((mean.double() / self.target).log().clamp(-1, 1).mul(self.speed).exp())


def thresholds(sae: SparseAutoencoder) -> Float[Tensor, " d_sae"] | float:
    """Learnt thresholds (JumpReLU's), with their graph; 0 for other architectures."""
    function = sae.activation_function if isinstance(sae, AffineSAE) else None
    return function.threshold if isinstance(function, LearntThreshold) else 0.0


def _checked_weighting(term: str, weighting: Weighting) -> Weighting:
    if weighting not in get_args(Weighting):
        raise ValueError(f"{term}_weighting is one of {', '.join(get_args(Weighting))}, got {weighting!r}")
    return weighting


def _check_parts(term: str, weighting: Weighting, sae: SparseAutoencoder) -> None:
    if weighting == "part_norms" and not isinstance(sae, CrosscoderSAE):
        raise ValueError(f"{term}_weighting=part_norms needs a crosscoder, got {type(sae).__name__}: take decoder_norm or none")


def _weights(sae: SparseAutoencoder, weighting: Weighting) -> Float[Tensor, " d_sae"] | None:
    if weighting == "none":
        return None
    if weighting in ("decoder_norm", "frozen_decoder_norm"):
        return torch.linalg.vector_norm(sae.W_dec if weighting == "decoder_norm" else sae.W_dec.detach(), dim=1)
    if not isinstance(sae, CrosscoderSAE):
        raise ValueError(f"a weighting by part_norms needs a crosscoder, got {type(sae).__name__}")
    return sae.decoder_norms().sum(dim=0)


def _mapped(acts: Tensor | SparseActs, change: Callable[[Tensor], Tensor]) -> Tensor | SparseActs:
    return acts.map(change) if isinstance(acts, SparseActs) else change(acts)


def _power(acts: Tensor, p: float) -> Tensor:
    """acts^p where positive, else 0, with no gradient there."""
    positive = acts > 0
    return torch.where(positive, torch.where(positive, acts, 1).pow(p), 0)


def weighted_sum(acts: Tensor | SparseActs, weights: Float[Tensor, " d_sae"] | None) -> Float[Tensor, " batch"]:
    """Sum over latents, weighted where weights are given, in float32 at least: under autocast and with narrow weights too."""
    if isinstance(acts, SparseActs):
        return acts.row_sums(weights)
    if weights is None:
        return acts.sum(dim=-1, dtype=torch.promote_types(acts.dtype, torch.float32))
    wide = torch.promote_types(weights.dtype, torch.float32)
    with torch.autocast(acts.device.type, enabled=False):
        return acts.to(wide) @ weights.to(wide)
