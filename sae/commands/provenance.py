"""What identifies the origin of rows, for the files that are made of them."""

from typing import Any

from sae.activations.store import StoreDescription
from sae.commands.hook_node import OTHER_MODEL
from sae.commands.origin import Origin
from sae.models.hook_points import HookPoint
from sae.tokens.tokenisation import tokenizer_fingerprint

__all__ = ["describe_place", "describe_store", "model_provenance", "provenance", "text_provenance"]


def provenance(origin: Origin) -> dict[str, Any]:
    """What identifies model, hook points and text."""
    places = {point.name: describe_place(origin, point) for point in origin.hook_points}
    return {"model": model_provenance(origin), "hook_points": places, "text": text_provenance(origin)}


def model_provenance(origin: Origin) -> dict[str, object]:
    """What identifies the weights, of both models where there are two."""
    found = origin.model.provenance()
    return found if origin.other_model is None else {**found, OTHER_MODEL: origin.other_model.provenance()}


def text_provenance(origin: Origin) -> dict[str, object]:
    """What identifies the text and its split into training and held-out documents."""
    return {**origin.config.source.provenance(), "held_out_fraction": origin.config.data.held_out_fraction}


def describe_place(origin: Origin, point: HookPoint) -> dict[str, Any]:
    """Where a hook point lies."""
    place: dict[str, Any] = {"module": point.module, "tensor": point.tensor, "site": point.site, "layer": point.layer}
    return {**place, "model": OTHER_MODEL} if point.name in origin.of_other else place


def describe_store(origin: Origin) -> StoreDescription:
    """What a manifest says about the rows' origin."""
    return StoreDescription(tokenizer={"sha256": tokenizer_fingerprint(origin.model.tokenizer)}, **provenance(origin))
