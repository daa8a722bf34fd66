"""Matching pursuit without its zeros (Mallat and Zhang 1993): latents chosen greedily, their shares solved for at once.

The plain way multiplies the residual with the whole dictionary in each round. But a round changes the fits of all latents by
one row of the dictionary's Gram matrix times the share that was taken, so that one product and k sums of rows choose the same
latents. The Gram matrix costs 2 d_sae^2 d_in operations, as much as d_sae / rows rounds, and d_sae^2 numbers: it is made where
that is less, and fits into memory.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae.functional import devices
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["pursue"]

GRAM_ELEMENTS = 1 << 27  # 512 MiB in float32
TILE_ELEMENTS = 1 << 23  # fits that exist at a time


def pursue(rows: Float[Tensor, "batch width"], dictionary: Float[Tensor, "d_sae width"], k: int) -> SparseActs:
    """Matching pursuit in k rounds for each row; gradients flow to rows and dictionary through the shares, not the choice.

    A round takes the direction with the largest positive fit r.d / ||d||, and its share r.d / ||d||^2 of the residual r; a row
    stops where no fit is positive. Directions that are chosen again add up.

    Autocast is off in it: latents are chosen, and the system solved, in the type of the weights.

    Args:
        rows: what is to be written as a sum of directions.
        dictionary: directions of any length; a row of zeros is never chosen.
        k: rounds.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return _pursue(rows, dictionary, k)


def _pursue(rows: Tensor, dictionary: Tensor, k: int) -> SparseActs:
    chosen, taken = _choose(rows.detach(), dictionary.detach(), k)
    wide = torch.promote_types(dictionary.dtype, torch.float32)  # what systems can be solved in
    picked = functional.embedding(chosen, dictionary).to(wide) * taken[..., None]
    # Share t is (x - sum over u < t of s_u d_u).d_t / ||d_t||^2: a triangular system in the chosen directions.
    gram = picked @ picked.transpose(1, 2)
    gram = gram + torch.diag_embed((~taken).to(gram.dtype))
    shares = torch.linalg.solve_triangular(gram.tril(), picked @ rows[..., None].to(wide), upper=False).squeeze(-1)
    if devices.host_runs_ahead(rows.device):
        return _merged_in_place(chosen, shares.to(dictionary.dtype), len(dictionary))
    numbers = torch.arange(len(rows), device=rows.device)[:, None] * len(dictionary) + chosen
    places, own = numbers[taken].unique(return_inverse=True)
    values = shares.new_zeros(len(places)).index_add(0, own, shares[taken]).to(dictionary.dtype)
    return SparseActs(values=values, pattern=SparsePattern.at(places, num_rows=len(rows), num_latents=len(dictionary)))


def _merged_in_place(chosen: Int[Tensor, "batch k"], shares: Float[Tensor, "batch k"], num_latents: int) -> SparseActs:
    """As many entries of each row as there were rounds, so that the host need not know how many directions differ.

    The shares of one direction stand together in its first entry; its others, and those of rounds without a fit, are zero.
    """
    same = chosen[:, :, None] == chosen[:, None, :]
    values = (same * shares[:, None, :]).sum(dim=2) * ~same.tril(-1).any(dim=2)
    return SparseActs(values=values.flatten(), pattern=SparsePattern.even(chosen, num_latents=num_latents))


@torch.no_grad()
def _choose(rows: Tensor, dictionary: Tensor, k: int) -> tuple[Int[Tensor, "batch k"], Bool[Tensor, "batch k"]]:
    """The direction of each round, and whether it had a positive fit."""
    norms = torch.linalg.vector_norm(dictionary, dim=1, keepdim=True)
    unit = dictionary / norms.masked_fill(norms == 0, 1)
    latents = len(unit)
    gram = unit @ unit.T if latents < (k - 1) * len(rows) and latents**2 <= GRAM_ELEMENTS else None
    found = [_choose_part(part, unit, gram, k) for part in rows.split(max(1, TILE_ELEMENTS // latents))]
    return torch.cat([chosen for chosen, _ in found]), torch.cat([taken for _, taken in found])


def _choose_part(rows: Tensor, unit: Tensor, gram: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    fits, residual = rows @ unit.T, rows
    chosen, taken = [], []
    for number in range(k):
        best = fits.max(dim=1)
        share = torch.relu(best.values)
        chosen.append(best.indices)
        taken.append(~(share <= 0))  # what is not a number counts, and makes the loss what it must be
        if number == k - 1:
            break
        if gram is not None:
            fits.addcmul_(gram[best.indices], share[:, None], value=-1)
        else:
            residual = residual - share[:, None] * unit[best.indices]
            fits = residual @ unit.T
    return torch.stack(chosen, dim=1), torch.stack(taken, dim=1)
