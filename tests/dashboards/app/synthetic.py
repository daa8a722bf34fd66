"""A dashboard of made-up numbers that follows sae/dashboards/schema.py, with hostile text in every place that text has."""

import base64
import gzip
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sae.dashboards.schema import (
    Example,
    ExampleGroup,
    IndexShard,
    LatentRecord,
    LatentShard,
    Manifest,
    SearchShard,
    TextPage,
    TokenText,
)

BUILT = Path(__file__).parents[3] / "sae" / "dashboards" / "app" / "built"

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '"><img src=x onerror="window.hacked = 3">',
    "'); window.hacked = 4; //",
    "javascript:window.hacked=5",
    "line\u2028separator\u2029",
    "zero\u200bwidth\ufeff",
    "\u202eright to left\u2066",
    "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f469\u200d\U0001f4bb",
    "lone\ud800surrogate",
    "\x00\x07\x1b[31m",
    "a\u0301\u0301\u0301",
    "${window.hacked = 6}`",
    "long",
]
# fmt: off
WORDS = [
    " the", " of", " and", " in", " to", " a", " was", ",", ".", " is", " for", " as", " on", " with", " by", "\n", "\n\n",
    " he", " river", " king", " France", " music", " war", "ing", "ed", "s", " 19", "45", " city", " language", " theory",
    " water", " species", " blue", " light", " anarch", "ism", " Aristotle", " film", " written", " Lincoln", " Alabama",
    "'s", " [[", "]]", " (", ")", "\t", "-",
]
# fmt: on
CONTEXT = 64


GIANT = "long" * 250_000


def strings(*, giant: bool = False) -> list[TokenText]:
    """All tokens; the last one has a megabyte of text where that is wanted."""
    found: list[TokenText] = [{"id": 1000 + i, "text": text} for i, text in enumerate(WORDS)] + [
        {"id": 5000 + i, "text": text} for i, text in enumerate(HOSTILE)
    ]
    found[-1]["text"] = GIANT if giant else "long"
    return found


def file_text(key: str, payload: Any, *, packed: bool) -> str:
    """A data file: JSON, or base64 of gzip of it; ASCII alone, and no markup."""
    text = json.dumps(payload, ensure_ascii=True)
    if packed:
        text = json.dumps(base64.b64encode(gzip.compress(text.encode(), 1)).decode())
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    return f"dashboard.put({json.dumps(key)}, {text});\n"


def column(values: np.ndarray) -> dict[str, str]:
    kinds = {"float32": "f32", "int32": "i32", "uint8": "u8"}
    return {
        "type": kinds[values.dtype.name],
        "data": base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode(),
    }


