"""The training step that one would write by hand, for the benchmarks to hold the framework's against.

Autograd through dense products, `torch.topk`, torch.optim.Adam as it comes, the decoder's gradient projected and its rows
renormalised where the recipe holds them at length 1. It starts from the framework's weights, and stays there by its rate.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from timed_steps import BY_BIAS, RATE, Framework
from torch import Tensor

from sae.architectures.cross_layer_transcoder import CrossLayerTranscoderSAE
from sae.commands.plain_loop import step_by_hand
from sae.functional.straight_through import jumprelu, step


class Plain:
    """What one would write by hand, in dense autograd and torch's default Adam; AuxK, which costs nothing here, is left out."""

    def __init__(self, ours: Framework, *, fused: bool = False, autocast: bool = False, compiled: bool = False) -> None:
        """Set up.

        Args:
            ours: whose weights, rate and rows it has.
            fused: Adam as one kernel.
            autocast: products in bfloat16.
            compiled: the loss by `torch.compile`.
        """
        learner, sae = ours.learner, ours.learner.sae
        self.name, self.input_space, self.target_space = learner.name, learner.input_space, learner.target_space
        self.k, self.subtract, self.unit_rows = sae.num_active or 0, sae.apply_b_dec_to_input, learner.recipe.unit_norm_decoder
        self.clip_norm = learner.recipe.clip_norm_at(learner.sae.d_in)
        self.l1 = learner.course.coefficients["l1"][0] if self.name in BY_BIAS else 0.0
        own = {
            name: parameter.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            for name, parameter in sae.named_parameters()
            if not name.startswith("activation_function")
        }
        self.own = own
        self.W_enc, self.W_dec, self.b_dec = own.get("W_enc"), own["W_dec"], own["b_dec"]
        if self.name == "jumprelu":
            function: Any = sae.get_submodule("activation_function")
            own["log_threshold"] = function.threshold.detach().log().requires_grad_()
            self.bandwidth = function.bandwidth
        self.groups = list(getattr(sae, "group_sizes", ()))
        self.connections = sae.connections if isinstance(sae, CrossLayerTranscoderSAE) else ()
        self.optimizer = torch.optim.Adam(own.values(), lr=RATE, fused=fused)
        self.autocast = autocast
        self.loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(self._loss) if compiled else self._loss

    def step(self, rows: Mapping[str, Tensor]) -> None:
        """One step on raw rows."""
        x = self.input_space(rows)
        target = x if self.target_space is None else self.target_space(rows)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            loss = self.loss(x, target)
        step_by_hand(loss, self.optimizer, self.W_dec, self.own.values(), unit_rows=self.unit_rows, clip_norm=self.clip_norm)

    def _loss(self, x: Tensor, target: Tensor) -> Tensor:
        if self.name == "matching_pursuit":
            return (self._pursued(x) - target).square().sum(dim=1).mean()
        assert self.W_enc is not None
        shared = self._encoded(x - self.b_dec if self.subtract else x)
        pre_acts, penalty = shared + self.own["b_enc"], x.new_zeros(())
        if self.name in ("relu", "crosscoder"):
            acts = torch.relu(pre_acts)
            weights = torch.stack([part.norm(dim=1) for part in self.W_dec.tensor_split(2, dim=1)]).sum(dim=0)
            penalty = self.l1 * (acts if self.name == "relu" else acts * weights).sum(dim=1).mean()
        elif self.name == "gated":
            acts = torch.relu(shared * self.own["r_mag"].exp() + self.own["b_mag"]) * (pre_acts > 0)
            gate = torch.relu(pre_acts)
            gate_recon = gate @ self.W_dec.detach() + self.b_dec.detach()
            penalty = self.l1 * gate.sum(dim=1).mean() + (gate_recon - target).square().sum(dim=1).mean()
        elif self.name in ("topk", "transcoder", "cross_layer_transcoder"):
            values, indices = pre_acts.topk(self.k, dim=1)
            acts = torch.zeros_like(pre_acts).scatter(1, indices, torch.relu(values))
        elif self.name in ("batch_topk", "matryoshka"):
            values, indices = torch.relu(pre_acts).flatten().topk(self.k * len(x))
            acts = pre_acts.new_zeros(pre_acts.numel()).scatter(0, indices, values).view_as(pre_acts)
        else:
            threshold = self.own["log_threshold"].exp()
            acts = jumprelu(pre_acts, threshold, bandwidth=self.bandwidth)
            penalty = step(pre_acts, threshold, bandwidth=self.bandwidth).sum(dim=1).mean()
        if not self.groups:
            return (self._written(acts) + self.b_dec - target).square().sum(dim=1).mean() + penalty
        recon, errors = self.b_dec, []
        for part, directions in zip(acts.split(self.groups, dim=1), self.W_dec.split(self.groups), strict=True):
            recon = recon + part @ directions
            errors.append((recon - target).square().sum(dim=1).mean())
        return torch.stack(errors).mean()

    def _encoded(self, x: Tensor) -> Tensor:
        assert self.W_enc is not None
        if not self.connections:
            return x @ self.W_enc
        return torch.cat([x[:, own.reads] @ self.W_enc[:, own.latents] for own in self.connections], dim=1)

    def _written(self, acts: Tensor) -> Tensor:
        if not self.connections:
            return acts @ self.W_dec
        recon = acts.new_zeros(len(acts), self.W_dec.shape[1])
        for own in self.connections:
            recon[:, own.writes] += acts[:, own.latents] @ self.W_dec[own.latents, own.writes]
        return recon

    def _pursued(self, x: Tensor) -> Tensor:
        centred = x - self.b_dec
        residual, norms = centred, self.W_dec.norm(dim=1)
        acts = x.new_zeros(len(x), len(self.W_dec))
        for _ in range(self.k):
            with torch.no_grad():
                fit, chosen = (residual @ (self.W_dec / norms[:, None]).T).max(dim=1)
            directions = self.W_dec[chosen]
            share = (residual * directions).sum(dim=1) / norms[chosen].square() * (fit > 0)
            acts = acts.scatter_add(1, chosen[:, None], share[:, None])
            residual = residual - share[:, None] * directions
        return acts @ self.W_dec + self.b_dec
