"""A tiny model with a word tokenizer, and a dictionary over three of its layers."""

import torch

from sae.architectures.layer_units import LayerUnits
from sae.factors.subject import FactorSubject
from tests.cases import CASES, build, ramp
from tests.dashboards.collect.mixed import points_of
from tests.dashboards.collect.texts import LATENTS
from tests.dashboards.live.subjects import open_model
from tests.models.tiny import D_MODEL

RELU = next(case for case in CASES if case.name == "relu")


def subject_of(family="llama", case=RELU, *, offset=0.0, units=False):
    """In float64; with an offset large enough no latent is ever at its kink; with units each layer has its own."""
    model = open_model(family)
    sae = build(case, d_in=D_MODEL, d_sae=LATENTS)
    if offset:
        with torch.no_grad():
            sae.b_enc += offset
    points = tuple(points_of(model))
    own = LayerUnits(
        layers=tuple(point.name for point in points),
        means=ramp(len(points), D_MODEL),
        scales=torch.tensor([0.5, 2.0, 3.0]).double(),
    )
    return FactorSubject(model=model, sae=sae, points=points, units=own if units else None)
