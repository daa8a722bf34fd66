"""What removing a latent at one token does to the loss: for all tokens to first order, for some by removing it.

The loss is the sum of a block's next-token cross-entropies, in nats, over the predictions that evaluation scores (from a kept
token, of a kept token). Removing latent i where its activation is a changes what the decoder writes by -a * W_dec[i]: in units
of the row's standard deviation where the SAE normalises rows. That is subtracted from the model's own activation at the places
that the SAE reconstructs, so that the SAE's error stays as it is; where those are several, from each.

To first order the loss then changes by -a * W_dec[i] . gradient (attribution by the gradient, as in Marks et al. 2024,
arXiv:2403.19647, with zero in the place of the other value).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.collect.removals import Removals, deviation
from sae.errors import UserError
from sae.functional.sparse import SparseActs, gathered_dots
from sae.functional.sparse_pattern import SparsePattern
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.loss_gradients import SLICE_BYTES, loss_gradients
from sae.models.next_token import final_states
from sae.models.quick_products import QuickProducts
from sae.models.splice import splice
from sae.models.structure import blocks_path
from sae.models.taps import as_blocks, tap
from sae.tokens.blocks import TokenBlocks

__all__ = ["EffectsPass", "LossEffects", "no_effects_reason"]


@dataclass(frozen=True, kw_only=True)
class EffectsPass:
    """What one pass over some blocks gives, rows being their kept positions in row-major order.

    Attributes:
        values: hook point name -> what the encoder reads [rows, width].
        gradients: of the summed losses with respect to what the decoder writes [rows, d_out].
        losses: cross-entropy of each scored prediction in row-major order, nats [scored].
    """

    values: dict[str, Float[Tensor, "rows _"]]
    gradients: Float[Tensor, "rows d_out"]
    losses: Float[Tensor, " scored"]


def no_effects_reason(models: Sequence[LanguageModel]) -> str | None:
    """Why there are no effects on the loss of the latents that lie in these models; None where there are."""
    if len(models) > 1:
        return "the latents are of two models, which have two losses"
    if not models[0].has_lm_head:
        return f"{type(models[0].module).__name__} has no language modelling head"
    return None


@final
class LossEffects:
    """Effects on the loss of the latents of one SAE in one model.

    Args:
        model: a model with a language modelling head.
        sae: takes raw activations: an exported SAE.
        inputs: what the encoder reads, in the order in which it lies side by side.
        targets: what the decoder reconstructs, likewise: the inputs, but for a transcoder.
        forward_blocks: blocks in a pass with gradients, whose graph takes memory, and ablations in a pass without.
        dtype: number format of the products after the hook point, such as bfloat16, in which they are quicker; None: the
            model's own. What the encoder reads is in the model's in any case, and so is `exact`.

    Raises:
        UserError: the model predicts no next tokens.
        ValueError: hook points and SAE differ in width.
    """

    def __init__(
        self,
        model: LanguageModel,
        sae: SparseAutoencoder,
        *,
        inputs: Sequence[HookPoint],
        targets: Sequence[HookPoint],
        forward_blocks: int = 8,
        dtype: torch.dtype | None = None,
    ) -> None:
        reason = no_effects_reason([model])
        if reason is not None:
            raise UserError(f"Effects on the loss cannot be estimated: {reason}. Collect without them.")
        found = [sum(point.width for point in points) for points in (inputs, targets)]
        if found != [sae.d_in, sae.d_out]:
            raise ValueError(f"the SAE reads {sae.d_in} and writes {sae.d_out} dimensions, the hook points have {found}")
        self.model, self.sae, self.inputs, self.targets = model, sae, tuple(inputs), tuple(targets)
        self.forward_blocks, self.dtype = forward_blocks, dtype
        self._products = None if dtype is None else QuickProducts(dtype)
        self._removals = Removals(model, sae, inputs=self.inputs, targets=self.targets, forward_blocks=forward_blocks)

    @property
    def widths(self) -> dict[str, int]:
        """Name of what the encoder reads -> width."""
        return {point.name: point.width for point in self.inputs}

    def describe(self) -> dict[str, object]:
        """What determines the estimates, for a manifest."""
        return {
            "targets": [point.name for point in self.targets],
            "dtype": None if self.dtype is None else str(self.dtype).removeprefix("torch."),
        }

    def graph_bytes(self, rows: int) -> int:
        """About the memory that the graph of a pass over so many rows takes, and the logits of a slice with their gradient.

        Of a block the graph holds about what goes into and comes out of its matrices (38.6 kB a row of SmolLM2-135M in float32
        against 40.7 kB by this count). A lower `dtype` saves nothing, since norms and sums stay as they were, and adds a copy
        of the weights.
        """
        matrices = [weight for weight in self.model.module.get_submodule(blocks_path(self.model.module)).parameters()]
        matrices = [weight for weight in matrices if weight.ndim == 2]
        first = min((point.layer or 0) for point in self.targets)
        share = 1 - first / self.model.num_layers
        held = sum(sum(weight.shape) for weight in matrices) * rows * share * self.model.dtype.itemsize
        copies = 0 if self.dtype is None else sum(weight.numel() for weight in matrices) * share * self.dtype.itemsize
        return round(held + copies) + 4 * SLICE_BYTES

    # -- to first order ------------------------------------------------------------------------------------------------

    def run(self, blocks: TokenBlocks) -> EffectsPass:
        """Activations, losses and gradients of some blocks: one pass forward, and one back to the earliest target."""
        leaves: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        keep = blocks.keep.to(self.model.device)

        def add_leaf(point: HookPoint, rows: Tensor) -> Tensor:
            if not leaves and self._products is not None:
                stack.enter_context(self._products)
            leaves[point.name] = torch.zeros_like(rows, requires_grad=True)
            return rows + leaves[point.name]

        with self.model.lock, ExitStack() as stack:
            for point in self.inputs:
                module = self.model.module.get_submodule(point.module)
                stack.callback(tap(module, point.tensor, partial(_take, values, point, blocks, keep)).remove)
            for point in self.targets:
                stack.enter_context(splice(self.model, point, partial(add_leaf, point), blocks.keep, gradients=True))
            states = final_states(self.model, blocks.ids, blocks.attention, gradients=True)
            losses, gradient = loss_gradients(self.model, states, blocks.ids, blocks.keep, self._products)
            parts = torch.autograd.grad(states, [leaves[point.name] for point in self.targets], gradient)
        return EffectsPass(values=values, gradients=torch.cat(parts, dim=1), losses=losses)

    def gradients(self, blocks: TokenBlocks) -> Float[Tensor, "rows d_out"]:
        """The gradients of `run` alone."""
        return self.run(blocks).gradients

    @torch.no_grad()
    def estimate(
        self, acts: SparseActs, gradients: Float[Tensor, "rows d_out"], x: Float[Tensor, "rows d_in"] | None = None
    ) -> Float[Tensor, " nnz"]:
        """Effect of each activation's removal, to first order.

        Args:
            acts: activations of the rows.
            gradients: as `run` gives them.
            x: what the encoder read; needed where the SAE normalises rows.

        Returns:
            -value * W_dec[latent] . gradient, in nats, on the CPU in float32.
        """
        table = self.sae.W_dec
        indices, offsets = (part.to(table.device) for part in (acts.indices, acts.offsets))
        pattern = SparsePattern(indices=indices, offsets=offsets, num_latents=acts.pattern.num_latents)
        if len(indices) == 0:
            return torch.zeros(0)
        effects = -acts.values.to(table) * gathered_dots(gradients.to(table), table, pattern)
        if self.sae.layer_norm:
            if x is None:
                raise ValueError("this SAE normalises rows: give x, what the encoder read")
            effects = effects * deviation(self.sae, x)[pattern.rows]
        return effects.float().cpu()

    # -- by removing it ------------------------------------------------------------------------------------------------

    def exact(
        self,
        blocks: TokenBlocks,
        block: Int[Tensor, " n"],
        position: Int[Tensor, " n"],
        latent: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """Effect of removing a latent at one position, by running the model without it, one by one.

        Args:
            blocks: the text.
            block: number of the block among `blocks`.
            position: kept position in the block.
            latent: which is removed there, and nowhere else.

        Returns:
            Loss of the block after less before, in nats, in float64 on the CPU; zero where the latent is not active.

        Raises:
            ValueError: a position is not a kept one.
        """
        block, position, latent = block.long(), position.long(), latent.long()
        if not bool(blocks.keep[block, position].all()):
            raise ValueError("a latent is removed at a position that holds a special token or padding")
        if len(block) == 0:
            return torch.zeros(0, dtype=torch.float64)
        return self._removals.effects(blocks, block, position, latent)


def _take(values: dict[str, Tensor], point: HookPoint, blocks: TokenBlocks, chosen: Tensor, hidden: Tensor) -> None:
    value = as_blocks(hidden, *blocks.ids.shape)
    assert value is not None, f"{point.name} is not [blocks, context, width]"
    values[point.name] = value.detach()[chosen]
