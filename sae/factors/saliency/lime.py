"""LIME on tokens (Ribeiro, Singh and Guestrin 2016, arXiv:1602.04938), as the code of Yun et al. 2021 has it.

Copies of the text lose a number of tokens that is drawn from 1 to all, and a weighted linear fit says what each token adds to
the activation. A copy's weight is sqrt(exp(-d^2 / 25^2)) with d a hundred times the cosine distance between which tokens it
holds and all. A ridge fit over all tokens chooses the 30 with the largest weights, another over these gives the numbers.

Differs from the paper's code:
1. Lost tokens become the mask token where the model has one, the same as in the other ways to measure saliency; there [UNK].
2. The activation is a solution with a certified gap where the dictionary is one of sparse coding; there 1000 iterations.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.targets import Target

__all__ = ["COPIES", "kept_tokens", "lime", "ridge", "weights_of_tokens"]

COPIES = 2001  # the whole text among them
KERNEL_WIDTH = 25.0
CHOOSING, FITTING = 0.01, 1.0  # penalties of the two fits
CHOSEN = 30


def lime(
    reader: ActivationReader, targets: Sequence[Target], *, copies: int = COPIES, seed: int = 0
) -> list[Float[np.ndarray, " positions"]]:
    """What each token adds to the activation, by a linear fit to masked copies.

    Args:
        reader: of activations.
        targets: any, in any order.
        copies: of each text.
        seed: of the tokens that copies lose; what a target gets depends on it and on the target alone.

    Returns:
        Of each target a number for every position; zero where a token is special or was not chosen.
    """
    found = []
    for target in targets:
        places = target.maskable.nonzero()[:, 0]
        generator = np.random.default_rng([seed, target.factor, target.layer, target.position, *target.ids.tolist()])
        kept = kept_tokens(len(places), copies, generator)
        texts = target.ids.repeat(copies, 1)
        texts[:, places] = torch.where(torch.from_numpy(kept), texts[:, places], reader.mask)
        (values,) = reader.values([target], [texts])
        weights = np.zeros(len(target))
        weights[places.numpy()] = weights_of_tokens(kept, values.numpy())
        found.append(weights)
    return found


def kept_tokens(tokens: int, copies: int, generator: np.random.Generator) -> Bool[np.ndarray, "copies tokens"]:
    """Which tokens each copy holds: the first all, each other one all but a number drawn evenly from 1 to all."""
    lost = generator.integers(1, tokens + 1, size=copies - 1)
    rank = generator.random((copies - 1, tokens)).argsort(axis=1).argsort(axis=1)
    return np.concatenate([np.ones((1, tokens), dtype=bool), rank >= lost[:, None]])


def weights_of_tokens(
    kept: Bool[np.ndarray, "copies tokens"], values: Float[np.ndarray, " copies"]
) -> Float[np.ndarray, " tokens"]:
    """The fit.

    Args:
        kept: which tokens each copy holds.
        values: activation on each.
    """
    distance = 100 * (1 - np.sqrt(kept.mean(axis=1)))  # the cosine of k ones of n with n ones is sqrt(k / n)
    nearness = np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2))
    seen = kept.astype(np.float64)
    chosen = np.sort(np.argsort(-np.abs(ridge(seen, values, nearness, CHOOSING)), kind="stable")[:CHOSEN])
    weights = np.zeros(kept.shape[1])
    weights[chosen] = ridge(seen[:, chosen], values, nearness, FITTING)
    return weights


def ridge(
    x: Float[np.ndarray, "copies tokens"],
    y: Float[np.ndarray, " copies"],
    weights: Float[np.ndarray, " copies"],
    penalty: float,
) -> Float[np.ndarray, " tokens"]:
    """Argmin over w of sum_i weights_i (y_i - b - x_i . w)^2 + penalty ||w||^2, with the best b, which has no penalty."""
    share = weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    weighed = x * weights[:, None]
    return np.linalg.solve(weighed.T @ x + penalty * np.eye(x.shape[1]), weighed.T @ y)
