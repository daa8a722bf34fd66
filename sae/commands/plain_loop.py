"""What anyone would write by hand: the benchmark's yardstick. The same mathematics and optimizer as the framework's step."""

from collections.abc import Iterable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.relu import ReLUSAE
from sae.commands.binding import parameters_of
from sae.commands.sae_node import SAENode
from sae.losses.registry import TERMS
from sae.training.learner import Learner

__all__ = ["PlainLoop", "not_in_the_plain_loop", "step_by_hand"]


@final
class PlainLoop:
    """Towards Monosemanticity in plain PyTorch: ReLU, L1, unit-norm decoder, clipped gradients, fused Adam."""

    def __init__(self, learner: Learner) -> None:
        """Start from a learner's weights, scale, rate and coefficient."""
        sae = learner.sae
        assert isinstance(sae, ReLUSAE)
        self.W_enc, self.W_dec, self.b_enc, self.b_dec = (
            parameter.detach().clone().requires_grad_() for parameter in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec)
        )
        self.scale = float(learner.input_space.scale[0])
        self.l1 = float(learner.objective.steered({"l1": learner.course.coefficients["l1"][0]})["l1"])
        self.parameters = [self.W_enc, self.W_dec, self.b_enc, self.b_dec]
        self.clip_norm = learner.recipe.clip_norm_at(sae.d_in)
        self.optimizer = torch.optim.Adam(self.parameters, lr=learner.course.peak_lr, fused=True)

    def step(self, rows: Float[Tensor, "batch d_in"]) -> None:
        """One step on raw rows."""
        x = rows * self.scale
        acts = torch.relu((x - self.b_dec) @ self.W_enc + self.b_enc)
        recon = acts @ self.W_dec + self.b_dec
        loss = (recon - x).square().sum(dim=1).mean() + self.l1 * acts.sum(dim=1).mean()
        step_by_hand(loss, self.optimizer, self.W_dec, self.parameters, unit_rows=True, clip_norm=self.clip_norm)


def not_in_the_plain_loop(node: SAENode) -> list[str]:
    """What the plain loop does not do of an SAE's settings, so that the two steps would not be the same work.

    Returns:
        A sentence each, with what to change; none where it follows all of them.
    """
    if node.architecture != "relu":
        return [
            f"sae={node.architecture}: the plain loop beside it is that of sae=relu. Take sae=relu, or "
            "python scripts/benchmark_steps.py, which times a step of each architecture beside one by hand"
        ]
    recipe, terms, mse = node.recipe, sorted(node.terms), node.coefficients.get("mse", (1.0, 0.0))
    found = (
        (terms != ["l1", "mse"], f"terms {', '.join(terms)}", "mse and l1 alone"),
        *_altered_terms(node),
        (node.reduction != "sum", f"sae.mse_reduction={node.reduction}", "sum"),
        (mse[0] != 1.0, f"sae.mse_coefficient={mse[0]}", "1.0"),
        (mse[1] != 0.0, f"sae.mse_warmup={mse[1]}", "0.0"),
        (not node.architecture_arguments.get("apply_b_dec_to_input"), "sae.apply_b_dec_to_input=false", "true"),
        (not recipe.unit_norm_decoder, "sae.unit_norm_decoder=false", "true"),
        (recipe.scaling == "layer_norm", "sae.scaling=layer_norm", "variance"),
        (recipe.centring != "none", f"sae.centring={recipe.centring}", "none"),
        (recipe.average_half_life is not None, f"sae.average_half_life={recipe.average_half_life}", "null"),
    )
    return [f"{what}: the plain loop beside it does not do that. Take {instead}" for wrong, what, instead in found if wrong]


def _altered_terms(node: SAENode) -> list[tuple[bool, str, str]]:
    """Settings of mse and l1 that are not those by default, which the plain loop has."""
    return [
        (value != default, f"sae.{term}_{key}={value}", "null" if default is None else str(default))
        for term in ("mse", "l1")
        for key, value in node.terms.get(term, {}).items()
        for default in (parameters_of(TERMS[term])[key].default,)
    ]


def step_by_hand(
    loss: Float[Tensor, ""],
    optimizer: torch.optim.Optimizer,
    W_dec: Float[Tensor, "d_sae d_out"],
    parameters: Iterable[Tensor],
    *,
    unit_rows: bool,
    clip_norm: float | None,
) -> None:
    """Backward pass and update around the constraint, one after the other.

    Args:
        loss: with its graph.
        optimizer: over the parameters.
        W_dec: decoder.
        parameters: all, of which the gradient's norm is taken.
        unit_rows: whether the decoder's rows are held at length 1.
        clip_norm: the longest gradient; None: any length.
    """
    optimizer.zero_grad()
    loss.backward()
    with torch.no_grad():
        gradient = W_dec.grad
        assert gradient is not None
        if unit_rows:
            gradient -= (gradient * W_dec).sum(dim=1, keepdim=True) * W_dec
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        if unit_rows:
            W_dec /= W_dec.norm(dim=1, keepdim=True)
