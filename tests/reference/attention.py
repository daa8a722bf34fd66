"""Causal attention of one head, one query at a time."""

import numpy as np


def causal_attention(query, key, value, scale):
    """What each position reads: values of itself and those before it, weighted by softmax(scale * query . key)."""
    out = np.zeros((len(query), value.shape[1]))
    for place in range(len(query)):
        scores = np.array([scale * float(query[place] @ key[other]) for other in range(place + 1)])
        weights = np.exp(scores - scores.max())
        out[place] = (weights / weights.sum()) @ value[: place + 1]
    return out
