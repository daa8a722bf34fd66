"""Neuron resampling: dead latents take the directions of inputs that are reconstructed badly.

Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling". When it happens, what counts as dead and from
which pool the inputs come is the caller's affair, as are the optimizer's moments of the rewritten entries.

Differs from the paper:
1. Directions are those of x - b_dec, not of x: on residual streams, whose mean is large, the latter are near-copies of the
   mean (measured pairwise cosine 0.93 against 0.00).
2. Inputs are drawn without replacement: two latents with one direction would receive equal gradients for ever. Where more
   latents are dead than there are inputs with a loss, the surplus (those with the highest indices) stays dead until next time.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sae.errors import UserError
from sae.functional.connections import Connection, directions_read
from sae.functional.geometry import unit_rows_
from sae.functional.streaming import to_double

__all__ = ["LatentWeights", "draw_rows", "resample_", "resampled_directions", "resampling_probabilities"]


@runtime_checkable
class LatentWeights(Protocol):
    """The weights that resampling reads and writes, named and shaped as in `SparseAutoencoder`.

    A bias `b_enc` is written where there is one. An encoder that is no parameter of its own, but tied to the decoder, follows
    it.
    """

    @property
    def W_enc(self) -> Tensor:
        """Encoder [d_in, d_sae]."""
        ...

    @property
    def W_dec(self) -> Tensor:
        """Decoder [d_sae, d_in]."""
        ...

    @property
    def b_dec(self) -> Tensor:
        """Decoder bias [d_in]."""
        ...

    def tie_decoder_(self) -> None:
        """Make equal what must be equal within decoder rows, and zero what latents do not write."""
        ...


def resampling_probabilities(losses: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Probability of each input to be drawn: proportional to the SQUARE of its loss (step 3).

    Args:
        losses: one non-negative loss for each input, in any unit.

    Returns:
        Probabilities in float64 that sum to 1; equal ones where every loss is zero, and none where there are no rows.

    Raises:
        UserError: a loss is negative or not finite.
    """
    wide = to_double(losses)
    if not bool(torch.isfinite(wide).all()) or bool((wide < 0).any()):
        raise UserError(
            f"resampling needs finite losses of at least 0, got values from {float(wide.min())} to {float(wide.max())}. "
            "Training has diverged: lower the learning rate (`sae.lr`)."
        )
    if len(wide) == 0:
        return wide
    largest = wide.max()
    # Divided by the largest first: squares of the losses themselves may overflow or vanish.
    squares = (wide / largest).square() if largest > 0 else torch.ones_like(wide)
    return squares / squares.sum()


def draw_rows(probabilities: Float[Tensor, " rows"], count: int, generator: torch.Generator) -> Int[Tensor, " picks"]:
    """Draw `count` different rows, or all rows of positive probability where they are fewer.

    The draw is made on the generator's device, so that a CPU generator gives the same rows whatever device the SAE is on.
    """
    count = min(count, int((probabilities > 0).sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=probabilities.device)
    picks = torch.multinomial(probabilities.to(generator.device), count, replacement=False, generator=generator)
    return picks.to(probabilities.device)


def resampled_directions(
    rows: Float[Tensor, "rows d_in"], b_dec: Float[Tensor, " d_in"], picks: Int[Tensor, " picks"]
) -> Float[Tensor, "picks d_in"]:
    """Unit vectors along x - b_dec of the picked inputs (step 4; difference 1 above)."""
    return unit_rows_(rows[picks] - b_dec.detach())


@torch.no_grad()
def resample_(
    sae: LatentWeights,
    dead: Bool[Tensor, " d_sae"],
    rows: Float[Tensor, "rows d_in"],
    losses: Float[Tensor, " rows"],
    *,
    generator: torch.Generator,
    encoder_norm: float | int = 0.2,
    targets: Float[Tensor, "rows d_out"] | None = None,
    connections: Sequence[Connection] = (),
) -> Bool[Tensor, " d_sae"]:
    """Rewrite dead latents in place: decoder row, encoder column and encoder bias (steps 3 to 5).

    The decoder row becomes the unit direction of a drawn input, of what the latent can write of it; the encoder column the same
    direction with `encoder_norm` times the mean encoder norm of the latents that are alive (of all, if none is), the bias zero.
    Nothing else is touched.

    Args:
        sae: weights of d_sae latents.
        dead: the latents to rewrite.
        rows: the pool, in the units that the SAE reads in training.
        targets: what the rows should be turned into, where that is another activation (transcoders): decoder rows then take
            the directions of target - b_dec, and encoder columns those of the same row less the pool's mean.
        losses: loss of each row of the pool under the present weights.
        generator: draws the inputs.
        encoder_norm: norm of a new encoder column relative to those alive.
        connections: what of a row each latent reads, where that is not all of it: encoder columns are directions of that part.

    Returns:
        The latents that were rewritten: `dead`, or a part of it where the pool was too small. Only their moments in the
        optimizer are to be reset and only they begin to count anew.

    Raises:
        UserError: a loss is negative or not finite; nothing was rewritten then.
    """
    resampled = torch.zeros_like(dead)
    # An input that equals b_dec has no direction to give.
    outputs = rows if targets is None else targets
    usable = (outputs != sae.b_dec).any(dim=1)
    outputs, probabilities = outputs[usable], resampling_probabilities(losses)[usable.to(losses.device)]
    picks = draw_rows(probabilities, int(dead.sum()), generator).to(outputs.device)
    latents = dead.nonzero().squeeze(1)[: len(picks)]
    directions = resampled_directions(outputs, sae.b_dec, picks).to(sae.W_dec.dtype)
    sae.W_dec.index_copy_(0, latents, directions)
    sae.tie_decoder_()
    directions = unit_rows_(sae.W_dec[latents])
    sae.W_dec.index_copy_(0, latents, directions)
    if isinstance(sae.W_enc, nn.Parameter):
        norms = torch.linalg.vector_norm(sae.W_enc, dim=0)
        norm = norms[~dead].mean() if not bool(dead.all()) else norms.mean()
        if targets is not None:
            directions = resampled_directions(rows[usable], rows.mean(dim=0), picks).to(sae.W_enc.dtype)
            if connections:
                directions = unit_rows_(directions_read(directions, latents, connections))
        sae.W_enc.index_copy_(1, latents, (directions * (encoder_norm * norm)).T.contiguous())
    bias = getattr(sae, "b_enc", None)
    if isinstance(bias, Tensor):
        bias.index_fill_(0, latents, 0)
    return resampled.index_fill_(0, latents, True)
