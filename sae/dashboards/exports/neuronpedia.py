"""The latents' pages as a folder that Neuronpedia imports in bulk (SAEDashboard 3ea1249, `neuronpedia/neuronpedia_export.py`).

    MODEL/LAYER-SET/{release,model,sourceset,source}.jsonl
    MODEL/LAYER-SET/features/batch-N.jsonl.gz       a line a latent
    MODEL/LAYER-SET/activations/batch-N.jsonl.gz    a line an example: the strongest, and those out of each interval
    MODEL/LAYER-SET/explanations/batch-N.jsonl.gz   where there are explanations

Differs from what SAEDashboard writes:
1. Examples show the dashboard's window, not the whole block; the random firings, which Neuronpedia has no place for, stay out.
2. Correlations of latents and of neurons are empty: the dashboard has the Jaccard index of latents, which is none.
3. `lossValues` are empty: which sign they have is not written down.
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae.dashboards.exports.neuronpedia_heads import NeuronpediaNames, heads
from sae.dashboards.exports.neuronpedia_lines import activations, explanations, feature
from sae.dashboards.schema import LatentShard, Manifest

__all__ = ["write_neuronpedia"]


def write_neuronpedia(
    folder: Path,
    shards: Iterable[LatentShard],
    manifest: Manifest,
    *,
    W_dec: Float[Tensor, "d_sae d_in"],
    names: NeuronpediaNames,
    num_layers: int,
    created_at: str,
) -> None:
    """Write the folder.

    Args:
        folder: an empty folder.
        shards: the latents' pages, in order; a batch is a shard.
        manifest: the dashboard's.
        W_dec: decoder rows, which Neuronpedia steers with.
        names: what Neuronpedia calls things.
        num_layers: blocks of the model.
        created_at: the time in ISO 8601 that stands in every line.

    Raises:
        OSError: the folder cannot be written.
    """
    inside = folder / names.model / names.source
    inside.mkdir(parents=True)
    top = heads(manifest, names, width=W_dec.shape[1], num_layers=num_layers, created_at=created_at)
    for name, line in top.items():
        (inside / f"{name}.jsonl").write_bytes(_line(line))
    for number, shard in enumerate(shards):
        lines: dict[str, list[Mapping[str, Any]]] = {"features": [], "activations": [], "explanations": []}
        for record in shard["latents"]:
            shared = {"modelId": names.model, "layer": names.source, "index": str(record["latent"]), "createdAt": created_at}
            lines["features"].append(feature(record, shard["strings"], W_dec[record["latent"]], names) | shared)
            lines["activations"] += [one | shared for one in activations(record, shard["strings"], names)]
            lines["explanations"] += [one | shared for one in explanations(record, names)]
        for kind, of_kind in lines.items():
            if of_kind or kind != "explanations":
                path = inside / kind / f"batch-{number}.jsonl.gz"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(gzip.compress(b"".join(map(_line, of_kind)), 5, mtime=0))


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, allow_nan=False) + "\n").encode("ascii")
