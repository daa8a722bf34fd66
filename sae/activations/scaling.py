"""The one scalar that activations are multiplied with before training, estimated once and folded into the biases at export.

The four laws differ, and differ much on residual streams whose mean vector is long: `mean_square` and `norm` count the mean
vector, which the decoder bias takes away before anything is learnt; `variance` does not.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sae.errors import UserError
from sae.functional.streaming import Moments, merge_moments, moments, to_double

__all__ = ["SLICE_ROWS", "Scaling", "estimate_scale"]

Scaling = Literal["variance", "mean_square", "norm", "unit", "none"]

SLICE_ROWS = 8192  # rows turned to float64 at a time: a whole chunk would need twice its own memory


def estimate_scale(values: Float[Tensor, "rows d_in"], mode: Scaling) -> float:
    """The s for which the rows s*x obey the law. All sums are in float64.

    Args:
        values: raw activations of one hook point.
        mode: `variance`: mean of ||s*x - mean||^2 is d_in. `mean_square`: mean of ||s*x||^2 is d_in (Anthropic, Scaling
            Monosemanticity, 2024). `norm`: mean of ||s*x|| is sqrt(d_in) (replications of Anthropic's April 2024 update).
            `unit`: mean of ||s*x||^2 is 1 (Gemma Scope, arXiv:2408.05147). `none`: s is 1.

    Returns:
        The scale.

    Raises:
        UserError: the rows do not vary, or are not finite, so that no scale exists.
    """
    if mode == "none":
        return 1.0
    d_in = values.shape[1]
    slices = values.split(SLICE_ROWS)
    if mode == "norm":
        size = sum(float(to_double(part).norm(dim=1).sum()) for part in slices) / len(values)
        wanted = d_in**0.5
    elif mode == "variance":
        total = Moments.empty(d_in)
        for part in slices:
            total = merge_moments(total, moments(part.cpu()))
        size, wanted = float(total.squares.sum() / total.count) ** 0.5, d_in**0.5
    else:
        size = (sum(float(to_double(part).square().sum()) for part in slices) / len(values)) ** 0.5
        wanted = d_in**0.5 if mode == "mean_square" else 1.0
    if not 0 < size < float("inf"):
        raise UserError(
            f"`sae.scaling={mode}` found no scale: the first {len(values)} activations have size {size}. They are all equal, "
            "all zero or not finite: check the hook point, or set `sae.scaling=none`."
        )
    return wanted / size
