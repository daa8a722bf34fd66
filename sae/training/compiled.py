"""The dense pass of a training step and its loss by `torch.compile` (`trainer.compile=true`).

One graph holds the forward pass and each term's mean over the batch; torch makes the backward pass from it. What changes from
step to step stays outside, so that nothing is compiled anew: coefficients and their ramps multiply the means afterwards. Only a
k that is annealed enters, as a symbol from its second value on.

Outside of the graph, and as they are without `compile`:
1. Sparse passes. On a CPU their sizes follow from the data; on a GPU they are Triton's kernels already.
2. Terms that do not say `compiles`: their sizes follow from which latents are dead, or they run the rest of the model.
3. Whatever is done to rows, gradients and weights: scaling, measuring, clipping, the optimizer, resampling, calibration.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput
from sae.errors import UserError
from sae.losses.objective import START, Compiles, Objective, StepInfo, Term, sharing

__all__ = ["CompiledPass", "check_compiler"]

BACKEND = "inductor"


@final
class CompiledPass:
    """`forward_train` and the means of the objective's terms in one graph, compiled when first called."""

    def __init__(self) -> None:
        self._run: Callable[..., Any] = torch.compile(_pass_and_means, backend=BACKEND)

    def __call__(
        self,
        sae: SparseAutoencoder,
        objective: Objective,
        x: Float[Tensor, "batch d_in"],
        target: Float[Tensor, "batch d_out"],
        *,
        k: int | None,
        info: StepInfo,
    ) -> tuple[SAEOutput, dict[str, Float[Tensor, ""]]]:
        """What the two give, with gradients.

        Args:
            sae: in training.
            objective: its terms; those that do not compile are computed from the compiled pass.
            x: rows in training's units.
            target: what the reconstruction should be.
            k: latents a row in this step, where the architecture fixes that.
            info: about the step.
        """
        compiled = {name: term for name, term in objective.terms.items() if isinstance(term, Compiles) and term.compiles}
        output, found = self._run(sae, tuple(compiled.values()), x, target, k)
        means = dict(zip(compiled, found, strict=True))
        others = {name: term for name, term in objective.terms.items() if name not in means}
        info = sharing(sae, info)
        means |= {name: term(sae, output, target, info).mean() for name, term in others.items()}
        return output, {name: means[name] for name in objective.terms}


def _pass_and_means(
    sae: SparseAutoencoder, terms: Sequence[Term], x: Tensor, target: Tensor, k: int | None
) -> tuple[SAEOutput, list[Tensor]]:
    output = sae.forward_train(x, k=k)
    return output, [term(sae, output, target, START).mean() for term in terms]


def check_compiler(device: torch.device) -> None:
    """Refuse to compile where nothing could be built, before anything is trained.

    Raises:
        UserError: there is no C++ compiler for a CPU, or no C compiler for a GPU (Triton builds its launchers with one).
    """
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
