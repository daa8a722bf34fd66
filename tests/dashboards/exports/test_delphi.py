"""delphi's cache, read the way its loader does, holds the codes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sae.dashboards.exports import delphi
from sae.dashboards.exports.delphi import write_delphi_cache
from tests.dashboards.exports.collected import collected


def write(folder, made, **changes):
    settings = {"hook_point": "layers.1", "model_name": "org/model", "dataset": "words", "num_files": 4, **changes}
    write_delphi_cache(folder, made.codes, **settings)
    return folder / settings["hook_point"]


def read(inside):
    """As `TensorBuffer.load` of delphi reads: latents are counted from the number in the file's name."""
    found, tokens = {}, []
    for path in inside.glob("*.safetensors"):
        first, last = map(int, path.stem.split("_"))
        data = load_file(path)
        locations = data["locations"].astype(np.int64)
        locations[:, 2] += first
        assert ((locations[:, 2] >= first) & (locations[:, 2] <= last)).all()
        assert data["activations"].dtype == np.float16
        found |= {tuple(place): float(value) for place, value in zip(locations.tolist(), data["activations"], strict=True)}
        tokens.append(data["tokens"])
    return found, tokens


@pytest.mark.parametrize("num_files", [1, 4, 50])
def test_every_entry_comes_back(tmp_path, num_files):
    made = collected(tmp_path / "codes")
    inside = write(tmp_path / "out", made, num_files=num_files)
    found, tokens = read(inside)
    assert found == pytest.approx(made.entries(), rel=1e-3)
    for one in tokens:
        np.testing.assert_array_equal(one, made.blocks.ids.numpy())
        assert one.dtype == np.int64
    ranges = sorted(tuple(map(int, path.stem.split("_"))) for path in inside.glob("*.safetensors"))
    assert [latent for first, last in ranges for latent in range(first, last + 1)] == list(range(made.codes.num_latents))


def test_the_order_is_that_of_the_rows(tmp_path):
    inside = write(tmp_path / "out", collected(tmp_path / "codes"))
    for path in inside.glob("*.safetensors"):
        places = load_file(path)["locations"][:, :2].tolist()
        assert places == sorted(places)


def test_the_settings_are_those_that_the_loader_asks_for(tmp_path):
    made = collected(tmp_path / "codes")
    config = json.loads((write(tmp_path / "out", made) / "config.json").read_text())
    assert config == {
        "dataset_repo": "words",
        "dataset_split": "train",
        "dataset_name": "",
        "dataset_column": "text",
        "batch_size": 1,
        "cache_ctx_len": 16,
        "n_tokens": 7 * 16,
        "n_splits": 4,
        "model_name": "org/model",
    }


def test_small_numbers_take_two_bytes_and_large_ones_four(tmp_path, monkeypatch):
    made = collected(tmp_path / "codes")
    inside = write(tmp_path / "out", made)
    assert {load_file(path)["locations"].dtype for path in inside.glob("*.safetensors")} == {np.dtype(np.uint16)}
    monkeypatch.setattr(delphi, "SMALL", 6)  # of seven blocks
    again = write(tmp_path / "again", made)
    assert {load_file(path)["locations"].dtype for path in again.glob("*.safetensors")} == {np.dtype(np.uint32)}
    assert read(again)[0] == read(inside)[0]


def test_what_float16_cannot_hold_is_its_least_or_its_largest_number(tmp_path, monkeypatch):
    made, entries = collected(tmp_path / "codes"), delphi.chunk_entries
    extremes = torch.tensor([1e-12, 1e9])

    def extreme(codes, number):
        found = entries(codes, number)
        return replace(found, activation=extremes[torch.arange(len(found.latent)) % 2])

    monkeypatch.setattr(delphi, "chunk_entries", extreme)
    found, _ = read(write(tmp_path / "out", made))
    assert set(found.values()) == {2.0**-24, 65504.0}
    assert found.keys() == made.entries().keys()
