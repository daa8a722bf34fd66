"""Twins of the pages of factors: one factor, one layer, one token at a time, in Python floats."""

import math
import re

import numpy as np
import torch

from sae.models.capture import capture
from tests.reference import sparse_coding
from tests.reference.dashboards import choice


def by_layer(codes, num_layers):
    """All firings as [factor][layer], each a list in order of tokens; `row` counts kept positions, `layer` is noted."""
    found = [[[] for _ in range(num_layers)] for _ in range(codes.num_latents)]
    places = [
        (number, position)
        for number in range(len(codes.blocks))
        for position in range(codes.blocks.context_length)
        if codes.blocks.keep[number, position]
    ]
    row = 0
    for number in range(len(codes)):
        acts = codes.chunk(number).acts
        for local in range(acts.pattern.num_rows):
            kept, layer = divmod(row, num_layers)
            block, position = places[kept]
            for entry in range(int(acts.offsets[local]), int(acts.offsets[local + 1])):
                found[int(acts.indices[entry])][layer].append(
                    {
                        "row": kept,
                        "layer": layer,
                        "value": float(acts.values[entry]),
                        "effect": None,
                        "token": int(codes.blocks.ids[block, position]),
                        "block": block,
                        "position": position,
                        "document": int(codes.blocks.document[block, position]),
                    }
                )
            row += 1
    return found


def importance(own, top, rows):
    """Mean of the strongest activations of one factor at one layer; tokens on which it is silent count as zero."""
    values = sorted([firing["value"] for firing in own] + [0.0] * (rows - len(own)), reverse=True)
    values = values[:top]
    return math.fsum(values) / len(values)


def level(curve):
    """(level, peak) of one curve by the rule in words; None where it is zero everywhere."""
    if max(curve) == 0:
        return None, None
    last = max(1, len(curve) - 1)
    peak = min(layer for layer in range(len(curve)) if curve[layer] == max(curve))
    half = min(layer for layer in range(len(curve)) if curve[layer] >= max(curve) / 2)
    if 3 * peak < last:
        return "low", peak
    return ("high" if 3 * half > 2 * last else "mid"), peak


def contexts(own, settings):
    """The firings that become contexts, strongest first."""
    ordered = sorted(own, key=lambda firing: (-firing["value"], firing["row"]))
    return choice(ordered, settings.top, settings.window_before, settings.window_after)


def words_of(pieces):
    """(word, place of its last piece) of pieces, character by character; a word is letters, digits and underscores."""
    found, word, last = [], "", None
    for place, piece in enumerate(pieces):
        for character in piece:
            if re.match(r"\w", character):
                word, last = word + character, place
            else:
                if word:
                    found.append((word, last))
                word = ""
    return [*found, (word, last)] if word else found


def row_of(subject, ids, position, layer):
    """What the dictionary reads at one place of a text by itself."""
    ids = torch.as_tensor(ids)[None]
    point = subject.points[layer]
    hidden = capture(subject.model, ids, torch.ones_like(ids, dtype=torch.bool), [point])[point.name]
    row = hidden[:, position]
    if subject.units is not None:
        row = subject.units.scales[layer] * (row - subject.units.means[layer])
    return row


def activation(subject, ids, position, layer, factor):
    """Activation of a factor on one text by itself, everything dense."""
    with torch.no_grad():
        return float(subject.sae.encode(row_of(subject, ids, position, layer))[0, factor])


def left_out(subject, ids, maskable, position, layer, factor, mask):
    """Fall of the activation when each token gives way to the mask."""
    whole, falls = activation(subject, ids, position, layer, factor), []
    for place, token in enumerate(ids):
        changed = [*ids[:place], mask, *ids[place + 1 :]]
        fall = whole - activation(subject, changed, position, layer, factor)
        falls.append(fall if maskable[place] and token != mask else 0.0)
    return falls


def left_out_by_shortlist(subject, ids, places, position, layer, factor, mask, size):
    """Fall of the activation when each of these tokens gives way to the mask, codes being found over one shortlist."""
    sae = subject.sae

    def row(ids):
        return (row_of(subject, ids, position, layer)[0] - sae.b_dec).detach().numpy()

    atoms = sae.W_dec.detach().numpy()
    norms = np.linalg.norm(atoms, axis=1)
    atoms, clean = atoms / norms[:, None], row(ids)
    known = sparse_coding.coordinate_descent(clean, atoms, sae.l1_coefficient)
    rows = [row([*ids[:place], mask, *ids[place + 1 :]]) for place in places]
    differ = [number for number, one in enumerate(rows) if np.abs(one - clean).max() > 0]
    codes = np.tile(known, (len(rows), 1))
    if differ:
        some = np.array([rows[number] for number in differ])
        codes[differ] = sparse_coding.shortlist_codes(some, atoms, sae.l1_coefficient, known, size)
    return [float(known[factor] - code[factor]) / float(norms[factor]) for code in codes]


def ridge(x, y, weights, penalty):
    """The fit by one least squares problem over weights and offset, the penalty as further equations."""
    rows = [[math.sqrt(w) * value for value in [1.0, *line]] for line, w in zip(x, weights, strict=True)]
    right = [math.sqrt(w) * value for value, w in zip(y, weights, strict=True)]
    for token in range(len(x[0])):
        rows.append([0.0] + [math.sqrt(penalty) * (other == token) for other in range(len(x[0]))])
        right.append(0.0)
    return np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0][1:]


def lime_weights(kept, values, *, chosen, width=25.0):
    """LIME's weights of tokens from masked copies and the activations on them."""
    kept = [[float(value) for value in line] for line in kept]
    count = len(kept[0])
    nearness = []
    for line in kept:
        length = math.sqrt(sum(line))
        cosine = sum(line) / (length * math.sqrt(count)) if length else 0.0
        nearness.append(math.sqrt(math.exp(-((100 * (1 - cosine)) ** 2) / width**2)))
    first = ridge(kept, values, nearness, 0.01)
    best = sorted(sorted(range(count), key=lambda token: -abs(first[token]))[:chosen])
    second = ridge([[line[token] for token in best] for line in kept], values, nearness, 1.0)
    return [float(second[best.index(token)]) if token in best else 0.0 for token in range(count)]
