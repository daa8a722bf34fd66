"""The pass of a training step and its loss by `torch.compile` (`trainer.compile=true`).

One graph holds the forward pass and each term's mean over the batch; torch makes the backward pass from it. What changes from
step to step stays outside, so that nothing is compiled anew: coefficients and their ramps multiply the means afterwards. Only a
k that is annealed enters, as a symbol from its second value on. A run that changes from dense to sparse passes takes one graph
for each.

In the graph of a sparse pass Triton's kernels are operators (`sae.functional.triton_kernels.operators`), and so they are in the
graph of its backward pass; what lies between them is the compiler's.

Outside of the graph, and as they are without `compile`:
1. Sparse passes whose sizes follow from the data: all on a CPU, and on a GPU those of architectures without k.
2. Terms that do not say `compiles`: their sizes follow from which latents are dead, or they run the rest of the model.
3. Whatever is done to rows, gradients and weights: scaling, measuring, clipping, the optimizer, resampling, calibration.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.errors import UserError
from sae.functional import devices
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern
from sae.losses.objective import Objective, row_values
from sae.losses.term import START, Compiles, StepInfo, Term, sharing

__all__ = ["CompiledPass", "check_compile"]

BACKEND = "inductor"
# Each SAE has its own count of graphs: torch compiles no function more than eight times, and one run may train more SAEs. A
# torch that cannot tell them apart (before isolate_recompiles) takes the ninth SAE and those after it without one, and says so.
OWN: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in signature(torch.compile).parameters else {}


class Flat(NamedTuple):
    """A `SparseSAEOutput` in tensors alone, which a graph can give."""

    recon: Tensor
    indices: Tensor
    offsets: Tensor
    latent_acts: Tensor
    pre_acts: Tensor | None
    prefix_recons: Tensor | None


@final
class CompiledPass:
    """The pass of training and the means of the objective's terms in one graph, compiled when first called."""

    def __init__(self) -> None:
        self._dense: Callable[..., Any] = torch.compile(_dense_pass_and_means, backend=BACKEND, **OWN)
        self._sparse: Callable[..., Any] = torch.compile(_sparse_pass_and_means, backend=BACKEND, **OWN)

    @staticmethod
    def takes(device: torch.device, k: int | None, *, sparse: bool) -> bool:
        """Whether a pass can be compiled: a dense one, or a sparse one whose sizes do not follow from the data.

        Args:
            device: where it runs.
            k: latents a row in this step, where the architecture fixes that.
            sparse: which pass.
        """
        return not sparse or (devices.host_runs_ahead(device) and k is not None)

    def __call__(
        self,
        sae: SparseAutoencoder,
        objective: Objective,
        x: Float[Tensor, "batch d_in"],
        target: Float[Tensor, "batch d_out"],
        *,
        k: int | None,
        info: StepInfo,
        sparse: bool = False,
        encoder_dtype: torch.dtype | None = None,
    ) -> tuple[SAEOutput | SparseSAEOutput, dict[str, Float[Tensor, ""]]]:
        """What the two give, with gradients.

        Args:
            sae: in training.
            objective: its terms; those that do not compile are computed from the compiled pass.
            x: rows in training's units.
            target: what the reconstruction should be.
            k: latents a row in this step, where the architecture fixes that.
            info: about the step.
            sparse: which pass; see `takes`.
            encoder_dtype: of the encoder's product while a sparse pass chooses; None: the weights' own.
        """
        compiled = {name: term for name, term in objective.terms.items() if isinstance(term, Compiles) and term.compiles}
        terms = tuple((term, name in objective.averaged) for name, term in compiled.items())
        if sparse:
            flat, found = self._sparse(sae, terms, x, target, k, encoder_dtype)
            output = _unflattened(flat, sae, x, encoder_dtype)
        else:
            output, found = self._dense(sae, terms, x, target, k)
        means = dict(zip(compiled, found, strict=True))
        others = {name: term for name, term in objective.terms.items() if name not in means}
        info = sharing(sae, info)
        means |= {
            name: row_values(term, sae, output, target, info, averaged=name in objective.averaged).mean()
            for name, term in others.items()
        }
        return output, {name: means[name] for name in objective.terms}


def _dense_pass_and_means(
    sae: SparseAutoencoder, terms: Sequence[tuple[Term, bool]], x: Tensor, target: Tensor, k: int | None
) -> tuple[SAEOutput, list[Tensor]]:
    output = sae.forward_train(x, k=k)
    return output, [row_values(term, sae, output, target, START, averaged=averaged).mean() for term, averaged in terms]


def _sparse_pass_and_means(
    sae: SparseAutoencoder,
    terms: Sequence[tuple[Term, bool]],
    x: Tensor,
    target: Tensor,
    k: int | None,
    encoder_dtype: torch.dtype | None,
) -> tuple[Flat, list[Tensor]]:
    output = sae.forward_train_sparse(x, k=k, encoder_dtype=encoder_dtype)
    acts, pre_acts = output.latent_acts, output.pre_acts
    flat = Flat(
        output.recon,
        acts.indices,
        acts.offsets,
        acts.values,
        None if pre_acts is None else pre_acts.values,
        output.prefix_recons,
    )
    return flat, [row_values(term, sae, output, target, START, averaged=averaged).mean() for term, averaged in terms]


def _unflattened(flat: Flat, sae: SparseAutoencoder, x: Tensor, encoder_dtype: torch.dtype | None) -> SparseSAEOutput:
    pattern = SparsePattern(indices=flat.indices, offsets=flat.offsets, num_latents=sae.d_sae)
    return SparseSAEOutput(
        flat.recon,
        SparseActs(values=flat.latent_acts, pattern=pattern),
        None if flat.pre_acts is None else SparseActs(values=flat.pre_acts, pattern=pattern),
        lambda: sae.product(x, encoder_dtype),
        flat.prefix_recons,
    )


def check_compile(device: torch.device, kernels: str) -> None:
    """Refuse to compile where there is nothing to compile, or nothing could be built, before anything is trained.

    Args:
        device: where steps run.
        kernels: `trainer.kernels`.

    Raises:
        UserError: all passes are sparse ones on a CPU; or there is no C++ compiler for a CPU, or no C compiler for a GPU
            (Triton builds its launchers with one).
    """
    if kernels == "sparse" and not devices.host_runs_ahead(device):
        raise UserError(
            "trainer.compile=true compiles no sparse pass on a CPU, and trainer.kernels=sparse makes no other: take "
            "trainer.kernels=auto or dense, or trainer.compile=false"
        )
    if device.type == "cuda":
        _require_compiler("CC", ("gcc", "clang", "cc"), "C compiler for Triton")
    elif device.type == "cpu":
        _require_compiler("CXX", ("clang++" if sys.platform == "darwin" else "g++",), "C++ compiler")


def _require_compiler(variable: str, usual: Sequence[str], what: str) -> None:
    named = shlex.split(os.environ.get(variable, ""))[:1]
    looked_for = named or usual
    if not any(shutil.which(name) for name in looked_for):
        raise UserError(
            f"trainer.compile=true needs a {what}, and {' or '.join(looked_for)} was not found. Install one (on Debian or "
            f"Ubuntu the package build-essential), name another by the environment variable {variable}, or set "
            "trainer.compile=false."
        )
