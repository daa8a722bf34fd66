"""Twins of sae/functional/triton_kernels, an entry at a time; numpy in float64."""

import numpy as np


def weighted_bags(table, picks, offsets, weights):
    out = np.zeros((len(offsets) - 1, table.shape[1]))
    for bag in range(len(out)):
        for entry in range(offsets[bag], offsets[bag + 1]):
            out[bag] += weights[entry] * table[picks[entry]]
    return out


def gathered_dots(rows, row_of, table, picks):
    return np.array([np.dot(rows[row], table[pick]) for row, pick in zip(row_of, picks, strict=True)])


def encode_top_k(x, weight, bias, k):
    """Values and indices; Python's sort keeps equal ones in their order."""
    values, indices = [], []
    for row in x @ weight + bias:
        chosen = sorted(range(len(row)), key=lambda latent: -row[latent])[:k]
        values.append(row[chosen])
        indices.append(chosen)
    return np.array(values), np.array(indices)


def adam_unit_rows(
    weight, gradients, *, lr, beta1, beta2, eps, unit_rows, gradient_scale=1.0, weight_decay=0.0, decoupled=False
):
    """(weights, first moment, second moment) after the last of several steps from moments of zero."""
    weight = weight.copy()
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        for i, row in enumerate(weight):
            tangent = gradient[i]
            if unit_rows and row.any():
                unit = row / np.linalg.norm(row)
                tangent = tangent - (tangent @ unit) * unit
            tangent = gradient_scale * tangent
            if decoupled:
                row -= lr * weight_decay * row
            else:
                tangent = tangent + weight_decay * row
            first[i] = beta1 * first[i] + (1 - beta1) * tangent
            second[i] = beta2 * second[i] + (1 - beta2) * tangent**2
            row -= lr * (first[i] / (1 - beta1**step)) / (np.sqrt(second[i] / (1 - beta2**step)) + eps)
            if unit_rows and row.any():
                row /= np.linalg.norm(row)
    return weight, first, second
