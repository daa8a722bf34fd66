"""The activation function of an architecture that can have any, by its name."""

from typing import Literal

from sae.architectures.activation_functions.base import ActivationFunction
from sae.architectures.activation_functions.jumprelu import JumpReLU, ThresholdForm
from sae.architectures.activation_functions.relu import ReLU
from sae.architectures.activation_functions.top_k import BatchTopK, TopK

__all__ = ["ActivationName", "make_activation", "threshold_settings"]

ActivationName = Literal["relu", "topk", "batch_topk", "jumprelu"]


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
