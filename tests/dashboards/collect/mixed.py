"""A tiny model whose layers are mixed: for each kept position a row of each of several layers, one after another."""

from sae.activations.mixed import MIXED, MixedLayers
from sae.models.hook_points import resolve_hook_point
from tests.cases import build
from tests.dashboards.collect.texts import LATENTS, harvester
from tests.models.tiny import D_MODEL

LAYERS = ("embeddings", "layers.0.resid_post", "layers.2.resid_post")

__all__ = ["LAYERS", "MIXED", "mixed", "points_of", "sae_for"]


def points_of(model):
    return [
        resolve_hook_point(model, site="embeddings"),
        *(resolve_hook_point(model, site="resid_post", layer=layer) for layer in (0, 2)),
    ]


def sae_for(case):
    return build(case, d_in=D_MODEL, d_sae=LATENTS)


def mixed(model, points):
    return MixedLayers(harvester(model, points))
