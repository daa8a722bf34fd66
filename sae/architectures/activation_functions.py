"""From pre-activations to latent activations: which latents fire, and how strongly.

Each is a small module, because two of them carry a threshold for each latent.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.checks import check_flag, check_k, check_size
from sae.functional.encoder_product import EncoderProduct
from sae.functional.selection import batch_top_k, row_top_k
from sae.functional.sparse import SparseActs
from sae.functional.straight_through import jumprelu, step

__all__ = [
    "ActivationFunction",
    "ActivationName",
    "BatchTopK",
    "JumpReLU",
    "LearntThreshold",
    "ReLU",
    "ThresholdForm",
    "TopK",
    "make_activation",
    "threshold_settings",
]

ActivationName = Literal["relu", "topk", "batch_topk", "jumprelu"]
ThresholdForm = Literal["raw", "log"]


class ActivationFunction(nn.Module, ABC):
    """pre_acts -> latent_acts: never negative, exactly 0 where a latent is silent, each row by itself.

    A pre-activation of 0 or less is silent. It scales with its input: after `scale_(c)`, f(c * pre_acts) is c times what
    f(pre_acts) was, for c > 0.

    What a new one must provide:
    1. `forward`, and `forward_train` where training selects otherwise.
    2. `pick` (and `pick_train`): every entry that `forward` makes positive and, where gradients are recorded, every further one
       that gives a learnt parameter a gradient (`count_held` counts them too); `activate`: latent activations of what was
       picked, equal to the dense ones in values and in the gradients of pre-activations and learnt parameters. Without one the
       positive part is taken.
    3. With parameters that are learnt: `thresholds`, `scale_`, `reset_` and `constrain_`. What follows a scale and is not
       learnt is a buffer, which `scale_` multiplies too. `LearntThreshold` has what terms of the loss ask beside.

    An architecture that uses it and a line in `tests/cases.py` bring the tests that hold it to this.

    Attributes:
        k: latents that a row may use, where that is fixed.
        selects_by_size: whether a row's latents compete by size.
    """

    k: int | None = None
    selects_by_size: bool = False

    @property
    def batch_threshold(self) -> Tensor | None:
        """The threshold [d_sae] that stands in for a selection over the batch, where training makes such a selection."""
        return None

    @abstractmethod
    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations as training makes them: a selection over the batch where there is one.

        Args:
            pre_acts: of a batch.
            k: in place of the module's own, while it is annealed.
        """
        return self(pre_acts)

    @abstractmethod
    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those pre-activations whose latent activation is not zero or has a gradient, each row by itself."""

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The same as training makes them: see `forward_train`."""
        return self.pick(product)

    def activate(self, picked: SparseActs) -> SparseActs:
        """Latent activations of the pre-activations that were picked."""
        return picked.map(torch.relu)

    def count_held(self, pre_acts: Tensor, latent_acts: Tensor) -> int:
        """How many entries `pick` would give with gradients recorded, where these are all there are."""
        return int((latent_acts > 0).sum())

    def thresholds(self) -> list[tuple[Tensor, int]]:
        """Every learnt parameter, with one entry for each latent, and its latent axis."""
        return []

    def scale_(self, factor: Tensor) -> None:
        """Pre-activations are multiplied by `factor` (a scalar or [d_sae]) from now on: thresholds follow."""

    def reset_(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """Put the thresholds of these latents at their start."""

    def constrain_(self) -> None:
        """Restore after an update what must hold of thresholds."""


class LearntThreshold(ActivationFunction, ABC):
    """One that keeps pre-activations above a threshold of each latent, which is learnt: what penalties on L0 need."""

    @property
    @abstractmethod
    def threshold(self) -> Float[Tensor, " d_sae"]:
        """theta, positive, in the units of pre-activations, with its graph."""

    @abstractmethod
    def fires(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """1 where a latent fires, else 0, with a gradient of L0."""

    @abstractmethod
    def fired(self, picked: SparseActs) -> SparseActs:
        """`fires` of the pre-activations that were picked, with the same gradient."""


@final
class ReLU(ActivationFunction):
    """Implements: latent_acts = max(pre_acts, 0)."""

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return torch.relu(pre_acts)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """The positive ones."""
        return product.above(0.0)


@final
class TopK(ActivationFunction):
    """Implements: latent_acts = the k largest pre_acts of each row where positive, else 0."""

    selects_by_size = True

    def __init__(self, *, d_sae: int, k: int) -> None:
        super().__init__()
        self.k = check_k(k, d_sae)

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        assert self.k is not None
        return row_top_k(pre_acts, self.k)

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations, k of each row."""
        return self(pre_acts) if k is None else row_top_k(pre_acts, k)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """The k largest of each row where they are positive."""
        picked = self.pick_train(product)
        return picked.where(picked.values > 0)

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The k largest of each row, positive or not."""
        assert self.k is not None
        return product.top_k(self.k if k is None else k)


@final
class BatchTopK(ActivationFunction):
    """Implements: latent_acts = pre_acts where above the threshold, else 0; in training the rows * k largest of the batch."""

    threshold: Float[Tensor, " d_sae"]

    def __init__(self, *, d_sae: int, k: int) -> None:
        super().__init__()
        self.k = check_k(k, d_sae)
        self.register_buffer("threshold", torch.zeros(d_sae))

    @property
    def batch_threshold(self) -> Tensor:
        """The threshold."""
        return self.threshold

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return pre_acts * (pre_acts > self.threshold)

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """The rows * k largest of the batch. In several processes each selects from its own rows."""
        assert self.k is not None
        return batch_top_k(pre_acts, self.k if k is None else k)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those above the threshold."""
        return product.above(self.threshold)

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The rows * k largest of the batch."""
        assert self.k is not None
        return product.batch_top_k(self.k if k is None else k)

    def scale_(self, factor: Tensor) -> None:
        """The threshold follows the pre-activations."""
        self.threshold.copy_(self.threshold * factor)


@final
class JumpReLU(LearntThreshold):
    """Implements: latent_acts = pre_acts where above a threshold of each latent, else 0; straight-through in the backward pass.

    The threshold is a parameter: itself (`raw`, Gemma Scope; kept positive after each update) or its logarithm (`log`,
    January 2025). With `log` the chain rule gives the parameter's gradient the factor theta once more; public replications
    differ in that, here it is the chain rule. What is stored is that parameter divided by `threshold_rate`: under an optimizer
    whose steps do not depend on the gradient's size, as Adam's, thresholds then move so many times as fast as weights.
    """

    def __init__(
        self,
        *,
        d_sae: int,
        threshold_start: float | int,
        threshold_form: ThresholdForm,
        bandwidth: float | int,
        through_pre_acts: bool,
        threshold_rate: float | int = 1.0,
    ) -> None:
        super().__init__()
        check_size("d_sae", d_sae)
        positive = {"threshold_start": threshold_start, "bandwidth": bandwidth, "threshold_rate": threshold_rate}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if threshold_form not in ("raw", "log"):
            raise ValueError(f"threshold_form is `raw` or `log`, got {threshold_form!r}")
        check_flag("through_pre_acts", through_pre_acts)
        self.threshold_start = threshold_start
        self.threshold_form: ThresholdForm = threshold_form
        self.bandwidth, self.through_pre_acts, self.threshold_rate = bandwidth, through_pre_acts, threshold_rate
        self.threshold_parameter = nn.Parameter(torch.full((d_sae,), self._stored(threshold_start)))

    @property
    def threshold(self) -> Float[Tensor, " d_sae"]:
        """theta, positive, in the units of pre-activations."""
        stored = self.threshold_parameter * self.threshold_rate
        return stored.exp() if self.threshold_form == "log" else stored

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return jumprelu(pre_acts, self.threshold, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts)

    def fires(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """1 where a latent fires, else 0, with the straight-through gradient of L0."""
        return step(pre_acts, self.threshold, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those above the threshold and, where gradients are recorded, those just below it, which move the threshold too."""
        threshold = self.threshold.detach()
        return product.above(threshold - self.bandwidth / 2 if torch.is_grad_enabled() else threshold)

    def count_held(self, pre_acts: Tensor, latent_acts: Tensor) -> int:
        """Those above the threshold or just below it."""
        return int((pre_acts > self.threshold.detach() - self.bandwidth / 2).sum())

    def activate(self, picked: SparseActs) -> SparseActs:
        """Latent activations, zero for those below the threshold."""
        own = self._threshold_of(picked)
        return picked.map(lambda z: jumprelu(z, own, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts))

    def fired(self, picked: SparseActs) -> SparseActs:
        """`fires` of the pre-activations that were picked."""
        own = self._threshold_of(picked)
        return picked.map(lambda z: step(z, own, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts))

    def _threshold_of(self, picked: SparseActs) -> Float[Tensor, " nnz"]:
        return self.threshold.index_select(0, picked.indices)

    def thresholds(self) -> list[tuple[Tensor, int]]:
        """The threshold's parameter."""
        return [(self.threshold_parameter, 0)]

    @torch.no_grad()
    def scale_(self, factor: Tensor) -> None:
        """The threshold follows the pre-activations; the bandwidth, of use in training alone, stays in training's units."""
        if self.threshold_form == "log":
            self.threshold_parameter.add_(factor.log() / self.threshold_rate)
        else:
            self.threshold_parameter.mul_(factor)

    @torch.no_grad()
    def reset_(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """The threshold of these latents starts again."""
        self.threshold_parameter.masked_fill_(latents, self._stored(self.threshold_start))

    @torch.no_grad()
    def constrain_(self) -> None:
        """A raw threshold stays positive: at least a millionth of where it started."""
        if self.threshold_form == "raw":
            self.threshold_parameter.clamp_(min=1e-6 * self._stored(self.threshold_start))

    def _stored(self, threshold: float | int) -> float:
        return (math.log(threshold) if self.threshold_form == "log" else float(threshold)) / self.threshold_rate


def make_activation(
    name: ActivationName,
    *,
    d_sae: int,
    k: int | None = None,
    threshold_start: float | int | None = None,
    bandwidth: float | int | None = None,
    threshold_form: ThresholdForm | None = None,
    through_pre_acts: bool | None = None,
    threshold_rate: float | int | None = None,
) -> ActivationFunction:
    """The activation function of an architecture that can have any.

    Args:
        name: which.
        d_sae: number of latents.
        k: latents a row may use; for `topk` and `batch_topk`, and for no other.
        threshold_start: where thresholds start; for `jumprelu`, and for no other.
        bandwidth: width of the kernel around a threshold; for `jumprelu`, and for no other.
        threshold_form: `log` or `raw`, for `jumprelu`; None is `log`.
        through_pre_acts: whether straight-through gradients reach pre-activations, for `jumprelu`; None is True.
        threshold_rate: how many times as fast as weights thresholds move, for `jumprelu`; None is 1.

    Raises:
        ValueError: a setting is missing, out of range, or belongs to another activation function.
    """
    needed = {"k": k, "threshold_start": threshold_start, "bandwidth": bandwidth}
    optional = {"threshold_form": threshold_form, "through_pre_acts": through_pre_acts, "threshold_rate": threshold_rate}
    wanted = {"relu": (), "topk": ("k",), "batch_topk": ("k",), "jumprelu": ("threshold_start", "bandwidth", *optional)}
    if name not in wanted:
        raise ValueError(f"activation is one of {', '.join(wanted)}, got {name!r}")
    for key, value in {**needed, **optional}.items():
        if key in wanted[name] and key in needed and value is None:
            raise ValueError(f"activation={name} needs {key}, got null")
        if key not in wanted[name] and value is not None:
            raise ValueError(f"{key}={value} has no meaning with activation={name}: set {key}=null")
    if k is not None:
        return TopK(d_sae=d_sae, k=k) if name == "topk" else BatchTopK(d_sae=d_sae, k=k)
    if threshold_start is not None and bandwidth is not None:
        return JumpReLU(
            d_sae=d_sae,
            threshold_start=threshold_start,
            threshold_form="log" if threshold_form is None else threshold_form,
            bandwidth=bandwidth,
            through_pre_acts=True if through_pre_acts is None else through_pre_acts,
            threshold_rate=1.0 if threshold_rate is None else threshold_rate,
        )
    return ReLU()


def threshold_settings(function: ActivationFunction) -> tuple[ThresholdForm | None, bool | None, float | int | None]:
    """threshold_form, through_pre_acts and threshold_rate as they came to be; None where no thresholds are learnt."""
    if not isinstance(function, JumpReLU):
        return None, None, None
    return function.threshold_form, function.through_pre_acts, function.threshold_rate
