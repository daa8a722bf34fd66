"""Twins of the functions on rows, with loops."""

import numpy as np


def without_parallel(gradient, rows):
    """Gram-Schmidt, one row at a time."""
    out = gradient.copy()
    for i, row in enumerate(rows):
        if row @ row > 0:
            out[i] -= (gradient[i] @ row) / (row @ row) * row
    return out


def summed_distance(point, rows):
    return sum(float(np.sqrt(((row - point) ** 2).sum())) for row in rows)


def fvu(target, recon):
    """Two passes over everything in float64."""
    target, recon = np.asarray(target, dtype=np.float64), np.asarray(recon, dtype=np.float64)
    mean = target.sum(axis=0) / len(target)
    return ((target - recon) ** 2).sum() / ((target - mean) ** 2).sum()


def resampled(W_enc, b_enc, W_dec, b_dec, rows, dead, picks, factor):
    """Steps 4 and 5 of neuron resampling, one latent at a time; returns new copies."""
    W_enc, b_enc, W_dec = W_enc.copy(), b_enc.copy(), W_dec.copy()
    alive = [i for i in range(len(b_enc)) if not dead[i]]
    mean_norm = np.mean([np.sqrt((W_enc[:, i] ** 2).sum()) for i in alive])
    for latent, pick in zip([i for i in range(len(b_enc)) if dead[i]], picks, strict=True):
        direction = rows[pick] - b_dec
        direction = direction / np.sqrt((direction**2).sum())
        W_dec[latent] = direction
        W_enc[:, latent] = direction * factor * mean_norm
        b_enc[latent] = 0
    return W_enc, b_enc, W_dec
