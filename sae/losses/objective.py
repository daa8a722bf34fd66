"""The objective: named terms times coefficients.

Input and target are two things, equal for an SAE, so that a transcoder needs no second path.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.activity import count_active
from sae.losses.control import CoefficientControl
from sae.losses.term import START, Anneals, NeedsDense, ReadsDecoder, StepInfo, SumsSquares, Term, sharing

__all__ = ["LossParts", "Objective", "Reduction", "row_values"]

Reduction = Literal["sum", "mean"]  # of squared errors, over the dimensions of the target


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
class Objective(nn.Module):
    """A sum of named terms; the coefficients come with each call, since they may follow a schedule.

    Every squared error is by default the SUM over dimensions. `reduction="mean"` divides all of them, whatever they compare
    (reconstructions, what dead latents make of the rest, activations further down the model), by d_out, as Towards
    Monosemanticity prints its loss (mean over the elements of a vector, beside an L1 that is a sum); other terms stay as they
    are. The two describe one loss when the others' coefficients are converted: one that is given for the printed convention
    is multiplied by d_out to serve with `sum`, and the whole loss is then d_out times as large, to which Adam is blind but
    gradient clipping is not.

    Attributes:
        control: steers the coefficients of some terms to an L0; None: nothing does.
        averaged: names of the terms that are divided by d_out.
    """

    def __init__(
        self, terms: Mapping[str, Term], *, control: CoefficientControl | None = None, reduction: Reduction = "sum"
    ) -> None:
        super().__init__()
        if not terms:
            raise ValueError("an objective needs at least one term")
        if reduction not in get_args(Reduction):
            raise ValueError(f"the reduction over dimensions is `sum` or `mean`, got {reduction!r}")
        self.terms, self.control = dict(terms), control
        squares = {name for name, term in terms.items() if isinstance(term, SumsSquares) and term.sums_squares}
        self.averaged = frozenset(squares if reduction == "mean" else ())
        self.remembering = nn.ModuleDict({name: term for name, term in terms.items() if isinstance(term, nn.Module)})

    def per_row(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        coefficients: Mapping[str, float | int | Tensor],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The loss of each row: what resampling draws by."""
        self._check(coefficients)
        values = self._values(sae, output, target, sharing(sae, info))
        weighted = [_times(coefficients[name], value) for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0])

    def forward(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        coefficients: Mapping[str, float | int | Tensor],
        info: StepInfo = START,
    ) -> LossParts:
        """The loss of a batch.

        Args:
            sae: the module that gave the output.
            output: of its dense or sparse pass.
            target: what the reconstruction should be.
            coefficients: one for each term.
            info: about the step.

        Returns:
            The total and its parts, averaged over rows.

        Raises:
            ValueError: coefficients and terms do not have the same names.
        """
        values = self._values(sae, output, target, sharing(sae, info))
        return self.weigh({name: value.mean() for name, value in values.items()}, coefficients)

    def weigh(self, means: Mapping[str, Float[Tensor, ""]], coefficients: Mapping[str, float | int | Tensor]) -> LossParts:
        """The loss from each term's mean over rows, in the order of the terms.

        Raises:
            ValueError: coefficients and terms do not have the same names.
        """
        self._check(coefficients)
        weighted = [_times(coefficients[name], value) for name, value in means.items()]
        total = sum(weighted[1:], start=weighted[0])
        return LossParts(total, {name: value.detach() for name, value in means.items()})

    def needs_dense(self, sae: SparseAutoencoder) -> bool:
        """Whether a term asks for the dense pass."""
        return any(isinstance(term, NeedsDense) and term.needs_dense(sae) for term in self.terms.values())

    def decoder_readers(self) -> list[str]:
        """Names of the terms that read every row of the decoder."""
        return [name for name, term in self.terms.items() if isinstance(term, ReadsDecoder) and term.reads_decoder]

    def start_by_(self, deviation: float, d_out: int) -> None:
        """Let coefficients that nobody gave begin in the units of rows and loss. For a control that follows the rows.

        An L1 that leaves as many latents grows with the rows' deviation, and is d_out times smaller beside a mean.

        Args:
            deviation: root mean variance of a target's dimension, in the units of training.
            d_out: width of the target.
        """
        if self.control is not None:
            self.control.unit.fill_(deviation / (d_out if self.averaged else 1))

    def steered(self, coefficients: Mapping[str, float]) -> Mapping[str, float | int | Tensor]:
        """Coefficients at a step by the clock alone, with what the control makes of them."""
        return coefficients if self.control is None else self.control.steer(coefficients)

    @torch.no_grad()
    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Tell the terms that anneal, and the control, of a completed step."""
        for term in self.terms.values():
            if isinstance(term, Anneals):
                term.advance(output, info)
        if self.control is not None:
            active = count_active(output.latent_acts)
            self.control.advance(active, rows=len(output.recon), progress=info.progress, share=info.share)

    def _values(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Each term for each row, before its coefficient."""
        return {
            name: row_values(term, sae, output, target, info, averaged=name in self.averaged)
            for name, term in self.terms.items()
        }

    def _check(self, coefficients: Mapping[str, float | int | Tensor]) -> None:
        if coefficients.keys() != self.terms.keys():
            raise ValueError(f"one coefficient for each term {sorted(self.terms)}, got coefficients for {sorted(coefficients)}")


def row_values(
    term: Term,
    sae: SparseAutoencoder,
    output: SAEOutput | SparseSAEOutput,
    target: Float[Tensor, "batch d_out"],
    info: StepInfo,
    *,
    averaged: bool,
) -> Float[Tensor, " batch"]:
    """A term of an objective, before its coefficient; divided by d_out where it is one of the `averaged`."""
    values = term(sae, output, target, info)
    return values / target.shape[-1] if averaged else values


def _times(coefficient: float | int | Tensor, value: Tensor) -> Tensor:
    """Their product in the value's dtype: a tensor of float64 would widen a number."""
    return (coefficient.to(value.dtype) if isinstance(coefficient, Tensor) else coefficient) * value
