"""Integrated gradients: which tokens make a factor fire, by gradients along a line from a text without tokens to the text."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.factors.saliency.reader import ActivationReader, batches
from sae.factors.saliency.targets import Target

__all__ = ["STEPS", "integrated_gradients"]

STEPS = 16  # points of the line at which the gradient is taken


def integrated_gradients(
    reader: ActivationReader, targets: Sequence[Target], *, steps: int = STEPS
) -> list[Float[np.ndarray, " positions"]]:
    """Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365, equation 1) through model and encoder.

    The line goes from the embedding of the mask token at every token that is not special to the text's own embeddings. Weights
    of a target sum to its activation less that on mask tokens (completeness), as far as `steps` points tell the integral, by
    the Gauss-Legendre rule.

    Args:
        reader: of activations.
        targets: any, in any order.
        steps: points at which the gradient is taken.

    Returns:
        Of each target a number for every position; zero where a token is special.
    """
    weights: list[Float[np.ndarray, " positions"]] = [np.zeros(0)] * len(targets)
    points, shares = (torch.from_numpy(part) for part in _rule(steps))
    for batch in batches(targets, [steps] * len(targets), reader.batch_tokens):
        own = [targets[number] for number in batch]
        ids = torch.nn.utils.rnn.pad_sequence([one.ids for one in own], batch_first=True, padding_value=reader.mask)
        maskable = torch.nn.utils.rnn.pad_sequence([one.maskable for one in own], batch_first=True)
        end = reader.embeddings(ids)
        start = reader.embeddings(torch.where(maskable, reader.mask, ids))
        along = points.to(end)[:, None, None]
        mixed = (start[:, None] + along * (end - start)[:, None]).flatten(0, 1)
        gradient = torch.cat(
            [
                reader.gradients(part, lines)[1]
                for part, lines in _parts([one for one in own for _ in range(steps)], mixed, reader.batch_tokens)
            ]
        )
        mean = torch.einsum("tspd,s->tpd", gradient.double().view(len(own), steps, *end.shape[1:]), shares.to(end.device))
        found = (mean * (end - start).double()).sum(dim=2).cpu().numpy()
        for number, line in zip(batch, found, strict=True):
            weights[number] = line[: len(targets[number])]
    return weights


def _parts(
    targets: list[Target], mixed: Float[Tensor, "copies positions d_model"], tokens: int
) -> list[tuple[list[Target], Float[Tensor, "some positions d_model"]]]:
    size = max(1, tokens // mixed.shape[1])
    return [(targets[first : first + size], mixed[first : first + size]) for first in range(0, len(targets), size)]


@cache
def _rule(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in (0, 1) and their shares of the integral."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return (points + 1) / 2, weights / 2
