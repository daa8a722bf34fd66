"""A latent's page in Neuronpedia's words: the line of the latent, of its examples and of its explanations."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae.dashboards.exports.neuronpedia_heads import NeuronpediaNames
from sae.dashboards.schema import Bars, Example, ExampleGroup, LatentRecord, TokenText

__all__ = ["activations", "explanations", "feature"]

TOP = -1.0  # in the place of an interval's low end and of its share: the strongest examples of all


def feature(
    record: LatentRecord, strings: list[TokenText], direction: Float[Tensor, " d_in"], names: NeuronpediaNames
) -> dict[str, Any]:
    """The line of a latent.

    Args:
        record: its page.
        strings: that the page's tokens are places in.
        direction: its decoder row.
        names: what Neuronpedia calls things.
    """
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


def activations(record: LatentRecord, strings: list[TokenText], names: NeuronpediaNames) -> Iterator[dict[str, Any]]:
    """A line for each of a latent's examples, but the random ones."""
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


def explanations(record: LatentRecord, names: NeuronpediaNames) -> Iterator[dict[str, Any]]:
    """A line for each of a latent's explanations."""
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
