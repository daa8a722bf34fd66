"""A small dashboard's folder, made up: enough for its pages to be read."""

from pathlib import Path

from sae.dashboards.pages.shards import script
from sae.dashboards.schema import LatentRecord, LatentShard, Manifest

HOSTILE = "</script><script>window.hacked=1</script>\u202e\u200b'\""
SIZE = 2  # latents in a file


def strings(first: int) -> list[dict]:
    return [{"id": 100 * first + number, "text": f" word{first}_{number}"} for number in range(12)] + [
        {"id": 7, "text": HOSTILE}
    ]


def record(latent: int) -> LatentRecord:
    """A latent's page with tokens in every place that holds them."""
    peak = latent % 3
    example = {"document": 1, "block": 2, "start": 3, "peak": peak, "tokens": [4, 2, 12, 4], "places": [peak], "acts": [1.5]}
    bars = {"edges": [0.0, 1.0, 2.0], "counts": [3, latent]}
    return {
        "latent": latent,
        "fired": 10 + latent,
        "density": 0.01,
        "max": 2.0,
        "mean": 1.0,
        "std": 0.5,
        "skewness": 0.1,
        "kurtosis": 3.0,
        "decoder_norm": 1.0,
        "concentration": 0.5,
        "entropy": 1.5,
        "histogram": bars,
        "tokens": [{"token": 8, "count": 4, "share": 0.4, "mean": 1.2}],
        "logits": {"raised": [(5, 2.0), (8, 1.0)], "lowered": [(1, -2.0)], "histogram": bars},
        "decoder_neighbours": [{"latent": 0, "value": 0.9}],
        "coactive_neighbours": [],
        "neurons": [{"dimension": 3, "weight": -0.5, "share": 0.2}],
        "groups": [
            {"kind": "top", "low": None, "high": None, "count": 1, "examples": [{**example, "effects": None, "exact": {}}]}
        ],
        "explanations": [{"text": HOSTILE, "source": "made up", "score": None}],
        "scores": [],
    }


def shard(first: int) -> LatentShard:
    return {"first": first, "strings": strings(first), "latents": [record(first), record(first + 1)]}


def manifest(num_latents: int) -> Manifest:
    return {
        "version": 1,
        "title": HOSTILE,
        "sae": {"architecture": "relu", "d_in": 24, "d_sae": num_latents},
        "model": "tiny",
        "hook_point": "layers.1.resid_post",
        "source": "words",
        "rows": 1000,
        "documents": 10,
        "blocks": 50,
        "context": 32,
        "window": [20, 20],
        "effects": "gradient",
        "exact_effects": None,
        "index_size": 8192,
        "latents_size": SIZE,
        "search_size": 8192,
        "num_latents": num_latents,
        "columns": [],
        "coactive_rows": 1000,
        "dead": 0,
        "ultra_low": 1e-5,
        "texts": [],
        "layout": None,
        "has_scores": False,
        "run_page": None,
        "sweep_page": None,
        "made_with": "0",
    }


def write_dashboard(folder: Path, num_latents: int = 6) -> Path:
    """The manifest and the latents' pages."""
    data = folder / "data"
    (data / "latents").mkdir(parents=True)
    (data / "manifest.js").write_bytes(script("manifest", manifest(num_latents)))
    for number in range(num_latents // SIZE):
        (data / "latents" / f"{number}.js").write_bytes(script(f"latents/{number}", shard(SIZE * number)))
    return folder
