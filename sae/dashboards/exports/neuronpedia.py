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
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae.dashboards.schema import Bars, Example, ExampleGroup, LatentRecord, LatentShard, Manifest, TokenText
from sae.errors import UserError

__all__ = ["NeuronpediaNames", "write_neuronpedia"]

SET_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TOP = -1.0  # in the place of an interval's low end and of its share: the strongest examples of all


@dataclass(frozen=True, kw_only=True)
class NeuronpediaNames:
    """What Neuronpedia calls things.

    Attributes:
        model: its id of the model.
        layer: the block that the SAE belongs to.
        source_set: the SAE, together with those of other layers that were trained alike: small letters, digits and hyphens.
        hook: TransformerLens's name of the place without its block, as in `hook_resid_post`.
        creator: id of the user who imports.

    Raises:
        UserError: the source set's name has other letters.
    """

    model: str
    layer: int
    source_set: str
    hook: str
    creator: str

    def __post_init__(self) -> None:
        if not SET_NAME.fullmatch(self.source_set):
            raise UserError(
                f"dashboard.neuronpedia_set={self.source_set!r}: expected small letters, digits and single hyphens between them"
            )

    @property
    def source(self) -> str:
        """Its id of the SAE."""
        return f"{self.layer}-{self.source_set}"


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
    heads = _heads(manifest, names, width=W_dec.shape[1], num_layers=num_layers, created_at=created_at)
    for name, line in heads.items():
        (inside / f"{name}.jsonl").write_bytes(_line(line))
    for number, shard in enumerate(shards):
        lines: dict[str, list[Mapping[str, Any]]] = {"features": [], "activations": [], "explanations": []}
        for record in shard["latents"]:
            shared = {"modelId": names.model, "layer": names.source, "index": str(record["latent"]), "createdAt": created_at}
            lines["features"].append(_feature(record, shard["strings"], W_dec[record["latent"]], names) | shared)
            lines["activations"] += [one | shared for one in _activations(record, shard["strings"], names)]
            lines["explanations"] += [one | shared for one in _explanations(record, names)]
        for kind, of_kind in lines.items():
            if of_kind or kind != "explanations":
                path = inside / kind / f"batch-{number}.jsonl.gz"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(gzip.compress(b"".join(map(_line, of_kind)), 5, mtime=0))


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, allow_nan=False) + "\n").encode("ascii")


def _heads(
    manifest: Manifest, names: NeuronpediaNames, *, width: int, num_layers: int, created_at: str
) -> dict[str, dict[str, Any]]:
    """The one line of each of the files above the batches."""
    creator = {"creatorId": names.creator, "createdAt": created_at}
    release = {
        "name": names.source_set,
        "description": manifest["title"],
        "creatorName": names.creator,
        "visibility": "PUBLIC",
        "isNewUi": False,
        "featured": False,
        "descriptionShort": manifest["title"],
        "urls": [],
        "creatorEmail": None,
        "creatorNameShort": names.creator,
        "defaultSourceSetName": names.source_set,
        "defaultSourceId": names.source,
        "defaultUmapSourceIds": [],
    }
    model = {
        "id": names.model,
        "instruct": "instruct" in names.model.lower() or names.model.endswith("-it"),
        "displayNameShort": names.model,
        "displayName": names.model,
        "tlensId": None,
        "dimension": width,
        "visibility": "PUBLIC",
        "defaultSourceSetName": None,
        "defaultSourceId": None,
        "inferenceEnabled": False,
        "layers": num_layers,
        "neuronsPerLayer": 0,
        "owner": "",
        "updatedAt": created_at,
        "website": None,
    }
    source_set = {
        "modelId": names.model,
        "name": names.source_set,
        "hasDashboards": True,
        "visibility": "PUBLIC",
        "description": manifest["title"],
        "type": str(manifest["sae"].get("architecture") or ""),
        "creatorName": names.creator,
        "urls": [],
        "creatorEmail": None,
        "releaseName": names.source_set,
        "defaultOfModelId": None,
        "defaultRange": 1,
        "defaultShowBreaks": True,
        "showDfa": False,
        "showCorrelated": False,
        "showHeadAttribution": False,
        "showUmap": False,
    }
    source = {
        "id": names.source,
        "modelId": names.model,
        "setName": names.source_set,
        "hasDashboards": True,
        "inferenceEnabled": False,
        "inferenceHosts": [],
        "saelensConfig": None,
        "saelensRelease": None,
        "saelensSaeId": None,
        "hfRepoId": None,
        "hfFolderId": None,
        "visibility": "PUBLIC",
        "defaultOfModelId": None,
        "hasUmap": False,
        "hasUmapLogSparsity": False,
        "hasUmapClusters": False,
        "num_prompts": manifest["blocks"],
        "num_tokens_in_prompt": manifest["context"],
        "dataset": manifest["source"],
        "notes": None,
    }
    heads = {"release": release, "model": model, "sourceset": source_set, "source": source}
    return {name: line | creator for name, line in heads.items()}


