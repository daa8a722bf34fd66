"""Units of mixed layers against numpy, and the SAE of one layer against the mixed one between its units."""

import numpy as np
import pytest
import torch

from sae.activations.batch import ActivationRows
from sae.activations.layer_units import estimate_layer_units, first_chunk_units
from sae.activations.mixed import MIXED, MixedLayers
from sae.architectures.layer_units import LayerUnits, layer_view
from sae.errors import UserError
from sae.tokens.windows import FiniteWindows
from tests.activations.fakes import make_blocks, rows_equal
from tests.activations.test_mixed import EvenSource
from tests.cases import CASES, build, every_architecture_that, ramp

LAYERS, WIDTH = ("early", "middle", "late"), 5
LAWS = ["none", "scale", "centre", "both"]


def mixed_rows(positions=700, dtype=torch.float64) -> ActivationRows:
    """Layers of very different means and sizes, as in a residual stream."""
    values = torch.stack([ramp(positions, WIDTH, phase=layer) * 10.0**layer + 100.0 * layer for layer in range(3)], dim=1).view(
        -1, WIDTH
    )
    empty = torch.zeros(3 * positions, dtype=torch.int32)
    layer = torch.arange(3, dtype=torch.int32).repeat(positions)
    return ActivationRows(
        values={MIXED: values.to(dtype)}, token=empty, position=empty, document=empty, layer=layer, layers=LAYERS
    )


def some_units() -> LayerUnits:
    return LayerUnits(
        layers=LAYERS, means=3 * ramp(3, WIDTH, phase=2.0), scales=torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)
    )


@pytest.mark.parametrize("law", LAWS)
def test_units_obey_their_law(law):
    rows = mixed_rows()
    units = estimate_layer_units(rows, law)
    for number in range(3):
        raw = rows.values[MIXED].numpy()[number::3]
        found = units.put(torch.from_numpy(raw), number).numpy()
        spread = np.square(raw - raw.mean(axis=0)).sum(axis=1).mean()
        wanted_scale = (WIDTH / spread) ** 0.5 if law in ("scale", "both") else 1.0
        wanted_mean = raw.mean(axis=0) if law in ("centre", "both") else 0.0
        np.testing.assert_allclose(found, wanted_scale * (raw - wanted_mean), rtol=1e-11, atol=1e-11)
    assert units.are_raw == (law == "none")


def test_rows_come_back_from_their_units():
    units, x = some_units(), ramp(20, WIDTH)
    assert not torch.allclose(units.put(x, 2), x)
    torch.testing.assert_close(units.take_back(units.put(x, 2), 2), x, rtol=1e-12, atol=1e-12)


def test_half_precision_is_centred_in_full():
    """A mean of 1000 taken off in bfloat16 would leave steps of 4; in float32 it leaves what was there."""
    units = LayerUnits(
        layers=("a",), means=torch.full((1, 2), 1001.0, dtype=torch.float64), scales=torch.ones(1, dtype=torch.float64)
    )
    found = units.put(torch.tensor([[1000.0, 1008.0]], dtype=torch.bfloat16), 0)
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [[-1.0, 7.0]]


def test_mixed_rows_are_given_in_their_units():
    source, blocks, index = EvenSource(), make_blocks(), torch.arange(6)
    units = LayerUnits(layers=("a", "b", "c"), means=3 * ramp(3, 3), scales=torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64))
    raw, found = MixedLayers(source).rows(blocks, index), MixedLayers(source, units).rows(blocks, index)
    for row in range(len(raw)):
        layer = int(raw.layer[row])
        wanted = units.scales[layer] * (raw.values[MIXED][row].double() - units.means[layer])
        torch.testing.assert_close(found.values[MIXED][row].double(), wanted, rtol=1e-6, atol=1e-5)
    with pytest.raises(ValueError, match="the units are of"):
        MixedLayers(source, some_units())


def test_the_first_chunk_is_what_the_stream_reads_first_and_windows_stay_where_they_were():
    windows, source = FiniteWindows(make_blocks()), EvenSource()
    units = first_chunk_units(windows, source, "both", chunk_rows=10**6, seed=4)
    everything = MixedLayers(source).rows(make_blocks(), torch.arange(len(make_blocks())))
    expected = estimate_layer_units(everything, "both")
    torch.testing.assert_close(units.means, expected.means, rtol=1e-12, atol=0)
    torch.testing.assert_close(units.scales, expected.scales, rtol=1e-12, atol=0)
    assert windows.state_dict() == {"index": 0}
    small = first_chunk_units(windows, source, "both", chunk_rows=40, seed=4)
    assert torch.equal(small.means, first_chunk_units(windows, source, "both", chunk_rows=40, seed=4).means)
    assert not torch.equal(small.means, units.means)


def test_raw_units_read_nothing():
    source = EvenSource()
    assert first_chunk_units(FiniteWindows(make_blocks()), source, "none", chunk_rows=40, seed=0).are_raw
    assert source.calls == 0
    raw = LayerUnits.raw(("a", "b", "c"), 3)
    blocks, index = make_blocks(), torch.arange(4)
    assert rows_equal(MixedLayers(source, raw).rows(blocks, index), MixedLayers(source).rows(blocks, index))


@pytest.mark.parametrize("law", ["scale", "both"])
def test_a_layer_that_does_not_vary_has_no_scale(law):
    rows = mixed_rows()
    rows.values[MIXED][1::3] = 4.0
    with pytest.raises(UserError, match=f"hook.layer_units={law} found no scale for middle"):
        estimate_layer_units(rows, law)


def test_layers_are_chosen_by_name():
    units = some_units()
    chosen = units.select(("late", "early"))
    assert torch.equal(chosen.means, units.means[[2, 0]])
    assert chosen.scales.tolist() == [7.0, 0.5]
    with pytest.raises(UserError, match="no layer 'last': the dictionary was trained on early, middle, late"):
        units.select(("late", "last"))
    assert LayerUnits.raw(LAYERS, WIDTH).select(("elsewhere",)).are_raw


one_place = every_architecture_that(lambda sae: sae.d_in == sae.d_out and not hasattr(sae, "widths") and not sae.layer_norm)


@one_place
@pytest.mark.parametrize("layer", [0, 2])
def test_a_layers_own_sae_reconstructs_as_the_mixed_one_between_its_units(case, layer):
    sae, units = build(case), some_units()
    x = 4 * ramp(17, WIDTH, phase=1.0) + units.means[layer]
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    view = layer_view(sae, units, layer)
    mixed = sae(units.put(x, layer))
    found = view(x)
    assert int((mixed.latent_acts > 0).sum()) > 0
    torch.testing.assert_close(found.recon, units.take_back(mixed.recon, layer), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.latent_acts, mixed.latent_acts / units.scales[layer], rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())


def test_layer_norm_goes_with_raw_units_alone():
    sae = build(next(case for case in CASES if case.name == "topk_layer_norm"))
    x = ramp(4, WIDTH)
    assert torch.equal(layer_view(sae, LayerUnits.raw(LAYERS, WIDTH), 1)(x).recon, sae(x).recon)
    with pytest.raises(UserError, match=r"hook\.layer_units=none"):
        layer_view(sae, some_units(), 1)
