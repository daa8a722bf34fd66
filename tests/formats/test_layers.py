"""The file of layers beside an SAE: equal to the bit, and clear about what is wrong."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import sae
from sae.architectures.layer_units import LayerUnits
from sae.errors import UserError
from sae.formats.layers import LAYERS, layer_units_bytes, read_layer_units
from sae.formats.native import load, load_layer_units, read_cfg, save
from tests.cases import CASES, D_IN, build, ramp, rows_for

UNITS = LayerUnits(
    layers=("layers.0.resid_post", 'a <b> "layer" \u2028', "layers.4.resid_post"),
    means=2 * ramp(3, D_IN),
    scales=torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64),
)


@pytest.fixture
def folder(tmp_path):
    return save(build(CASES[0]), tmp_path / "mixed", layers=UNITS, cfg={"metrics": {"fvu": 0.5}})


def test_units_come_back_equal_to_the_bit(folder):
    found = load_layer_units(folder)
    assert found.layers == UNITS.layers
    assert found.means.equal(UNITS.means)
    assert found.scales.equal(UNITS.scales)
    assert read_cfg(folder)["layers"] == list(UNITS.layers)
    assert set(load_file(folder / LAYERS)) == {"means", "scales"}


def test_a_layer_is_loaded_by_its_name(folder):
    mixed = load(folder)
    x = rows_for(mixed)
    for number, name in enumerate(UNITS.layers):
        recon = UNITS.take_back(mixed(UNITS.put(x, number)).recon, number)
        torch.testing.assert_close(sae.load(folder, layer=name)(x).recon, recon, rtol=1e-10, atol=1e-10)
    with pytest.raises(UserError, match=r"there is no layer 'layers\.1\.resid_post': the dictionary was trained on layers\.0"):
        load(folder, layer="layers.1.resid_post")


def test_an_sae_of_one_place_has_none(tmp_path):
    folder = save(build(CASES[0]), tmp_path / "one")
    assert load_layer_units(folder) is None
    assert not (folder / LAYERS).exists()
    with pytest.raises(UserError, match="reads one place, not mixed layers"):
        load(folder, layer="layers.0.resid_post")
    with pytest.raises(ValueError, match="cfg may not hold"):
        save(build(CASES[0]), folder, cfg={"layers": []})


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path):
    (folder / LAYERS).write_bytes(layer_units_bytes(replace(UNITS, means=UNITS.means + 1)))
    with pytest.raises(UserError, match=r"its checksum is not that of cfg\.json"):
        load(folder, layer=UNITS.layers[0])
    save(build(CASES[0]), folder, layers=UNITS)
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | {"layers": cfg["layers"][:2]}))
    with pytest.raises(UserError, match=r"contradicts layers\.safetensors"):
        load_layer_units(folder)
    (folder / LAYERS).unlink()
    with pytest.raises(UserError, match=r"layers\.safetensors is missing"):
        load_layer_units(folder)
    assert load(folder).d_in == D_IN


def write(file, **changes):
    """The file with other tensors than units have."""
    tensors = {"means": UNITS.means, "scales": UNITS.scales, **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, file, {"layers": json.dumps(UNITS.layers)})


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.write_bytes(b"nothing"),
        lambda file: save_file(load_file(file), file),
        lambda file: write(file, scales=None),
        lambda file: write(file, means=UNITS.means[:2]),
        lambda file: write(file, scales=-UNITS.scales),
        lambda file: write(file, means=UNITS.means * float("nan")),
        lambda file: write(file, means=UNITS.means.float()),
    ],
    ids=["truncated", "no file of tensors", "no names", "no scales", "a mean missing", "negative", "nan", "single precision"],
)
def test_a_damaged_file_is_told(folder, change):
    change(folder / LAYERS)
    with pytest.raises(UserError, match=r"layers\.safetensors is damaged"):
        read_layer_units(folder)
