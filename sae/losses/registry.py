"""Names of the terms of an objective, as the prefixes of keys in `conf/sae/*.yaml` give them.

`l1_coefficient`, `l1_warmup` and the constructor's keywords (`l1_weighting`) describe the term `l1`.
"""

from collections.abc import Callable

from sae.losses.objective import Term
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1

__all__ = ["TERMS"]

TERMS: dict[str, Callable[..., Term]] = {
    "mse": SquaredError,
    "l1": L1,
}
