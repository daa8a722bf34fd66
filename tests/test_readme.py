"""Every Python example of the README runs as it is printed, but for numbers that only make it longer; its table is whole."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sae
from sae.architectures.initialise import initialise_
from sae.architectures.relu import ReLUSAE
from sae.formats.registry import ARCHITECTURES, FITTED
from tests.cases import ramp

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHORTER = {"expansion=8, l0_target=32": "expansion=8, l0_target=32, tokens=100_000"}
D_IN = 6


def run(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that an example leaves, run in an empty folder."""
    code = EXAMPLES[number]
    for printed, short in SHORTER.items():
        code = code.replace(printed, short)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, f"README.md, example {number}", "exec"), names)
    return names


def test_there_is_a_test_for_every_example():
    assert len(EXAMPLES) == 2
    assert README.count("```python") == len(EXAMPLES)


def test_every_architecture_that_is_trained_has_a_row_in_the_table():
    listed = re.findall(r"^\| `(\w+)` \|.*\(conf/sae/\1\.yaml\)", README, re.MULTILINE)
    assert sorted(listed) == sorted(set(ARCHITECTURES) - set(FITTED)), "rows of the table under `Architectures` in README.md"


@pytest.mark.parametrize("printed", SHORTER)
def test_what_is_shortened_is_in_the_readme(printed):
    assert README.count(printed) == 1


@pytest.mark.parametrize(("number", "most"), [(0, 10), (1, 7)])
def test_examples_are_as_short_as_promised(number, most):
    assert len([line for line in EXAMPLES[number].splitlines() if line.strip()]) <= most


def test_fit_a_file(tmp_path, monkeypatch, capsys):
    x = ramp(9000, D_IN, dtype=torch.float32).numpy() + 3
    np.save(tmp_path / "activations.npy", x)
    names = run(0, tmp_path, monkeypatch)
    assert 0 < float(capsys.readouterr().out) < 1
    assert names["latent_acts"].shape == (4096, 8 * D_IN)
    assert np.array_equal(names["held_out"], x[-4096:])
    assert torch.equal(sae.load(tmp_path / "dictionaries/mine").W_dec, names["dictionary"].W_dec)


@pytest.mark.slow
def test_capture_and_splice(tmp_path, monkeypatch):
    trained = ReLUSAE(d_in=576, d_sae=8)
    initialise_(trained, decoder_norm=1.0, tied=True, generator=torch.Generator().manual_seed(0))
    sae.save(trained, tmp_path / "runs/NAME/saes/relu")
    names = run(1, tmp_path, monkeypatch)
    model, blocks = names["model"], names["blocks"]
    assert names["activations"].shape == (*blocks.ids.shape, 576)
    assert names["logits"].shape == (*blocks.ids.shape, model.vocabulary_size)
    with torch.no_grad():
        clean = model.module(blocks.ids).logits
    assert not torch.allclose(clean[blocks.keep], names["logits"][blocks.keep], atol=0.1)
    assert torch.equal(clean[:, 0], names["logits"][:, 0])  # the document start keeps its activation
