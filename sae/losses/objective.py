"""The objective: named terms times coefficients.

Input and target are two things, equal for an SAE, so that a transcoder needs no second path.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SAEOutput, SparseAutoencoder, SparseSAEOutput

__all__ = ["LossParts", "Objective", "Term"]


@runtime_checkable
class Term(Protocol):
    """One part of a loss."""

    def __call__(
        self, sae: SparseAutoencoder, output: SAEOutput | SparseSAEOutput, target: Float[Tensor, "batch d_out"]
    ) -> Float[Tensor, " batch"]:
        """The term for each row; the objective averages over rows."""
        ...


class LossParts(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        total: sum of coefficient * part, with its graph.
        parts: each term averaged over rows, before its coefficient and without a graph, so that curves of runs with different
            coefficients can be compared.
    """

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]


@final
class Objective:
    """A sum of named terms; the coefficients come with each call, since they may follow a schedule."""

    def __init__(self, terms: Mapping[str, Term]) -> None:
        if not terms:
            raise ValueError("an objective needs at least one term")
        self.terms = dict(terms)

    def per_row(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        coefficients: Mapping[str, float | int | Tensor],
    ) -> Float[Tensor, " batch"]:
        """The loss of each row: what resampling draws by."""
        self._check(coefficients)
        weighted = [coefficients[name] * term(sae, output, target) for name, term in self.terms.items()]
        return sum(weighted[1:], start=weighted[0])

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        coefficients: Mapping[str, float | int | Tensor],
    ) -> LossParts:
        """The loss of a batch.

        Args:
            sae: the module that gave the output.
            output: of its dense or sparse forward pass.
            target: what the reconstruction should be.
            coefficients: one for each term.

        Returns:
            The total and its parts, averaged over rows.

        Raises:
            ValueError: coefficients and terms do not have the same names.
        """
        self._check(coefficients)
        means = {name: term(sae, output, target).mean() for name, term in self.terms.items()}
        weighted = [coefficients[name] * value for name, value in means.items()]
        total = sum(weighted[1:], start=weighted[0])
        return LossParts(total, {name: value.detach() for name, value in means.items()})

    def _check(self, coefficients: Mapping[str, float | int | Tensor]) -> None:
        if coefficients.keys() != self.terms.keys():
            raise ValueError(f"one coefficient for each term {sorted(self.terms)}, got coefficients for {sorted(coefficients)}")
