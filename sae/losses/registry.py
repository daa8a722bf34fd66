"""Names of the terms of an objective, as the prefixes of keys in `conf/sae/*.yaml` give them.

`l1_coefficient`, `l1_warmup` and the constructor's keywords (`l1_weighting`) describe the term `l1`.
"""

from typing import Any, Protocol

from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.end_to_end import KL, DownstreamError
from sae.losses.l0 import L0
from sae.losses.lp import Lp
from sae.losses.reconstruction import GateReconstruction, MultiTopK, NestedSquaredError, SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import Role, Term

__all__ = ["TERMS", "TermClass", "squared_errors", "terms_for"]


class TermClass(Protocol):
    """The class of a term."""

    @property
    def role(self) -> Role:
        """What the term is for."""
        ...

    def __call__(self, **settings: Any) -> Term:
        """The term with these settings."""
        ...


TERMS: dict[str, TermClass] = {
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


def terms_for(*roles: Role) -> tuple[str, ...]:
    """Names of the terms that are for one of these."""
    return tuple(name for name, term in TERMS.items() if term.role in roles)


def squared_errors() -> tuple[str, ...]:
    """Names of the terms that are squared errors summed over dimensions, which `mse_reduction` is of."""
    return tuple(name for name, term in TERMS.items() if getattr(term, "sums_squares", False))
