"""What replacing an activation costs further down the model, with gradients: the ground of end-to-end losses."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.next_token import final_states, next_token_divergence
from sae.models.splice import splice
from sae.models.taps import as_blocks, tap
from sae.tokens.blocks import TokenBlocks

__all__ = ["DownstreamPass"]


@final
class DownstreamPass:
    """One clean pass over some blocks, kept for comparing passes with reconstructions put in (Braun et al. 2024).

    Attributes:
        values: hook point name -> its clean activations at kept positions, in row-major order [rows, width], in
            float32 or, of a float64 model, in float64.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: HookPoint,
        blocks: TokenBlocks,
        *,
        reads: Sequence[HookPoint] = (),
        later: Sequence[HookPoint] = (),
    ) -> None:
        """Run the model untouched.

        Args:
            model: a model with a language modelling head.
            hook_point: where reconstructions will be put in.
            blocks: the text; `keep` says which positions are replaced and scored.
            reads: hook points whose activations are wanted beside those of `hook_point`: what a transcoder reads.
            later: hook points after it whose activations are compared.
        """
        self.model, self.hook_point, self.blocks, self.later = model, hook_point, blocks, tuple(later)
        wanted = {point.name: point for point in (*reads, hook_point, *self.later)}
        seen, self._clean_states = self._run(list(wanted.values()), gradients=False)
        self.values = {point.name: _wide(seen[point.name]) for point in (*reads, hook_point)}
        self._clean_later = [seen[point.name] for point in self.later]

    @property
    def rows(self) -> Float[Tensor, "rows width"]:
        """The clean activations at the hook point."""
        return self.values[self.hook_point.name]

    def __call__(self, recon: Float[Tensor, "rows width"]) -> dict[str, Float[Tensor, " rows"]]:
        """Go on from a reconstruction at every kept position.

        Args:
            recon: in raw units, with its graph; row i takes the place of `rows[i]`.

        Returns:
            For each row `kl`, KL(clean || spliced) of the next-token distribution in nats; and `squared_error`, the squared
            distance of the later activations from their clean values, summed over dimensions and averaged over hook points
            (zero where there are none).
        """
        with splice(self.model, self.hook_point, lambda rows: recon.to(rows), self.blocks.keep, gradients=True):
            seen, states = self._run(self.later, gradients=True)
        kl = next_token_divergence(self.model, self._clean_states, states)
        errors = [
            _wide(seen[point.name] - clean).square().sum(dim=1)
            for point, clean in zip(self.later, self._clean_later, strict=True)
        ]
        return {"kl": kl, "squared_error": torch.stack(errors).mean(dim=0) if errors else torch.zeros_like(kl)}

    def _run(self, points: Sequence[HookPoint], *, gradients: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Activations at some hook points and final states, at kept positions."""
        blocks, seen = self.blocks, dict[str, Tensor]()
        keep = blocks.keep.to(self.model.device)

        def take(point: HookPoint, hidden: Tensor) -> None:
            value = as_blocks(hidden, *blocks.ids.shape)
            assert value is not None, f"{point.name} is not [blocks, context, width]"
            seen[point.name] = value[keep]

        with ExitStack() as hooks, self.model.lock:
            for point in points:
                module = self.model.module.get_submodule(point.module)
                hooks.callback(tap(module, point.tensor, partial(take, point)).remove)
            states = final_states(self.model, blocks.ids, blocks.attention, gradients=gradients)
        return seen, states[keep]


def _wide(values: Tensor) -> Tensor:
    """In float32, if not in float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
