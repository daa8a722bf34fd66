"""The scripts of `scripts/reproduce`: planted dictionaries are recovered, and the plain loop is what it says."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from sae.commands.reading import TRAINED

FOLDER = Path(__file__).parents[2] / "scripts" / "reproduce"


def script(name):
    spec = importlib.util.spec_from_file_location(f"reproduce_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_planted_dictionaries_are_recovered(name):
    """Every direction that was learnt is a true one and every true one was learnt: mean best cosines above 0.9 both ways.

    Above 0.8 for Matryoshka, whose first half must reconstruct by itself: atoms without a hierarchy do not reward that.
    """
    found = script("planted").recovered(name, tokens=300_000, magnitudes=False)
    least = 0.8 if name == "matryoshka" else 0.9
    assert found["MMCS"] > least
    assert found["of truth"] > least
    assert found["F1"] > 0.5
    assert 1.5 < found["L0"] < 8


@pytest.mark.parametrize("name", TRAINED)
def test_every_architecture_is_told_how_sparse_to_be(name):
    by = {"relu": "l1_coefficient", "gated": "l1_coefficient", "crosscoder": "l1_coefficient", "jumprelu": "l0_target"}
    assert script("planted").settings_of(name).keys() >= {by.get(name, "k")}
    assert script("frontier").sparsity_key(name) == by.get(name, "k")


def test_numbers_of_one_command_are_not_taken_for_another_s(tmp_path, monkeypatch):
    frontier, runs = script("frontier"), []

    def train(command, *, check):
        runs.append(command)
        folder = tmp_path / next(part for part in command if part.startswith("run.name=")).removeprefix("run.name=")
        folder.mkdir()
        report = {"l0": 32, "fvu": len(runs), "ce_increase": 0, "kl": 0, "dead_fraction": 0, "tokens_per_second": 1}
        (folder / "report.json").write_text(json.dumps({"saes": {"x": report}}))

    monkeypatch.setattr(frontier.subprocess, "run", train)
    options = {"out": tmp_path, "tokens": 100, "expansion": 4}
    one, other = (argparse.Namespace(**options, override=override) for override in ([], ["hook.layer=12"]))
    found = [frontier.one_run("topk", "sae.k=32", asked)["fvu"] for asked in (one, other, one, other)]
    assert found == [1, 2, 1, 2]
    assert ["hook.layer=12" in command for command in runs] == [False, True]


def test_f1_of_a_detector():
    """Latent 0 fires on rows 0, 1, 2; its atom is in rows 0 and 3: one hit, F1 = 2 / 5. Latent 1 never fires: 0."""
    fired = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0]], dtype=torch.bool)
    present = torch.tensor([[0, 1], [0, 0], [0, 0], [1, 1]], dtype=torch.bool)
    # atoms 0 and 1 are matched with latents 1 and 0
    value = script("planted").detector_f1(fired, present, torch.tensor([1, 0]))
    assert value == pytest.approx((0 + 2 / 5) / 2)


def test_the_plain_loop_learns_and_gives_an_sae_of_raw_rows():
    rows, _, _ = script("planted").planted(4000, magnitudes=True, seed=3)
    rows = 50 * rows

    def batches():
        while True:
            yield from rows.split(200)

    sae, dead = script("topk_loop").train_topk(batches(), rows, d_sae=96, k=4, lr=0.01, steps=150)
    with torch.no_grad():
        output = sae(rows)
    fvu = float((output.recon - rows).square().sum() / (rows - rows.mean(dim=0)).square().sum())
    assert fvu < 0.6
    assert int((output.latent_acts > 0).sum(dim=1).max()) <= 4
    assert 0 <= dead < 1
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(96), atol=1e-5)
