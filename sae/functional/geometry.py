"""Geometry of rows: unit norm, layer norm, gradients along the sphere, and the geometric median."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.functional.streaming import to_double

__all__ = ["geometric_median", "normal_rows", "remove_parallel_", "squared_norm_across", "unit_rows_"]

LEAST_LEFT = 0.01  # of a squared norm: a difference of float32 numbers then has six digits less two
LAYER_NORM_EPS = 1e-5  # added to each row's variance, as torch.nn.LayerNorm does

# Rows widened to float64 at a time by `geometric_median`: its memory does not grow with the number of rows.
_CHUNK_ROWS = 16_384

# Of a gradient that are copied and projected at a time by `squared_norm_across`: 256 MiB in float32.
_EXACT_ELEMENTS = 1 << 26


@torch.no_grad()
def unit_rows_(matrix: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Divide each row by its L2 norm, in place. A row of zeros has no direction and stays zero.

    Args:
        matrix: any float type; in float32 the norms are 1 to better than 1e-6 afterwards.

    Returns:
        The same tensor.
    """
    norms = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    return matrix.div_(norms.masked_fill_(norms == 0, 1))


@torch.no_grad()
def remove_parallel_(gradient: Float[Tensor, "rows width"], rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Take from each row of a gradient its component along the same row of the weights, in place.

    What is left lies in the tangent of the sphere, so that Adam's moments hold no part that renormalising the rows would
    undo (Towards Monosemanticity, "Sparse Autoencoder Training": before the Adam step). The rows may have any norm.

    Args:
        gradient: gradient by the weights.
        rows: the weights; a row of zeros takes nothing away.

    Returns:
        The gradient tensor itself.
    """
    along, _ = _along(gradient, rows)
    return gradient.addcmul_(rows, along[:, None], value=-1)


@torch.no_grad()
def squared_norm_across(
    gradient: Float[Tensor, "rows width"], rows: Float[Tensor, "rows width"], *, exactly: bool = False
) -> Float[Tensor, ""]:
    """The squared norm of what `remove_parallel_` leaves of a gradient, which stays as it is.

    ||g||^2 less the squared parts along the rows, without a copy of the gradient. Where less than a hundredth is left the
    difference would lose digits, and copies of some rows after others are projected.

    Args:
        gradient: gradient by the weights.
        rows: the weights.
        exactly: project copies in any case: how much is left decides nothing, and nobody waits to learn it.
    """
    if not exactly:
        whole = torch.linalg.vector_norm(gradient).square_()
        along, squared_norms = _along(gradient, rows)
        left = whole - along.square_().mul_(squared_norms).sum()
        if left > LEAST_LEFT * whole or whole == 0:
            return left
    at_once = max(1, _EXACT_ELEMENTS // max(1, rows.shape[1]))
    parts = zip(gradient.split(at_once), rows.split(at_once), strict=True)
    squares = [torch.linalg.vector_norm(remove_parallel_(part.clone(), own)).square_() for part, own in parts]
    return torch.stack(squares).sum()


def _along(gradient: Tensor, rows: Tensor) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """How many times each row is in its row of the gradient, and the rows' squared norms, 1 for a row of zeros."""
    squared_norms = torch.linalg.vector_norm(rows, dim=1).square_()
    squared_norms.masked_fill_(squared_norms == 0, 1)
    return (gradient * rows).sum(dim=1) / squared_norms, squared_norms


def normal_rows(x: Float[Tensor, "*batch width"]) -> tuple[Tensor, Tensor, Tensor]:
    """Each row less its mean, divided by its standard deviation; the means and the deviations [*batch, 1].

    The deviation is sqrt(variance over the row + 1e-5), as in layer norm, with no gain and no bias.
    """
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    deviation = (centred.square().mean(dim=-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
    return centred / deviation, mean, deviation


@torch.no_grad()
def geometric_median(
    rows: Float[Tensor, "rows width"], *, tolerance: float | int = 1e-6, max_iterations: int = 200
) -> Float[Tensor, " width"]:
    """The point with the smallest summed Euclidean distance to all rows, by Weiszfeld's iteration in float64.

    Where the iterate falls on one of the rows, the plain iteration divides by zero; the step of Vardi and Zhang (2000, PNAS
    97(4), "The multivariate L1-median and associated data depth") is taken instead, which stops there only if it is the
    median.

    Args:
        rows: at least one row.
        tolerance: stop when a step is shorter than this multiple of the mean distance to the rows.
        max_iterations: stop then in any case, with the best point so far: it serves as a start, not as a result.

    Returns:
        The median, in the rows' type and on their device.

    Raises:
        ValueError: there are no rows.
    """
    if rows.shape[0] == 0:
        raise ValueError("the geometric median of no rows is not defined: got a tensor of shape " + str(tuple(rows.shape)))
    chunks = rows.split(_CHUNK_ROWS)
    point = torch.stack([to_double(chunk).sum(dim=0) for chunk in chunks]).sum(dim=0) / rows.shape[0]
    for _ in range(max_iterations):
        moved, mean_distance = _weiszfeld_step(chunks, point)
        step = torch.linalg.vector_norm(moved - point)
        point = moved
        if step <= tolerance * mean_distance:
            break
    return point.to(device=rows.device, dtype=rows.dtype)


def _weiszfeld_step(
    chunks: tuple[Tensor, ...], point: Float[Tensor, " width"]
) -> tuple[Float[Tensor, " width"], Float[Tensor, ""]]:
    """One step from `point`, and the mean distance of the rows to `point`."""
    pull, weight = torch.zeros_like(point), torch.zeros_like(point[0])
    total_distance, here, count = torch.zeros_like(weight), 0, 0
    for chunk in chunks:
        offsets = to_double(chunk) - point
        distances = torch.linalg.vector_norm(offsets, dim=1)
        weights = torch.where(distances > 0, 1 / distances, 0)
        pull, weight = pull + weights @ offsets, weight + weights.sum()
        total_distance, here, count = total_distance + distances.sum(), here + int((distances == 0).sum()), count + len(chunk)
    if weight == 0:  # every row is this point
        return point, total_distance
    # `here` rows sit on the point and hold it back with a unit force each; the others pull with |pull|.
    share = 1 - here / torch.clamp(torch.linalg.vector_norm(pull), min=here) if here else 1
    return point + share * pull / weight, total_distance / count
