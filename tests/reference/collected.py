"""Collected codes and effects on the loss again, slowly: block by block, position by position, everything dense, in float64."""

import numpy as np
import torch


def codes(sae, activations, keep):
    """For each kept position, in row-major order, {latent: activation} of those above zero.

    Args:
        sae: in float64.
        activations: what the encoder reads [blocks, context, d_in], float64.
        keep: [blocks, context].
    """
    rows = []
    for block in range(keep.shape[0]):
        for position in range(keep.shape[1]):
            if not keep[block, position]:
                continue
            with torch.no_grad():
                acts = sae.encode(activations[block, position][None])[0].numpy()
            rows.append({latent: float(acts[latent]) for latent in range(len(acts)) if acts[latent] > 0})
    return rows


def block_loss(logits, ids, keep):
    """Summed cross-entropy, nats, of one block's predictions from a kept position of a kept next one.

    Args:
        logits: [context, vocabulary].
        ids: [context].
        keep: [context].
    """
    total = 0.0
    for position in range(len(ids) - 1):
        if keep[position] and keep[position + 1]:
            row = logits[position] - logits[position].max()
            total += np.log(np.exp(row).sum()) - row[ids[position + 1]]
    return total


def first_order(value, direction, gradient, deviation=1.0):
    """Effect of removing a latent: minus the activation, times the direction's product with the gradient."""
    return -value * deviation * sum(float(a) * float(b) for a, b in zip(direction, gradient, strict=True))
