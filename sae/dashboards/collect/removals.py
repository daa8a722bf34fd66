"""The effect on the loss of removing a latent at one position, by running the model without it."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.functional.geometry import normal_rows
from sae.models.clean_pass import CleanPass
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.next_token import score_next_tokens, scored_positions
from sae.models.splice import splice
from sae.tokens.blocks import TokenBlocks

__all__ = ["Removals", "deviation"]


def deviation(sae: SparseAutoencoder, x: Float[Tensor, "rows d_in"]) -> Float[Tensor, " rows"]:
    """What an SAE that normalises rows multiplies the decoder's output of each row by."""
    return normal_rows(x.to(sae.W_dec))[2][:, 0]


@final
class Removals:
    """Latents of one SAE in one model, removed one at a time. Arguments are those of `LossEffects`."""

    def __init__(
        self,
        model: LanguageModel,
        sae: SparseAutoencoder,
        *,
        inputs: Sequence[HookPoint],
        targets: Sequence[HookPoint],
        forward_blocks: int,
    ) -> None:
        self.model, self.sae, self.inputs, self.targets = model, sae, tuple(inputs), tuple(targets)
        self.forward_blocks = forward_blocks

    @torch.no_grad()
    def effects(
        self,
        blocks: TokenBlocks,
        block: Int[Tensor, " n"],
        position: Int[Tensor, " n"],
        latent: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """See `LossEffects.exact`. Of a removal's pass there is only what the removal can change: see `CleanPass`.

        Removals at near positions go together, as a pass begins at the first of them.
        """
        effects = torch.zeros(len(block), dtype=torch.float64)
        used, place = block.unique(return_inverse=True)
        first = torch.full_like(used, blocks.context_length).scatter_reduce(0, place, position, "amin")
        for piece in first.argsort(stable=True).split(self.forward_blocks):
            number_of = torch.full_like(used, -1)
            number_of[piece] = torch.arange(len(piece))
            row = number_of[place]
            mine = (row >= 0).nonzero()[:, 0]
            mine = mine[position[mine].argsort(stable=True)]
            effects[mine] = self._of_piece(blocks.select(used[piece]), row[mine], position[mine], latent[mine])
        return effects

    def _of_piece(
        self, blocks: TokenBlocks, row: Int[Tensor, " n"], position: Int[Tensor, " n"], latent: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Effects in blocks that are read at once, by rising position."""
        clean = CleanPass(self.model, blocks.ids, blocks.attention, reads=self.inputs, changes=self.targets)
        before = self._losses(clean.states, blocks.ids, _from(position[:1].expand(len(blocks)), blocks.keep))
        x = join_rows({name: value[row, position] for name, value in clean.values.items()}, [one.name for one in self.inputs])
        removed = self._written(x, latent)
        effects = torch.zeros(len(row), dtype=torch.float64)
        active = removed.any(dim=1).nonzero()[:, 0].cpu()
        for some in active.split(self.forward_blocks) if len(active) else ():
            begin = int(position[some[0]]) if clean.goes_on else 0
            here = torch.nn.functional.one_hot(position[some], blocks.context_length).bool()[:, begin:]
            keep = _from(position[some], blocks.keep[row[some]])[:, begin:]
            with ExitStack() as stack:
                for point, part in zip(
                    self.targets, removed[some].split([point.width for point in self.targets], 1), strict=True
                ):
                    stack.enter_context(splice(self.model, point, partial(torch.sub, other=part), here))
                states = clean.go_on(row[some], begin)
            after = self._losses(states, blocks.ids[row[some], begin:], keep)
            effects[some] = (after - before[row[some], begin:] * scored_positions(keep)).sum(dim=1)
        return effects

    def _written(self, x: Float[Tensor, "n d_in"], latent: Int[Tensor, " n"]) -> Float[Tensor, "n d_out"]:
        """What the decoder writes for one latent of each row."""
        acts = encode_positive(self.sae, x)
        mine = acts.where(acts.indices == latent[acts.pattern.rows.long()])
        value = mine.row_sums().to(self.sae.W_dec)
        if self.sae.layer_norm:
            value = value * deviation(self.sae, x)
        return (value[:, None] * self.sae.W_dec[latent.to(value.device)]).to(self.model.device)

    def _losses(
        self,
        states: Float[Tensor, "blocks context d_final"],
        ids: Int[Tensor, "blocks context"],
        keep: Bool[Tensor, "blocks context"],
    ) -> Float[Tensor, "blocks sources"]:
        """Cross-entropy at each position that is scored, float64; zero at others."""
        scores = score_next_tokens(self.model, {"clean": states}, ids, keep)["clean"].cross_entropy
        scored = scored_positions(keep)
        return torch.zeros(scored.shape, dtype=torch.float64).masked_scatter(scored, scores.cpu().double())


def _from(position: Int[Tensor, " blocks"], keep: Bool[Tensor, "blocks context"]) -> Bool[Tensor, "blocks context"]:
    """What is kept, from a position of each block on: no earlier prediction knows of a change there."""
    return keep & (torch.arange(keep.shape[1]) >= position[:, None])
