"""The strongest factors on single tokens, as pages of words and of texts list them."""

import numpy as np
from jaxtyping import Int

from sae.dashboards.factor_schema import FactorActivation
from sae.dashboards.latents.rounding import rounded
from sae.functional.sparse import SparseActs

__all__ = ["strongest_by_layer"]


def strongest_by_layer(
    acts: SparseActs, positions: Int[np.ndarray, " positions"], *, num_layers: int, count: int
) -> list[list[list[FactorActivation]]]:
    """For each of some positions and each layer the strongest factors, of equal ones the first factor first.

    Args:
        acts: row i * L + l is layer l at position i.
        positions: which.
        num_layers: L.
        count: factors listed at most.
    """
    factors, values = acts.indices.cpu().numpy(), acts.values.cpu().numpy()
    offsets = acts.offsets.cpu().numpy()

    def listed(row: int) -> list[FactorActivation]:
        own, sizes = factors[offsets[row] : offsets[row + 1]], values[offsets[row] : offsets[row + 1]]
        best = np.lexsort((own, -sizes))[:count]
        pairs = zip(own[best].tolist(), rounded(sizes[best]).tolist(), strict=True)
        return [FactorActivation(factor=factor, activation=activation) for factor, activation in pairs]

    return [[listed(position * num_layers + layer) for layer in range(num_layers)] for position in positions.tolist()]