def _feature(
    record: LatentRecord, strings: list[TokenText], direction: Float[Tensor, " d_in"], names: NeuronpediaNames
) -> dict[str, Any]:
    logits = record["logits"]
    raised, lowered = (logits["raised"], logits["lowered"]) if logits is not None else ([], [])
    frequencies = _bars(record["histogram"])
    weights = _bars(None if logits is None else logits["histogram"])
    neighbours, neurons = record["decoder_neighbours"], record["neurons"]
    return {
        "creatorId": names.creator,
        "maxActApprox": record["max"] or 0.0,
        "hasVector": True,
        "vector": direction.tolist(),
        "vectorLabel": None,
        "vectorDefaultSteerStrength": record["max"] or 0.0,
        "hookName": f"blocks.{names.layer}.{names.hook}",
        "topkCosSimIndices": [one["latent"] for one in neighbours],
        "topkCosSimValues": [one["value"] for one in neighbours],
        "neuron_alignment_indices": [one["dimension"] for one in neurons],
        "neuron_alignment_values": [one["weight"] for one in neurons],
        "neuron_alignment_l1": [one["share"] for one in neurons],
        "correlated_neurons_indices": [],
        "correlated_neurons_pearson": [],
        "correlated_neurons_l1": [],
        "correlated_features_indices": [],
        "correlated_features_pearson": [],
        "correlated_features_l1": [],
        "neg_str": [strings[token]["text"] for token, _ in lowered],
        "neg_values": [weight for _, weight in lowered],
        "pos_str": [strings[token]["text"] for token, _ in raised],
        "pos_values": [weight for _, weight in raised],
        "frac_nonzero": record["density"],
        "freq_hist_data_bar_heights": frequencies[0],
        "freq_hist_data_bar_values": frequencies[1],
        "logits_hist_data_bar_heights": weights[0],
        "logits_hist_data_bar_values": weights[1],
        "decoder_weights_dist": [],
        "sourceSetName": names.source_set,
    }


def _bars(bars: Bars | None) -> tuple[list[float], list[float]]:
    """Heights, and where the middle of each bar is."""
    if bars is None:
        return [], []
    edges = bars["edges"]
    return [float(count) for count in bars["counts"]], [(low + high) / 2 for low, high in pairwise(edges)]


def _activations(record: LatentRecord, strings: list[TokenText], names: NeuronpediaNames) -> Iterator[dict[str, Any]]:
    for group in record["groups"]:
        if group["kind"] != "random":
            for place, example in enumerate(group["examples"]):
                yield _activation(record, group, example, place, strings, names)


def _activation(
    record: LatentRecord,
    group: ExampleGroup,
    example: Example,
    place: int,
    strings: list[TokenText],
    names: NeuronpediaNames,
) -> dict[str, Any]:
    values = [0.0] * len(example["tokens"])
    for at, activation in zip(example["places"], example["acts"], strict=True):
        values[at] = activation
    top = group["kind"] == "top"
    identity = f"{names.model} {names.source} {record['latent']} {group['kind']} {group['low']} {place}"
    return {
        "id": "c" + hashlib.sha256(identity.encode()).hexdigest()[:24],
        "tokens": [strings[token]["text"] for token in example["tokens"]],
        "maxValue": max(values),
        "maxValueTokenIndex": values.index(max(values)),
        "minValue": min(values),
        "values": values,
        "creatorId": names.creator,
        "dataSource": None,
        "dataIndex": None,
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "logitContributions": None,
        "binMin": TOP if top else group["low"],
        "binMax": record["max"] if top else group["high"],
        "binContains": TOP if top else group["count"] / max(1, record["fired"]),
        "qualifyingTokenIndex": example["peak"],
        "zIndices": None,
        "zValues": None,
    }


def _explanations(record: LatentRecord, names: NeuronpediaNames) -> Iterator[dict[str, Any]]:
    for place, explanation in enumerate(record["explanations"]):
        identity = f"{names.model} {names.source} {record['latent']} explanation {place}"
        yield {
            "id": "c" + hashlib.sha256(identity.encode()).hexdigest()[:24],
            "description": explanation["text"],
            "authorId": names.creator,
            "embedding": None,
            "triggeredById": None,
            "typeName": None,
            "explanationModelName": None,
            "notes": explanation["source"],
        }
