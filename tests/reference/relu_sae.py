"""The ReLU autoencoder and its gradients written out entry by entry, in float64."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Weights:
    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray


@dataclass
class Result:
    pre_acts: np.ndarray
    latent_acts: np.ndarray
    recon: np.ndarray
    squared_error: float  # sum over dimensions, mean over rows
    l1: float  # sum over latents, weighted or not, mean over rows
    gradients: Weights


def forward_and_gradients(x, weights, *, input_bias, coefficient, weighting):
    """Loss = squared error + coefficient * L1, and its derivative by every weight, by the chain rule on paper."""
    rows, d_in = x.shape
    d_sae = len(weights.b_enc)
    pre_acts, recon = np.zeros((rows, d_sae)), np.zeros((rows, d_in))
    grads = Weights(*(np.zeros_like(part) for part in vars(weights).values()))
    squared_error = l1 = 0.0
    norms = [float(np.sqrt((weights.W_dec[i] ** 2).sum())) for i in range(d_sae)]
    for n in range(rows):
        centred = x[n] - weights.b_dec if input_bias else x[n]
        for i in range(d_sae):
            pre_acts[n, i] = sum(centred[j] * weights.W_enc[j, i] for j in range(d_in)) + weights.b_enc[i]
        acts = np.maximum(pre_acts[n], 0)
        for j in range(d_in):
            recon[n, j] = sum(acts[i] * weights.W_dec[i, j] for i in range(d_sae)) + weights.b_dec[j]
        error = recon[n] - x[n]
        squared_error += float((error**2).sum()) / rows
        grads.b_dec += 2 * error / rows
        for i in range(d_sae):
            factor = norms[i] if weighting == "decoder_norm" else 1.0
            l1 += acts[i] * factor / rows
            if pre_acts[n, i] <= 0:
                continue
            grads.W_dec[i] += 2 * acts[i] * error / rows
            if weighting == "decoder_norm":
                grads.W_dec[i] += coefficient * acts[i] * weights.W_dec[i] / norms[i] / rows
            by_pre_act = (2 * float(error @ weights.W_dec[i]) + coefficient * factor) / rows
            grads.b_enc[i] += by_pre_act
            grads.W_enc[:, i] += by_pre_act * centred
            if input_bias:
                grads.b_dec -= by_pre_act * weights.W_enc[:, i]
    return Result(pre_acts, np.maximum(pre_acts, 0), recon, squared_error, l1, grads)
