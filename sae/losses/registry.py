"""Names of the terms of an objective, as the prefixes of keys in `conf/sae/*.yaml` give them.

`l1_coefficient`, `l1_warmup` and the constructor's keywords (`l1_weighting`) describe the term `l1`.
"""

from collections.abc import Callable

from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.end_to_end import KL, DownstreamError
from sae.losses.l0 import L0
from sae.losses.lp import Lp
from sae.losses.objective import Term
from sae.losses.reconstruction import GateReconstruction, MultiTopK, NestedSquaredError, SquaredError
from sae.losses.sparsity import L1, Tanh

__all__ = ["TERMS"]

TERMS: dict[str, Callable[..., Term]] = {
    "mse": SquaredError,
    "nested": NestedSquaredError,
    "multi_topk": MultiTopK,
    "gate": GateReconstruction,
    "l0": L0,
    "l1": L1,
    "lp": Lp,
    "tanh": Tanh,
    "auxk": AuxK,
    "ghost": GhostGradients,
    "pre_act": PreActivation,
    "kl": KL,
    "downstream": DownstreamError,
}
