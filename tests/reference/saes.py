"""Every architecture and every term again, slowly, in plain numpy float64, row by row and straight from the papers.

Gradients come from the complex step: for a function built of analytic operations, the imaginary part of f(x + ih) / h is the
derivative to the last digit (Squire and Trapp 1998). So nothing below takes an absolute value, comparisons look at real parts,
and what a paper detaches is computed from the real parts alone (`frozen`). Straight-through gradients, which are no
derivatives, are written out in `pseudo_gradients`.
"""

from collections.abc import Callable

import numpy as np

from tests.reference.sparse_coding import coordinate_descent

Params = dict[str, np.ndarray]
STEP = 1e-30


def relu(z):
    return np.where(np.real(z) > 0, z, 0)


def norm(v):
    return np.sqrt((v * v).sum())


def frozen(p: Params) -> Params:
    return {name: np.real(value).copy() for name, value in p.items()}


# -- architectures: row -> (pre_acts, latent_acts) -----------------------------------------------------------------------


def pre_activations(p, row, subtract):
    if len(p["W_enc"]) < len(row):
        return layer_by_layer(p, row)
    return (row - p["b_dec"] if subtract else row) @ p["W_enc"] + p["b_enc"]


def layer_by_layer(p, row):
    """Of layers side by side: each has its own latents, in their order, and they read nothing else."""
    width, latents = p["W_enc"].shape
    layers = len(row) // width
    z = np.zeros(latents, dtype=np.result_type(p["W_enc"], row))
    for i in range(latents):
        layer = i * layers // latents
        z[i] = sum(row[layer * width + j] * p["W_enc"][j, i] for j in range(width)) + p["b_enc"][i]
    return z


def keep_largest(z, k):
    kept = np.zeros_like(z)
    for i in sorted(range(len(z)), key=lambda i: -np.real(z[i]))[:k]:
        kept[i] = relu(z[i])
    return kept


def keep_largest_of_batch(pre, k):
    """The rows * k largest entries of a whole batch, where they are positive."""
    kept = np.zeros_like(pre)
    places = sorted(np.ndindex(pre.shape), key=lambda place: -np.real(pre[place]))
    for place in places[: len(pre) * k]:
        kept[place] = relu(pre[place])
    return kept


def above(z, threshold):
    return np.where(np.real(z) > np.real(threshold), z, 0)


def gated(p, row, subtract):
    shared = (row - p["b_dec"] if subtract else row) @ p["W_enc"]
    gate = shared + p["b_enc"]
    return gate, np.where(np.real(gate) > 0, relu(np.exp(p["r_mag"]) * shared + p["b_mag"]), 0)


def matching_pursuit(p, row, k):
    D = p["W_dec"]
    residual = row - p["b_dec"]
    first = np.array([residual @ d / (d @ d) for d in D])
    acts = np.zeros(len(D), dtype=np.result_type(D, residual))
    for _ in range(k):
        fits = [np.real(residual @ d / norm(d)) for d in D]
        best = int(np.argmax(fits))
        if fits[best] <= 0:
            break
        share = residual @ D[best] / (D[best] @ D[best])
        acts[best] += share
        residual = residual - share * D[best]
    return first, acts


def sparse_coding(p, row, l1):
    """Which latents are used, by coordinate descent; then the solution over these, which is analytic in p and row."""
    centred = row - p["b_dec"]
    norms = np.array([norm(d) for d in p["W_dec"]])
    unit = np.array([d / n for d, n in zip(p["W_dec"], norms, strict=True)])
    code = coordinate_descent(np.real(centred), np.real(unit), l1)
    used = [i for i in range(len(unit)) if code[i] > 0]
    acts = np.zeros(len(unit), dtype=np.result_type(unit, centred))
    if used:
        atoms = unit[used]
        acts[used] = np.linalg.solve(atoms @ atoms.T, atoms @ centred - l1) / norms[used]
    return np.array([(centred @ d - l1 * n) / (d @ d) for d, n in zip(p["W_dec"], norms, strict=True)]), acts


def layer_norm(row):
    mean = row.mean()
    deviation = np.sqrt(((row - mean) ** 2).mean() + 1e-5)
    return (row - mean) / deviation, mean, deviation


