"""The activation function of an architecture that can have any, by its name."""

from typing import Any, Literal, TypedDict, Unpack

from sae.architectures.activation_functions.base import ActivationFunction
from sae.architectures.activation_functions.jumprelu import JumpReLU, ThresholdForm
from sae.architectures.activation_functions.relu import ReLU
from sae.architectures.activation_functions.top_k import BatchTopK, TopK

__all__ = ["ActivationName", "ThresholdSettings", "make_activation", "threshold_settings"]

ActivationName = Literal["relu", "topk", "batch_topk", "jumprelu"]


class ThresholdSettings(TypedDict, total=False):
    """Settings of `jumprelu`, and of no other; what is None or not given has the default, where there is one.

    Attributes:
        threshold_start: where thresholds start; must be given.
        bandwidth: width of the kernel around a threshold; must be given.
        threshold_form: `log` or `raw`; None is `log`.
        through_pre_acts: whether straight-through gradients reach pre-activations; None is True.
        threshold_rate: how many times as fast as weights thresholds move; None is 1.
    """

    threshold_start: float | int | None
    bandwidth: float | int | None
    threshold_form: ThresholdForm | None
    through_pre_acts: bool | None
    threshold_rate: float | int | None


def make_activation(
    name: ActivationName, *, d_sae: int, k: int | None = None, **thresholds: Unpack[ThresholdSettings]
) -> ActivationFunction:
    """The activation function of an architecture that can have any.

    Args:
        name: which.
        d_sae: number of latents.
        k: latents a row may use; for `topk` and `batch_topk`, and for no other.
        **thresholds: for `jumprelu`.

    Raises:
        TypeError: there is no such setting.
        ValueError: a setting is missing, out of range, or belongs to another activation function.
    """
    keys = ("k", *ThresholdSettings.__annotations__)
    if unknown := thresholds.keys() - set(keys):
        raise TypeError(f"there is no keyword {', '.join(sorted(unknown))}")
    takes = {"relu": (), "topk": ("k",), "batch_topk": ("k",), "jumprelu": keys[1:]}
    if name not in takes:
        raise ValueError(f"activation is one of {', '.join(takes)}, got {name!r}")
    given: dict[str, Any] = {key: value for key, value in {"k": k, **thresholds}.items() if value is not None}
    for key in keys:
        if key in takes[name] and key in ("k", "threshold_start", "bandwidth") and key not in given:
            raise ValueError(f"activation={name} needs {key}, got null")
        if key not in takes[name] and key in given:
            raise ValueError(f"{key}={given[key]} has no meaning with activation={name}: set {key}=null")
    match name:
        case "relu":
            return ReLU()
        case "topk":
            return TopK(d_sae=d_sae, **given)
        case "batch_topk":
            return BatchTopK(d_sae=d_sae, **given)
        case "jumprelu":
            return JumpReLU(d_sae=d_sae, **given)


def threshold_settings(function: ActivationFunction) -> dict[str, Any]:
    """`ThresholdSettings` of an activation function, as they came to be; None where no thresholds are learnt."""
    learnt = isinstance(function, JumpReLU)
    return {key: getattr(function, key) if learnt else None for key in ThresholdSettings.__annotations__}
