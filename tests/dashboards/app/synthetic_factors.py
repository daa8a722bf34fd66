"""A dashboard of made-up factors that follows sae/dashboards/factor_schema.py, with hostile text wherever text stands."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sae.dashboards.factor_schema import (
    Context,
    FactorActivation,
    FactorLayer,
    FactorManifest,
    FactorRecord,
    LayerInfo,
    Level,
    PathPage,
    PathToken,
    Saliency,
    SaliencyMethod,
    SenseGroup,
    WordOccurrence,
    WordPage,
)
from tests.dashboards.app import synthetic
from tests.dashboards.app.synthetic import BUILT, HOSTILE, WORDS, Numbers, file_text, index_shard, search_shard, starts, strings

NUM_FACTORS = 120
SIZE = 16
ROWS = 40_000  # of a layer
NAMES = ["embeddings", "resid_post.0", "resid_post.1", "resid_post.2", "resid_post.3", "resid_post.4", "resid_post.5"]
LAYERS: list[LayerInfo] = [
    {"name": name, "number": i - 1 if i else None, "rows": ROWS, "l0": 4.0 + i, "fvu": 0.1 + i / 50}
    for i, name in enumerate(NAMES)
]
LEVELS: list[Level] = ["low", "mid", "high"]
METHODS: list[SaliencyMethod] = ["leave_one_out", "integrated_gradients", "lime", "leave_one_out_shortlist"]
RULE = f"Low: the curve is highest in the first third of the layers. {HOSTILE[0]}"
SENSES = [" river", " water", " city", " king", " language"]


class FactorNumbers(Numbers):
    """The columns of all factors."""

    def __init__(self, num_factors: int = NUM_FACTORS) -> None:
        super().__init__(num_factors, seed=3)
        draw = np.random.default_rng(9)
        peak = draw.integers(0, len(LAYERS), num_factors)
        del self.columns["mean"], self.columns["effect"]
        self.columns["importance"] = np.where(self.dead, np.nan, self.columns["max"] * 0.6).astype(np.float32)
        self.columns["peak_layer"] = np.where(self.dead, -1, peak).astype(np.int32)
        self.columns["level"] = np.where(self.dead, -1, peak * 3 // len(LAYERS)).astype(np.int32)


def factor_manifest(numbers: FactorNumbers) -> FactorManifest:
    plain = synthetic.manifest(numbers, sizes=(64, SIZE, 64), texts=[])
    return {
        **plain,
        "title": "sparse coding, MiniLM, embeddings and six blocks",
        "model": "minilm",
        "hook_point": "layers",
        "effects": None,
        "exact_effects": None,
        "factors": {
            "layers": LAYERS,
            "importance_top": 500,
            "contexts": 8,
            "level_rule": RULE,
            "size": SIZE,
            "words": ["bank", HOSTILE[0]],
            "paths": ["A river bank", f"Hostile {HOSTILE[1]}"],
            "method": "sparse coding",
            "saliency": {"method": "leave_one_out_shortlist", "measured": 1200, "shown": 4800},
            "agreement": [
                {
                    "first": "leave_one_out",
                    "second": "integrated_gradients",
                    "contexts": 40,
                    "correlation": 0.61,
                    "same_top": 0.55,
                }
            ],
        },
    }


def context(draw: np.random.Generator, peak_act: float, *, methods: list[SaliencyMethod], hostile: bool) -> Context:
    length = int(draw.integers(30, 64))
    peak = int(draw.integers(4, length - 2))
    tokens = draw.integers(0, len(WORDS), length)
    if hostile:
        tokens[draw.integers(0, length, 6)] = draw.integers(len(WORDS), len(WORDS) + len(HOSTILE), 6)
    places = sorted({peak, *draw.choice(length, 3, replace=False).tolist()})
    saliency: list[Saliency] = []
    for method in methods:
        weights = draw.normal(0, 0.12, length) * np.exp(-np.abs(np.arange(length) - peak) / 12) * peak_act
        weights[peak] = peak_act * 2
        saliency.append({"method": method, "weights": [float(weight) for weight in weights]})
    return {
        "document": int(draw.integers(0, 98)),
        "block": int(draw.integers(0, 7_940)),
        "start": int(draw.integers(0, 8)),
        "peak": peak,
        "tokens": [int(one) for one in tokens],
        "places": [int(place) for place in places],
        "acts": [peak_act if place == peak else peak_act / 3 for place in places],
        "saliency": saliency,
    }


def methods_of(factor: int, *, at_peak: bool, rank: int) -> list[SaliencyMethod]:
    """By which ways the saliency of a context was measured: of a third of the factors all, of a third two, of a third none.

    Factor 8 has few: at its peak layer the cheapest way, and LIME for the strongest context.
    """
    if factor == 8:
        return ([METHODS[0], METHODS[2]] if rank == 0 else METHODS[:1]) if at_peak else []
    return [[], METHODS[:2], METHODS][factor % 3] if rank < 6 else []


def factor_layer(draw: np.random.Generator, numbers: FactorNumbers, factor: int, layer: int) -> FactorLayer:
    peak, largest = int(numbers.columns["peak_layer"][factor]), float(numbers.columns["max"][factor])
    share = max(0.0, 1 - abs(layer - peak) * 0.24)
    if peak < 0 or share <= 0:
        return {"fired": 0, "max": None, "importance": None, "contexts": [], "tokens": []}
    top = largest * share
    methods = [methods_of(factor, at_peak=layer == peak, rank=rank) for rank in range(8)]
    found = [context(draw, top * (1 - 0.02 * i), methods=methods[i], hostile=i == 2) for i in range(8)]
    entries = [(int(draw.integers(0, len(WORDS) + 5)), 300 // (i + 1)) for i in range(6)]
    return {
        "fired": int(900 * share),
        "max": top,
        "importance": top * 0.6,
        "contexts": found,
        "tokens": [{"token": token, "count": count, "share": count / 900, "mean": top / 2} for token, count in entries],
    }


def factor_record(numbers: FactorNumbers, factor: int) -> FactorRecord:
    draw = np.random.default_rng(factor)
    dead = bool(numbers.dead[factor])
    at = {name: float(values[factor]) for name, values in numbers.columns.items()}
    layers = [factor_layer(draw, numbers, factor, layer) for layer in range(len(LAYERS))]
    largest = 0.0 if dead else at["max"]
    counts, edges = np.histogram(draw.gamma(1.3, largest / 6 + 1e-9, 2000).clip(0, largest), 40, (0, largest or 1))
    weights, weight_edges = np.histogram(draw.normal(0, 0.02, 30_522), 60)
    others = draw.integers(0, len(numbers.dead), 10).tolist()
    words = draw.permutation(len(strings()))[:10].tolist()
    return {
        "factor": factor,
        "level": None if dead else LEVELS[int(at["level"])],
        "peak_layer": None if dead else int(at["peak_layer"]),
        "fired": sum(layer["fired"] for layer in layers),
        "density": at["density"],
        "max": None if dead else largest,
        "decoder_norm": 1.0,
        "concentration": None if dead else at["concentration"],
        "entropy": None if dead else at["entropy"],
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "neighbours": [{"latent": int(other), "value": 0.8 - i / 20} for i, other in enumerate(others)],
        "logits": None
        if factor % 2
        else {
            "raised": [(int(word), 0.9 - i / 20) for i, word in enumerate(words)],
            "lowered": [(int(word), -0.7 + i / 20) for i, word in enumerate(words)],
            "histogram": {"edges": weight_edges.tolist(), "counts": weights.tolist()},
        },
        "layers": layers,
    }


def strongest(draw: np.random.Generator, factors: list[int]) -> list[FactorActivation]:
    acts = sorted(draw.gamma(3, 1.2, len(factors)), reverse=True)
    return [{"factor": factor, "activation": float(act)} for factor, act in zip(factors, acts, strict=True)]


def word_page(word: str, occurrences: int = 40) -> WordPage:
    """Five senses, which come apart layer by layer."""
    draw = np.random.default_rng(len(word))
    sense = draw.choice(5, occurrences, p=[0.35, 0.25, 0.2, 0.12, 0.08])
    texts = strings()
    found: list[WordOccurrence] = []
    for one in sense:
        tokens = draw.integers(0, len(WORDS), 21)
        tokens[10] = WORDS.index(SENSES[one])
        tokens[12] = draw.integers(len(WORDS), len(texts) - 1)
        layers = [strongest(draw, [int(one) * 7 + i for i in range(4)]) for _ in LAYERS]
        shown: WordOccurrence = {
            "document": 3,
            "block": int(draw.integers(0, 900)),
            "start": 4,
            "peak": 10,
            "tokens": [],
            "layers": layers,
        }
        shown["tokens"] = [int(token) for token in tokens]
        found.append(shown)
    groups: list[list[SenseGroup]] = []
    for layer in range(len(LAYERS)):
        kinds = np.where(sense < min(5, 1 + layer), sense, 0)
        sets = [np.flatnonzero(kinds == kind).tolist() for kind in np.unique(kinds)]
        sets.sort(key=len, reverse=True)
        groups.append(
            [
                {"occurrences": members, "factors": strongest(draw, [7 * i + layer, 7 * i + 30])}
                for i, members in enumerate(sets)
            ]
        )
    return {"word": word, "strings": texts, "total": 312, "occurrences": found, "groups": groups}


MANY_FACTORS = 1  # the token with more of them than a screen shows


def path_token(draw: np.random.Generator, number: int, text: str) -> PathToken:
    """Some factors stay, some come and some go; the first token is a special one."""
    lives = [
        (int(factor), *sorted(draw.integers(0, len(LAYERS), 2).tolist()))
        for factor in draw.choice(NUM_FACTORS, 20 if number == MANY_FACTORS else 8, replace=False)
    ]
    lives[0] = (lives[0][0], 0, len(LAYERS) - 1)
    layers: list[list[FactorActivation]] = []
    for layer in range(len(LAYERS)):
        alive = [factor for factor, first, last in lives if first <= layer <= last]
        layers.append(strongest(draw, alive) if number else [])
    return {"id": 2000 + number, "text": text, "kept": number > 0, "layers": layers}


def path_page(title: str, *, hostile: bool) -> PathPage:
    draw = np.random.default_rng(len(title))
    words = ["[CLS]", "We", " sat", " on", " the", " bank", " of", " the", " river", ".", "\n", *(HOSTILE if hostile else [])]
    return {"title": title, "text": "".join(words[1:]), "tokens": [path_token(draw, i, word) for i, word in enumerate(words)]}


def write(folder: Path) -> Path:
    """Writes a whole dashboard of factors."""
    shutil.copytree(BUILT, folder, dirs_exist_ok=True)
    numbers = FactorNumbers()
    manifest = factor_manifest(numbers)

    def put(key: str, payload: Any) -> None:
        path = folder / "data" / f"{key}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            file_text(key, payload, packed=key.split("/")[0] in ("factors", "words", "paths", "search")), encoding="ascii"
        )

    put("manifest", manifest)
    for number, first in starts(NUM_FACTORS, 64):
        put(f"index/{number}", index_shard(numbers, first, 64, 0))
        put(f"search/{number}", search_shard(numbers, first, 64))
    for number, first in starts(NUM_FACTORS, SIZE):
        factors = [factor_record(numbers, factor) for factor in range(first, min(first + SIZE, NUM_FACTORS))]
        put(f"factors/{number}", {"first": first, "strings": strings(), "factors": factors})
    for number, word in enumerate(manifest["factors"]["words"]):
        put(f"words/{number}", word_page(word))
    for number, title in enumerate(manifest["factors"]["paths"]):
        put(f"paths/{number}", path_page(title, hostile=number == 1))
    (folder / "report.html").write_text("<!doctype html><html lang='en'><title>Run</title><h1>Run</h1></html>")
    return folder
