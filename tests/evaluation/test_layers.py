"""Numbers of mixed layers against numpy, layer by layer, and the splice against the same sum done by hand."""

import numpy as np
import pytest
import torch

from sae.architectures.layer_units import LayerUnits
from sae.architectures.relu import ReLUSAE
from sae.evaluation.cross_entropy import CleanRun
from sae.evaluation.layers import Layer, evaluate_layers
from sae.models.hook_points import resolve_hook_point
from tests.cases import ramp

D_MODEL, D_SAE = 12, 30


@pytest.fixture
def sae():
    """About half of its latents active."""
    sae = ReLUSAE(d_in=D_MODEL, d_sae=D_SAE)
    for number, parameter in enumerate(sae.parameters()):
        parameter.data.copy_(0.5 * ramp(*parameter.shape, phase=number))
    return sae


@pytest.fixture
def points(model):
    return [resolve_hook_point(model, site="resid_post", layer=layer) for layer in (2, 0)]


@pytest.fixture
def units(points):
    return LayerUnits(
        layers=tuple(point.name for point in points),
        means=3 * ramp(2, D_MODEL),
        scales=torch.tensor([0.25, 3.0], dtype=torch.float64),
    )


def raw_rows(number):
    return (number + 1) * ramp(50, D_MODEL, phase=number) + number


def test_each_layer_has_the_numbers_of_its_own_rows(sae, points, units):
    layers = [Layer(hook_point=point, rows=raw_rows(number).split(16)) for number, point in enumerate(points)]
    found = evaluate_layers(sae, units, layers)
    weights = [parameter.detach().double().numpy() for parameter in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)]
    for number, numbers in enumerate(found):
        W_enc, b_enc, W_dec, b_dec = weights
        scale, mean, x = units.scales[number].item(), units.means[number].numpy(), raw_rows(number).numpy()
        pre_encoder = scale * (x - mean) - (b_dec if sae.apply_b_dec_to_input else 0)
        acts = np.maximum(pre_encoder @ W_enc + b_enc, 0)
        recon = (acts @ W_dec + b_dec) / scale + mean
        fvu = np.square(x - recon).sum() / np.square(x - x.mean(axis=0)).sum()
        assert numbers["hook_point"] == points[number].name
        assert numbers["fvu"] == pytest.approx(fvu, rel=1e-5)
        assert numbers["l0"] == pytest.approx((acts > 0).sum(axis=1).mean(), rel=1e-12)
        assert numbers["never_fired"] == pytest.approx(((acts > 0).sum(axis=0) == 0).mean())
        assert numbers["tokens_evaluated"] == 50
        assert numbers["ce_sae"] is None
        assert not {"density_histogram", "dead_fraction", "tokens_trained"} & numbers.keys()


def test_each_layer_is_put_in_by_itself(sae, points, units, model, blocks):
    clean = CleanRun(model, blocks, max_tokens=50)
    layers = [Layer(hook_point=point, rows=[raw_rows(number).float()], clean_run=clean) for number, point in enumerate(points)]
    found = evaluate_layers(sae, units, layers)
    for number, point in enumerate(points):

        def by_hand(rows, number=number):
            """Into the layer's units, through the SAE, and back."""
            return units.take_back(sae(units.put(rows, number)).recon, number)

        losses, divergence = clean.compare(point, by_hand, mean=raw_rows(number).float().double().mean(dim=0))
        assert found[number]["ce_clean"] == losses["clean"]
        assert found[number]["ce_sae"] == pytest.approx(losses["sae"], rel=1e-4)
        assert found[number]["ce_mean"] == pytest.approx(losses["mean"], rel=1e-6)
        assert found[number]["kl"] == pytest.approx(divergence, rel=1e-3)
    assert found[0]["ce_sae"] != pytest.approx(found[1]["ce_sae"], rel=1e-3)
