"""Leaving each token out: how far an activation falls when a token is replaced by the mask token.

The text without one token is the same text for every factor, layer and position that is looked at: the model runs once for each
token that is left out, and all targets of a text read their activations from that pass (at all layers together).

Where the mask token becomes an attention sink, its row is tens to hundreds of times as long as any other, and no dictionary was
fitted to such rows: on SmolLM2 a sparse code of one took 0.3 to 0.8 s, and had a gap of some per cent after 2,000 products. An
activation on a row of more than ten times the norm that it has with the token counts as zero.

What costs is the codes of a dictionary of sparse coding. With a shortlist (`sae.functional.shortlist`) the rows of a layer and
position, each lacking another token, are coded over the factors active there and those that fit these rows best.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.factors.saliency.copies import CopyReader
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.sites import Sites
from sae.factors.saliency.targets import Target

__all__ = ["SHORTLIST", "leave_one_out", "left_out"]

OUTLIER = 10.0  # times the norm of the row that it stands for
SHORTLIST = 64  # factors, where some 18 are active


def leave_one_out(
    reader: ActivationReader,
    targets: Sequence[Target],
    *,
    shortlist: int | None = None,
    on_copies: Callable[[], None] = lambda: None,
) -> list[Float[np.ndarray, " positions"]]:
    """Fall of the activation when a token is replaced by the mask token: for each token that is shown and not special.

    Args:
        reader: of activations.
        targets: any, in any order; those of one text share the model's work.
        shortlist: factors that may be active on the copies at one layer and position, where the dictionary searches for codes;
            None: all may.
        on_copies: called after each pass of the model, some seconds at most apart.

    Returns:
        Of each target a number for every position; zero where a token is special or not shown.
    """
    weights: list[Float[np.ndarray, " positions"]] = [np.zeros(0)] * len(targets)
    copies = CopyReader(reader)
    for numbers in _texts(targets, cut=reader.subject.model.has_lm_head):
        falls = _falls(reader, copies, [targets[number] for number in numbers], shortlist, on_copies)
        for number, line in zip(numbers, falls, strict=True):
            weights[number] = line[: len(targets[number])]
    return weights


def left_out(target: Target) -> Int[Tensor, " places"]:
    """The tokens that are left out one by one."""
    low, high = target.shown
    return target.maskable[low:high].nonzero()[:, 0] + low


def _texts(targets: Sequence[Target], *, cut: bool) -> list[list[int]]:
    """Numbers of the targets of each text, that with the longest first; with `cut` a text may be the beginning of another."""
    texts: list[list[int]] = []
    for number in sorted(range(len(targets)), key=lambda number: -len(targets[number])):
        own = targets[number].ids
        for text in texts:
            whole = targets[text[0]].ids
            if (cut or len(whole) == len(own)) and torch.equal(whole[: len(own)], own):
                text.append(number)
                break
        else:
            texts.append([number])
    return texts


@torch.no_grad()
def _falls(
    reader: ActivationReader,
    copies: CopyReader,
    targets: Sequence[Target],
    shortlist: int | None,
    on_copies: Callable[[], None],
) -> Float[np.ndarray, "targets positions"]:
    """Of the targets of one text, that which sees most of it first, the fall for every position."""
    sae, ids, sites = reader.subject.sae, targets[0].ids, Sites(targets)
    hidden = reader.hidden(sites.layers, ids[None])
    clean = reader.rows_at(hidden, sites.layer, torch.zeros_like(sites.layer), sites.position)
    codes = sae.encode_sparse(clean)
    whole = np.empty(len(targets))
    row, target = sites.pairs(torch.arange(len(sites)))
    whole[target] = sites.activations(codes, row, target)
    falls = np.zeros((len(targets), len(ids)))
    for part in copies.read(ids, sites.last_needed, sites.any_left_out, sites.layers):
        pairs = sites.left_out[:, part.masked].nonzero()
        for site, copy in (piece.T for piece in pairs.split(reader.batch_tokens)):
            rows = reader.rows_at(part.hidden, sites.layer[site], copy, sites.position[site] - part.first)
            before = clean[site.to(clean.device)]
            same = (rows == before).all(dim=1).cpu()  # at the embeddings, of most tokens
            outlier = (rows.norm(dim=1) > OUTLIER * before.norm(dim=1)).cpu()
            coded = (~same & ~outlier).nonzero()[:, 0].to(clean.device)
            found = sae.encode_sparse_near(rows[coded], codes, site.to(clean.device)[coded], shortlist=shortlist)
            row, target = sites.pairs(site)
            without = np.where(same.numpy()[row], whole[target], 0.0)
            place = np.full(len(site), -1)
            place[coded.cpu().numpy()] = np.arange(len(coded))
            own = place[row] >= 0
            without[own] = sites.activations(found, place[row[own]], target[own])
            falls[target, part.masked[copy].numpy()[row]] = whole[target] - without
        on_copies()
    return falls
