"""Twins of the data of latents' pages: one latent, one firing at a time, in Python floats."""

import math
from collections import defaultdict
from itertools import combinations

import numpy as np

MASK = 2**64 - 1


def firings(codes):
    """All firings by latent, in order of rows: dicts of row, value, effect, token, block, position, document."""
    found = [[] for _ in range(codes.num_latents)]
    row, block = 0, 0
    for number in range(len(codes)):
        chunk = codes.chunk(number)
        blocks, acts = chunk.blocks, chunk.acts
        entry, local = 0, 0
        for b in range(len(blocks)):
            for position in range(blocks.context_length):
                if not blocks.keep[b, position]:
                    continue
                for entry in range(int(acts.offsets[local]), int(acts.offsets[local + 1])):
                    found[int(acts.indices[entry])].append(
                        {
                            "row": row,
                            "value": float(acts.values[entry]),
                            "effect": None if chunk.effects is None else float(chunk.effects[entry]),
                            "token": int(blocks.ids[b, position]),
                            "block": block + b,
                            "position": position,
                            "document": int(blocks.document[b, position]),
                        }
                    )
                local += 1
                row += 1
        block += len(blocks)
    return found


def statistics(own, rows, bins):
    """Of one latent's firings."""
    values = [firing["value"] for firing in own]
    count = len(values)
    nan = math.nan
    if not count:
        names = ("max", "mean", "std", "skewness", "kurtosis", "effect")
        return {"fired": 0, "density": 0.0, **dict.fromkeys(names, nan), "histogram": [0] * bins}
    mean = math.fsum(values) / count
    moment = {power: math.fsum((value - mean) ** power for value in values) / count for power in (2, 3, 4)}
    varying = min(values) < max(values)
    return {
        "fired": count,
        "density": count / rows,
        "max": max(values),
        "mean": mean,
        "std": math.sqrt(moment[2]) if varying else 0.0,
        "skewness": moment[3] / moment[2] ** 1.5 if varying else nan,
        "kurtosis": moment[4] / moment[2] ** 2 if varying else nan,
        "histogram": [sum(interval(value, max(values), bins) == i for value in values) for i in range(bins)],
        "effect": nan if own[0]["effect"] is None else max(abs(firing["effect"]) for firing in own),
    }


def interval(value, largest, parts):
    """The part of (0, largest] that a value lies in: the first whose upper edge it does not exceed."""
    return next(i for i in range(parts) if value / largest * parts <= i + 1)


def token_statistics(own, listed):
    """Commonest tokens as (token, count, share, mean), concentration and entropy in bits."""
    values = defaultdict(list)
    for firing in own:
        values[firing["token"]].append(firing["value"])
    if not own:
        return [], math.nan, math.nan
    order = sorted(values, key=lambda token: (-len(values[token]), token))
    shares = {token: len(values[token]) / len(own) for token in order}
    entries = [(token, len(values[token]), shares[token], math.fsum(values[token]) / len(values[token])) for token in order]
    entropy = math.fsum(-share * math.log2(share) for share in shares.values())
    return entries[:listed], max(shares.values()), entropy


def choice(ordered, count, before, after):
    """Firings of a group, in order: the first of each block; then those that no chosen one shows."""
    chosen, blocks = [], set()
    for firing in ordered:
        if firing["block"] not in blocks and len(chosen) < count:
            chosen.append(firing)
            blocks.add(firing["block"])
    for firing in ordered:
        shown = any(
            one["block"] == firing["block"] and -before <= firing["position"] - one["position"] <= after for one in chosen
        )
        if not shown and len(chosen) < count:
            chosen.append(firing)
    return sorted(chosen, key=ordered.index)


def draw(seed, latent, row):
    """The two 32-bit draws of an entry, by integers of any length."""

    def mixed(state):
        z = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    start = mixed((mixed(seed & MASK) + latent) & MASK)
    number = mixed((start + row * 0x9E3779B97F4A7C15) & MASK)
    return number >> 32, number & 0xFFFFFFFF


def groups(own, latent, settings):
    """A latent's groups, each (kind, low, high, firings that belong to it, chosen firings)."""
    if not own:
        return []
    largest = max(firing["value"] for firing in own)
    before, after = settings.window_before, settings.window_after

    def drawn(half):
        return lambda firing: (draw(settings.seed, latent, firing["row"])[half], firing["row"])

    strongest = sorted(own, key=lambda firing: (-firing["value"], firing["row"]))
    found = [("top", None, None, len(own), choice(strongest, settings.top, before, after))]
    for part in reversed(range(settings.intervals)):
        inside = [firing for firing in own if interval(firing["value"], largest, settings.intervals) == part]
        chosen = choice(sorted(inside, key=drawn(0)), settings.per_interval, before, after)
        low, high = (largest * edge / settings.intervals for edge in (part, part + 1))
        found.append(("interval", low, high, len(inside), chosen))
    chosen = choice(sorted(own, key=drawn(1)), settings.random, before, after)
    return [*found, ("random", None, None, len(own), chosen)]


def window(firing, own, blocks, settings):
    """What an example shows: (start, peak, tokens, offsets, activations, effects)."""
    ids, attention = blocks.ids[firing["block"]].tolist(), blocks.attention[firing["block"]].tolist()
    attended = [position for position, attends in enumerate(attention) if attends]
    start = max(firing["position"] - settings.window_before, attended[0])
    end = min(firing["position"] + settings.window_after, attended[-1]) + 1
    inside = [other for other in own if other["block"] == firing["block"] and start <= other["position"] < end]
    return (
        start,
        firing["position"] - start,
        ids[start:end],
        [other["position"] - start for other in inside],
        [other["value"] for other in inside],
        None if firing["effect"] is None else [other["effect"] for other in inside],
    )


def jaccard(found):
    """Rows where both latents fire over rows where either does [latents, latents]; NaN where there is none, and for itself."""
    rows = [{firing["row"] for firing in own} for own in found]
    result = np.full((len(rows), len(rows)), np.nan)
    for i, j in combinations(range(len(rows)), 2):
        if rows[i] & rows[j]:
            result[i, j] = result[j, i] = len(rows[i] & rows[j]) / len(rows[i] | rows[j])
    return result


def best(numbered, count):
    """Pairs (number, value) with the largest values, of equal ones the first number first; NaN left out."""
    ordered = sorted(((number, value) for number, value in numbered if value == value), key=lambda pair: (-pair[1], pair[0]))
    return ordered[:count]


def cosines(W_dec, latent, count):
    """Latents by cosine of decoder rows."""
    norms = [math.sqrt(float(row @ row)) for row in W_dec]
    others = [other for other in range(len(W_dec)) if other != latent and norms[other] and norms[latent]]
    return best(((other, float(W_dec[latent] @ W_dec[other]) / norms[latent] / norms[other]) for other in others), count)


def neurons(row, count):
    """Dimensions as (dimension, weight, share of the absolute sum), the largest absolute weight first."""
    total = sum(abs(weight) for weight in row)
    sizes = best(((dimension, abs(weight)) for dimension, weight in enumerate(row) if weight), count)
    return [(dimension, row[dimension], size / total) for dimension, size in sizes]