class Numbers:
    """The columns of all latents; a part is dead and a part ultra-low."""

    def __init__(self, num_latents: int, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        density = 10 ** draw.normal(-2.8, 0.7, num_latents)
        kind = draw.random(num_latents)
        density[kind < 0.03] = 10 ** draw.uniform(-6, -5.1, int((kind < 0.03).sum()))
        self.dead = kind > 0.96
        density[self.dead] = 0
        clusters = draw.normal(0, 3, (24, 2))
        place = clusters[draw.integers(0, 24, num_latents)] + draw.normal(0, 0.7, (num_latents, 2))
        top = draw.integers(0, len(WORDS) + len(HOSTILE) - 1, num_latents)
        self.columns = {
            "density": np.minimum(density, 0.6),
            "max": draw.gamma(4, 2.5, num_latents),
            "mean": draw.gamma(3, 0.8, num_latents),
            "effect": draw.gamma(0.6, 0.2, num_latents),
            "decoder_norm": draw.normal(1, 0.05, num_latents),
            "concentration": draw.beta(1.2, 3, num_latents),
            "entropy": draw.gamma(6, 0.9, num_latents),
            "x": place[:, 0],
            "y": place[:, 1],
        }
        self.columns = {name: values.astype(np.float32) for name, values in self.columns.items()}
        for name in ("max", "mean", "effect", "concentration", "entropy"):
            self.columns[name][self.dead] = np.nan
        self.columns["effect_exact"] = ((draw.random(num_latents) < 0.3) & ~self.dead).astype(np.uint8)
        self.columns["top_token"] = np.where(self.dead, -1, top).astype(np.int32)


def manifest(numbers: Numbers, *, sizes: tuple[int, int, int], texts: list[str]) -> Manifest:
    num_latents = len(numbers.dead)
    return {
        "version": 1,
        "title": "relu, SmolLM2-135M, residual stream after block 8",
        "sae": {"architecture": "relu", "d_in": 576, "d_sae": num_latents, "l0": 38.80312, "note": HOSTILE[0]},
        "model": "smollm2-135m-instruct-q4",
        "hook_point": "model.layers.8 output",
        "source": "Wikipedia articles (CC BY-SA 4.0)",
        "rows": 500_000,
        "documents": 98,
        "blocks": 7_940,
        "context": CONTEXT,
        "window": [20, 20],
        "effects": "gradient",
        "exact_effects": {"firings": 90, "agreement": 0.1304},
        "index_size": sizes[0],
        "latents_size": sizes[1],
        "search_size": sizes[2],
        "num_latents": num_latents,
        "columns": list(numbers.columns),
        "coactive_rows": 120_000,
        "dead": int(numbers.dead.sum()),
        "ultra_low": 1e-5,
        "texts": texts,
        "layout": "umap",
        "has_scores": False,
        "run_page": "report.html",
        "sweep_page": None,
        "made_with": "0.1.0",
    }


def index_shard(numbers: Numbers, first: int, size: int, explained: int) -> IndexShard:
    columns = {name: column(values[first : first + size]) for name, values in numbers.columns.items()}
    explanations = {
        str(latent): HOSTILE[latent % 14] if latent % 40 == 7 else f"words about subject {latent % 17}, in running text"
        for latent in range(first, first + len(numbers.dead[first : first + size]))
        if explained and latent % explained == 0
    }
    return {"first": first, "columns": columns, "strings": strings(giant=first == 0), "explanations": explanations}


def search_shard(numbers: Numbers, first: int, size: int) -> SearchShard:
    latents = range(first, min(first + size, len(numbers.dead)))
    top = numbers.columns["top_token"]
    return {
        "first": first,
        "strings": strings(giant=first == 0),
        "tokens": [[] if top[latent] < 0 else [int(top[latent]), int(top[latent] + 1)] for latent in latents],
        "snippets": ["" if top[latent] < 0 else f"the river number {latent} runs {HOSTILE[latent % 14]}" for latent in latents],
    }


def example(draw: np.random.Generator, peak_act: float, *, exact: bool, hostile: bool) -> Example:
    length, peak = int(draw.integers(24, 41)), int(draw.integers(6, 21))
    tokens = draw.integers(0, len(WORDS), length)
    if hostile:
        tokens[draw.integers(0, length, 6)] = draw.integers(len(WORDS), len(WORDS) + len(HOSTILE), 6)
    others = draw.choice(length, 6, replace=False)
    places = sorted({peak, *(int(place) for place in others if abs(place - peak) < 9)})
    acts = [peak_act if place == peak else float(peak_act * draw.beta(1, 2.5)) for place in places]
    effects = [float(draw.normal(0.04, 0.08) * act / 8) for act in acts]
    measured = {str(peak): effects[places.index(peak)] * 0.9} if exact else {}
    effects[places.index(peak)] *= 20 if exact else 1  # an estimate that is far off
    return {
        "document": int(draw.integers(0, 98)),
        "block": int(draw.integers(0, 7_940)),
        "start": int(draw.integers(0, CONTEXT - length)),
        "peak": peak,
        "tokens": [int(token) for token in tokens],
        "places": places,
        "acts": acts,
        "effects": effects,
        "exact": measured,
    }


def groups(draw: np.random.Generator, largest: float, fired: int) -> list[ExampleGroup]:
    top = [example(draw, largest * (1 - 0.01 * i), exact=i < 3, hostile=i % 4 == 3) for i in range(20)]
    found: list[ExampleGroup] = [{"kind": "top", "low": None, "high": None, "count": fired, "examples": top}]
    for tenth in reversed(range(10)):
        low, high = largest * tenth / 10, largest * (tenth + 1) / 10
        inside = [example(draw, float(draw.uniform(low, high)), exact=False, hostile=i == 1) for i in range(3)]
        count = int(fired * math.exp(-tenth / 2) * 0.4)
        found.append({"kind": "interval", "low": low, "high": high, "count": count, "examples": inside if tenth != 8 else []})
    random = [example(draw, float(largest * draw.beta(1, 3)), exact=False, hostile=False) for _ in range(5)]
    return [*found, {"kind": "random", "low": None, "high": None, "count": fired, "examples": random}]


def record(numbers: Numbers, latent: int) -> LatentRecord:
    draw = np.random.default_rng(latent)
    at = {name: float(values[latent]) for name, values in numbers.columns.items()}
    dead = bool(numbers.dead[latent])
    largest = 0.0 if dead else at["max"]
    fired = round(at["density"] * 500_000)
    acts = draw.gamma(1.3, largest / 6 + 1e-9, 4000).clip(0, largest)
    counts, edges = np.histogram(acts, 40, (0, largest or 1))
    weights, weight_edges = np.histogram(draw.normal(0, 0.02, 49_152), 60)
    count = len(strings())
    chosen = [int(i) for i in draw.permutation(count)[:10]]
    others = [int(i) for i in draw.integers(0, len(numbers.dead), 20)]
    return {
        "latent": latent,
        "fired": fired,
        "density": at["density"],
        "max": None if dead else largest,
        "mean": None if dead else at["mean"],
        "std": None if dead else 1.31,
        "skewness": None if dead else 1.8,
        "kurtosis": None if dead else 6.9,
        "decoder_norm": at["decoder_norm"],
        "concentration": None if dead else at["concentration"],
        "entropy": None if dead else at["entropy"],
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [0 if dead else int(n) for n in counts]},
        "tokens": []
        if dead
        else [{"token": t, "count": 200 // (i + 1), "share": 0.4 / (i + 1), "mean": 3 - i / 5} for i, t in enumerate(chosen)],
        "logits": {
            "raised": [(t, 0.09 - 0.005 * i) for i, t in enumerate(chosen)],
            "lowered": [(t, -0.08 + 0.005 * i) for i, t in enumerate(reversed(chosen))],
            "histogram": {"edges": [float(edge) for edge in weight_edges], "counts": [int(n) for n in weights]},
        },
        "decoder_neighbours": [{"latent": other, "value": 0.8 - i / 20} for i, other in enumerate(others[:10])],
        "coactive_neighbours": []
        if dead
        else [{"latent": other, "value": 0.3 - i / 40} for i, other in enumerate(others[10:])],
        "neurons": [{"dimension": 37 * i % 576, "weight": 0.3 - 0.12 * i, "share": 0.05 / (i + 1)} for i in range(5)],
        "groups": [] if dead else groups(draw, largest, fired),
        "explanations": [
            {
                "text": HOSTILE[latent % 14] if latent % 40 == 7 else "names of rivers, in running text",
                "source": "words",
                "score": 0.71,
            }
        ]
        if latent % 3 == 0
        else [],
        "scores": [{"name": "probe: nouns (AUROC)", "value": 0.83}] if latent % 2 else [],
    }


def text_page(title: str, num_latents: int, *, hostile: bool) -> TextPage:
    draw = np.random.default_rng(len(title))
    words = [" The", " river", " runs", " through", " the", " city", ".", "\n", *([*HOSTILE, GIANT] if hostile else WORDS)]
    tokens: list[Any] = [{"id": 0, "text": "<|endoftext|>", "kept": False, "loss": None, "latents": []}]
    common = [int(latent) for latent in draw.integers(0, num_latents, 12)]
    for i, word in enumerate(words):
        chosen = sorted({*draw.choice(common, 5).tolist(), *draw.integers(0, num_latents, 8).tolist()})
        latents = [
            {
                "latent": int(latent),
                "activation": float(draw.gamma(2, 2)),
                "quantile": float(draw.random()) if latent % 5 else None,
                "effect": float(draw.normal(0, 0.1)),
                "logit_effect": float(draw.normal(0, 0.3)) if i + 1 < len(words) else None,
            }
            for latent in chosen
        ]
        tokens.append({"id": i, "text": word, "kept": True, "loss": float(draw.gamma(2, 1.5)), "latents": latents})
    return {"title": title, "text": "".join(words), "tokens": tokens, "effects": "gradient"}


def starts(num_latents: int, size: int) -> Iterator[tuple[int, int]]:
    """Number and first latent of each file."""
    return iter(enumerate(range(0, num_latents, size)))


def write(
    folder: Path,
    num_latents: int = 300,
    *,
    sizes: tuple[int, int, int] = (128, 32, 128),
    pages: int | None = None,
    explained: int = 3,
) -> Path:
    """Writes a whole dashboard.

    Args:
        folder: where to.
        num_latents: how many.
        sizes: latents in a file of the index, of pages and of the search.
        pages: how many files of latents' pages to write; None: all.
        explained: every such latent has an explanation; 0: none.
    """
    shutil.copytree(BUILT, folder, dirs_exist_ok=True)
    numbers = Numbers(num_latents)
    texts = {"A river": False, f"Hostile {HOSTILE[0]}": True}

    def put(key: str, payload: Any, *, packed: bool = False) -> None:
        path = folder / "data" / f"{key}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file_text(key, payload, packed=packed), encoding="ascii")

    put("manifest", manifest(numbers, sizes=sizes, texts=list(texts)))
    for number, first in starts(num_latents, sizes[0]):
        put(f"index/{number}", index_shard(numbers, first, sizes[0], explained))
    for number, first in list(starts(num_latents, sizes[1]))[:pages]:
        latents = [record(numbers, latent) for latent in range(first, min(first + sizes[1], num_latents))]
        shard: LatentShard = {"first": first, "strings": strings(giant=first == 0), "latents": latents}
        put(f"latents/{number}", shard, packed=True)
    for number, first in starts(num_latents, sizes[2]):
        put(f"search/{number}", search_shard(numbers, first, sizes[2]), packed=True)
    for number, (title, hostile) in enumerate(texts.items()):
        put(f"texts/{number}", text_page(title, num_latents, hostile=hostile))
    (folder / "report.html").write_text("<!doctype html><html lang='en'><title>Run</title><h1>Run</h1></html>")
    return folder