def decode(p, acts, row, target_widths=None):
    if target_widths is not None:
        return decode_later_layers(p, acts, target_widths)
    recon = p["b_dec"] + sum(acts[i] * p["W_dec"][i] for i in range(len(acts)))
    return recon + row @ p["W_skip"] if "W_skip" in p else recon


def decode_later_layers(p, acts, target_widths):
    """yhat_m = b_m + sum over l <= m of W_dec_{l -> m} f_l: what else W_dec holds is not read."""
    layers, start, parts = len(target_widths), 0, []
    for m in range(layers):
        columns = slice(start, start + target_widths[m])
        start = columns.stop
        earlier = [i for i in range(len(acts)) if i * layers // len(acts) <= m]
        parts.append(p["b_dec"][columns] + sum(acts[i] * p["W_dec"][i][columns] for i in earlier))
    return np.concatenate(parts)


# -- terms: (p, acts, pre, recon, target) of the whole batch -> one value a row ------------------------------------------


def squared_error(recon, target):
    return np.array([((r - t) * (r - t)).sum() for r, t in zip(recon, target, strict=True)])


def nested(p, acts, target, sizes, *, empty, average):
    ends = np.cumsum(sizes)
    prefixes = [0, *ends] if empty else list(ends)
    values = np.zeros(len(target), dtype=complex)
    for end in prefixes:
        recon = acts[:, :end] @ p["W_dec"][:end] + p["b_dec"]
        values = values + squared_error(recon, target)
    return values / len(prefixes) if average else values


def multi_topk(p, pre, target, k):
    acts = np.array([keep_largest(z, k) for z in pre])
    return squared_error(acts @ p["W_dec"] + p["b_dec"], target)


def gate_reconstruction(p, pre, target, *, through_decoder):
    q = p if through_decoder else frozen(p)
    return squared_error(relu(pre) @ q["W_dec"] + q["b_dec"], target)


def weights(p, weighting, widths=None, *, shared=0, ratio=1):
    """Of latents; the first `shared` have one direction for all parts, which costs its length once, times the ratio."""
    if weighting == "none":
        return np.ones(len(p["W_dec"]))
    if weighting in ("decoder_norm", "frozen_decoder_norm"):
        return np.array([norm(d) for d in (p if weighting == "decoder_norm" else frozen(p))["W_dec"]])
    cuts = np.cumsum(widths)[:-1]
    found = []
    for i, d in enumerate(p["W_dec"]):
        lengths = [norm(part) for part in np.split(d, cuts)]
        found.append(ratio * sum(lengths) / len(lengths) if i < shared else sum(lengths))
    return np.array(found)


def l1(acts, w):
    return np.array([sum(f * one for f, one in zip(row, w, strict=True)) for row in acts])


def lp(acts, w, p):
    return np.array([sum(one * f**p for f, one in zip(row, w, strict=True) if np.real(f) > 0) for row in acts])


def tanh(acts, w, c):
    return np.array([sum(np.tanh(c * f * one) for f, one in zip(row, w, strict=True)) for row in acts])


def auxk(p, pre, recon, target, dead, k_aux, *, normalised, target_widths=None):
    residual = np.real(target) - np.real(recon)
    values = []
    for z, e in zip(pre, residual, strict=True):
        acts = keep_largest(np.where(dead, z, -np.inf), min(k_aux, int(dead.sum())))
        added = decode({"W_dec": p["W_dec"], "b_dec": np.zeros(len(e))}, acts, None, target_widths)  # no bias, no skip
        missing = e - added
        values.append((missing * missing).sum())
    return np.array(values) * (variance(np.real(target)) / variance(residual) if normalised else 1)


def variance(rows):
    return ((rows - rows.mean(axis=0)) ** 2).sum() / len(rows)


def ghost(p, pre, recon, target, dead):
    residual = np.real(target) - np.real(recon)
    latents = np.flatnonzero(dead)
    values = []
    for z, e in zip(pre, residual, strict=True):
        raised = sum(np.exp(z[i]) * p["W_dec"][i] for i in latents)
        size = np.linalg.norm(sum(np.exp(np.real(z[i])) * np.real(p["W_dec"][i]) for i in latents))
        missing = e - raised * (0.5 * np.linalg.norm(e) / size)
        error = (missing * missing).sum()
        values.append(error * ((e * e).sum() / np.real(error)))
    return np.array(values)


def pre_activation(p, pre, threshold, who):
    w = weights(p, "decoder_norm")
    return np.array([sum(relu(threshold[i] - z[i]) * w[i] for i in range(len(z)) if who[i]) for z in pre])


def kl(clean_logits, logits):
    """sum_w P(w) (log P(w) - log Q(w)) of each row: P from the clean run, Q from the other."""
    values = []
    for one, other in zip(clean_logits, logits, strict=True):
        log_p, log_q = (z - np.log(np.exp(z - z.max()).sum()) - z.max() for z in (one, other))
        values.append((np.exp(log_p) * (log_p - log_q)).sum())
    return np.array(values)


def downstream(clean, later):
    """Squared distance of each row from its clean value, summed over dimensions and averaged over places."""
    errors = [[((r - c) ** 2).sum() for r, c in zip(*pair, strict=True)] for pair in zip(later, clean, strict=True)]
    return np.array(errors).sum(axis=0) / len(clean)


def price_after(price, l0, target, speed):
    """The price of a latent after a batch that used l0 of them."""
    ratio = min(max(l0 / target, np.exp(-1)), np.exp(1))
    return price * ratio**speed


# -- straight-through steps ----------------------------------------------------------------------------------------------
# The imaginary part carries a direction through a forward pass: what follows puts the papers' pseudo-derivative along it.


def jump(z, theta, bandwidth, *, through):
    """z H(z - theta). Along (dz, dtheta): H dz - (theta / eps) K dtheta, and with `through` + (theta / eps) K dz besides."""
    fires, pseudo = above_as_number(z, theta), np.real(theta) / bandwidth * window(np.real(z), np.real(theta), bandwidth)
    along = fires * np.imag(z) + pseudo * ((np.imag(z) if through else 0) - np.imag(theta))
    return np.real(z) * fires + 1j * along


def fires(z, theta, bandwidth, *, through):
    """H(z - theta). Along (dz, dtheta): -(1 / eps) K dtheta, and with `through` + (1 / eps) K dz besides."""
    pseudo = window(np.real(z), np.real(theta), bandwidth) / bandwidth
    return above_as_number(z, theta) + 1j * pseudo * ((np.imag(z) if through else 0) - np.imag(theta))


def above_as_number(z, theta):
    return (np.real(z) > np.real(theta)).astype(float)


# -- gradients -----------------------------------------------------------------------------------------------------------


def complex_step(function: Callable[[Params], complex], p: Params) -> Params:
    """Derivative of a real-valued function by every entry of every parameter."""
    found = {}
    for name, value in p.items():
        gradient = np.zeros(value.shape)
        for place in np.ndindex(value.shape):
            moved = {other: array.astype(complex) for other, array in p.items()}
            moved[name][place] += 1j * STEP
            gradient[place] = np.imag(function(moved)) / STEP
        found[name] = gradient
    return found


def window(z, threshold, bandwidth):
    """The rectangle kernel K((z - theta) / eps)."""
    return (np.abs((z - threshold) / bandwidth) < 0.5).astype(float)


def pseudo_gradients(p, x, *, subtract, by_threshold, by_pre_acts, log):
    """Gradients that straight-through estimators add, of the threshold and, through pre-activations, of everything before it.

    Args:
        p: parameters, with `theta` among them.
        x: rows.
        subtract: whether b_dec is taken from the input.
        by_threshold: pseudo-derivative by each latent's threshold at each row [rows, d_sae].
        by_pre_acts: that by the pre-activations; zeros where the paper lets nothing through.
        log: whether the parameter is the threshold's logarithm.
    """
    rows = x - p["b_dec"] if subtract else x
    found = {name: np.zeros_like(value) for name, value in p.items()}
    found["theta"] = by_threshold.sum(axis=0) * (p["theta"] if log else 1)
    found["W_enc"] = rows.T @ by_pre_acts
    found["b_enc"] = by_pre_acts.sum(axis=0)
    if subtract:
        found["b_dec"] = -(by_pre_acts @ p["W_enc"].T).sum(axis=0)
    return found
