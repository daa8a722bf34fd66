"""What pages say of weights, against float64 products of all with all."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae.dashboards.latents import largest as largest_module
from sae.dashboards.latents import logits as logits_module
from sae.dashboards.latents.layout import layout, layout_seconds
from sae.dashboards.latents.logits import direct_logits
from sae.dashboards.latents.neighbours import decoder_neighbours, neuron_alignment
from sae.dashboards.latents.settings import PageSettings
from sae.errors import UserError
from tests.cases import ramp
from tests.reference import dashboards as twin

LATENTS, WIDTH, VOCABULARY = 37, 6, 101


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of latents and slices of the vocabulary, the last ones short."""
    monkeypatch.setattr(largest_module, "MOST_ROWS", 8)
    monkeypatch.setattr(logits_module, "SLICE_TOKENS", 23)


def decoder():
    rows = ramp(LATENTS, WIDTH).float() * torch.linspace(0.1, 3, LATENTS)[:, None]
    rows[5] = 0
    rows[9] = 2 * rows[30]  # the same direction
    return rows


@pytest.mark.usefixtures("small_blocks")
def test_neighbours_have_the_largest_cosines():
    rows, count = decoder(), 4
    listed = decoder_neighbours(rows, count)
    for i in range(LATENTS):
        expected = twin.cosines(rows.double().numpy(), i, count)
        held = listed.number[i] >= 0
        assert listed.number[i][held].tolist() == [latent for latent, _ in expected]
        np.testing.assert_allclose(listed.value[i][held], [value for _, value in expected], rtol=0, atol=1e-6)
    assert (listed.number[5] == -1).all()
    assert not (listed.number == 5).any()
    assert listed.number[9, 0] == 30


def test_more_neighbours_than_latents():
    listed = decoder_neighbours(ramp(3, WIDTH).float(), 10)
    assert (listed.number >= 0).sum(axis=1).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("small_blocks")
def test_neurons_are_the_largest_absolute_weights():
    rows = decoder()
    rows[2, 3:] = 0
    listed, shares = neuron_alignment(rows, 4)
    for i in range(LATENTS):
        expected = twin.neurons(rows[i].double().numpy(), 4)
        held = listed.number[i] >= 0
        assert listed.number[i][held].tolist() == [dimension for dimension, *_ in expected]
        np.testing.assert_allclose(listed.value[i][held], [weight for _, weight, _ in expected], rtol=1e-6)
        np.testing.assert_allclose(shares[i][held], [share for *_, share in expected], rtol=1e-6)
    assert (listed.number[2] >= 0).sum() == 3


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_equal_one_product(dtype):
    rows, unembedding = decoder(), ramp(VOCABULARY, WIDTH, phase=1).to(dtype)
    found = direct_logits(rows, unembedding, count=4, bins=9)
    weights = rows.double().numpy() @ unembedding.double().numpy().T
    np.testing.assert_allclose(found.low, weights.min(axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.high, weights.max(axis=1), rtol=0, atol=1e-5)
    for i in range(LATENTS):
        if i == 5:
            continue
        raised, lowered = twin.best(enumerate(weights[i]), 4), twin.best(enumerate(-weights[i]), 4)
        assert found.raised.number[i].tolist() == [token for token, _ in raised]
        assert found.lowered.number[i].tolist() == [token for token, _ in lowered]
        np.testing.assert_allclose(found.raised.value[i], [weight for _, weight in raised], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.lowered.value[i], [-weight for _, weight in lowered], rtol=0, atol=1e-5)
        assert found.histogram[i].tolist() == np.histogram(weights[i], bins=9)[0].tolist()
    assert found.histogram[5].tolist() == [VOCABULARY] + [0] * 8  # all weights are zero
    assert found.raised.number[5].tolist() == [0, 1, 2, 3]


def test_the_map_is_pca_of_directions():
    rows, shown = decoder(), np.ones(LATENTS, dtype=bool)
    shown[3] = False
    places, how = layout(rows, shown, PageSettings(layout="pca"))
    assert how == "pca"
    assert np.isnan(places[[3, 5]]).all()
    shown[5] = False
    unit = rows.double().numpy()[shown]
    unit = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
    left, sizes, right = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    for axis in range(2):
        sign = np.sign(right[axis][np.abs(right[axis]).argmax()])
        np.testing.assert_allclose(places[shown, axis], sign * left[:, axis] * sizes[axis], rtol=0, atol=1e-5)


@pytest.mark.parametrize("latents", [0, 1])
def test_there_is_no_map_of_one(latents):
    places, how = layout(decoder(), np.arange(LATENTS) < latents, PageSettings())
    assert how is None
    assert np.isnan(places).all()


def test_a_decoder_of_one_dimension_has_a_flat_map():
    places, how = layout(torch.tensor([[1.0], [-2.0], [3.0]]), np.ones(3, dtype=bool), PageSettings())
    assert how == "pca"
    np.testing.assert_allclose(places, [[2 / 3, 0], [-4 / 3, 0], [2 / 3, 0]], atol=1e-6)


def test_umap_is_asked_where_it_is_installed(monkeypatch):
    asked = []

    class FakeUMAP:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, rows):
            np.testing.assert_allclose((rows**2).sum(axis=1), 1, atol=1e-6)
            return rows[:, :2]

    module = SimpleNamespace(UMAP=FakeUMAP, __spec__=object())
    monkeypatch.setitem(sys.modules, "umap", module)
    shown = np.ones(LATENTS, dtype=bool)
    assert layout(decoder(), shown, PageSettings(seed=7))[1] == "umap"
    assert asked == [{"n_components": 2, "metric": "cosine", "n_neighbors": 15, "random_state": 7, "n_jobs": 1}]
    assert layout(decoder(), shown, PageSettings(layout="pca"))[1] == "pca"
    assert layout(decoder(), np.arange(LATENTS) < 4, PageSettings())[1] == "pca"
    assert len(asked) == 1
    assert layout_seconds("umap", 1000) > layout_seconds("auto", 100) > 10
    assert layout_seconds("pca", 1000) == layout_seconds("auto", 4) == 0


def test_umap_is_missed_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert layout(decoder(), np.ones(LATENTS, dtype=bool), PageSettings())[1] == "pca"
    assert layout_seconds("auto", 1000) == 0
    with pytest.raises(UserError, match="layout=umap needs the package umap-learn"):
        layout(decoder(), np.ones(LATENTS, dtype=bool), PageSettings(layout="umap"))
