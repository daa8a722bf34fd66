"""What a loss is made of: terms, what they may know of a step, and what they may say of themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput

__all__ = [
    "START",
    "Anneals",
    "Compiles",
    "NeedsDense",
    "Particular",
    "ReadsDecoder",
    "Role",
    "StepInfo",
    "SumsSquares",
    "Term",
    "sharing",
]

# What a term is for: every term's class says it in `role`. `reconstruction` and `end_to_end`: it can be the only reason to
# reconstruct, from the target alone or with the rest of the model. `sparsity`: it can be the only reason for few latents.
# `auxiliary`: it can be neither.
Role = Literal["reconstruction", "end_to_end", "sparsity", "auxiliary"]


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """What a term may know of the step, beside the SAE's output and the target.

    Attributes:
        progress: completed fraction of the training budget, in 0..1.
        share: fraction of the budget that one step is.
        dead: latents that count as dead at this step [d_sae]; None: none does.
        candidates: gives latents among which all the dead ones are [some], so that nobody need wait for the device to say how
            many are dead; None: there is nobody to wait.
        decoder_norms: gives the norms of the decoder's rows [d_sae], with their graph, computed once for all terms of a step
            (`sharing`); None: a term that wants them computes them.
        downstream: reconstruction -> for each row the KL divergence in nats and the squared error further down the model, where
            the run feeds reconstructions back into it (`sae.losses.end_to_end`); None elsewhere.
    """

    progress: float = 0.0
    share: float = 0.0
    dead: Bool[Tensor, " d_sae"] | None = None
    candidates: Callable[[], Int[Tensor, " some"]] | None = None
    decoder_norms: Callable[[], Float[Tensor, " d_sae"]] | None = None
    downstream: Callable[[Tensor], Mapping[str, Tensor]] | None = None


START = StepInfo()  # of a first step


def sharing(sae: SparseAutoencoder, info: StepInfo) -> StepInfo:
    """The same for the terms of one step together: what several of them want is computed once."""
    return replace(info, decoder_norms=cache(lambda: torch.linalg.vector_norm(sae.W_dec, dim=1)))


@runtime_checkable
class Term(Protocol):
    """One part of a loss. A term that remembers something from step to step is a torch module with buffers."""

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """The term for each row; the objective averages over rows."""
        ...


@runtime_checkable
class Anneals(Protocol):
    """A term that changes as training goes on."""

    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Look at a completed step."""
        ...


@runtime_checkable
class Particular(Protocol):
    """A term that not every architecture can have."""

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE that the term has no meaning for, before anything is trained.

        Raises:
            ValueError: in the keys of `conf/sae/*.yaml`.
        """
        ...


@runtime_checkable
class NeedsDense(Protocol):
    """A term that some architectures' sparse pass cannot serve."""

    def needs_dense(self, sae: SparseAutoencoder) -> bool:
        """Whether this SAE must be trained by dense products because of the term."""
        ...


@runtime_checkable
class ReadsDecoder(Protocol):
    """A term that may read every row of the decoder in every step, whichever latents are active."""

    @property
    def reads_decoder(self) -> bool:
        """Whether it does, with these settings."""
        ...


@runtime_checkable
class Compiles(Protocol):
    """A term that may say that `torch.compile` can take it.

    It can where the term's value follows from SAE, output and target alone, not from `StepInfo` nor from numbers of Python that
    move as training goes on, and no size in it from the data. A term that says nothing is computed outside of the graph.
    """

    @property
    def compiles(self) -> bool:
        """Whether it can, with these settings."""
        ...


@runtime_checkable
class SumsSquares(Protocol):
    """A term that is a squared error summed over dimensions, whichever vectors it compares."""

    @property
    def sums_squares(self) -> bool:
        """Whether it is, with these settings."""
        ...
