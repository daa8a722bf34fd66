"""Training gives the numbers that it gave before."""

import io
import json

import numpy as np
import pytest
import torch

from sae.training.kernels import KernelSettings
from tests.golden import losses, regolden

# Losses of float32 and float64 runs differ by at most 2.0e-7 of their size (measured; a test below holds it to twice that):
# another processor or order of summation moves them by about as much, and ten times that is allowed. What is meant to be seen
# moves some entry by more: Adam's eps 1e-8 -> 1e-6 by 3e-3, its second beta 0.99 -> 0.9901 by 6e-5.
TOLERANCE = 2e-6


@pytest.mark.parametrize("name", losses.names())
def test_losses_are_golden(name):
    kept = losses.kept()["losses"]
    assert name in kept, f"{name} has no golden losses yet: `python -m tests.golden.regolden` adds them, and asks for a reason"
    np.testing.assert_allclose(losses.compute(name), kept[name], rtol=TOLERANCE)


@pytest.mark.parametrize("name", losses.names())
def test_rounding_alone_stays_far_below_the_tolerance(name):
    np.testing.assert_allclose(losses.compute(name), losses.compute(name, torch.float64), rtol=TOLERANCE / 5)


@pytest.mark.parametrize("name", losses.names())
def test_sparse_products_train_as_dense_ones_do(name):
    dense, sparse = (losses.compute(name, torch.float64, KernelSettings(kernels=one)) for one in ("dense", "sparse"))
    np.testing.assert_allclose(sparse, dense, rtol=1e-9)


def test_every_entry_is_kept_and_none_is_left_over():
    kept, wanted = set(losses.kept()["losses"]), set(losses.names())
    assert kept == wanted, (
        f"golden losses lack {sorted(wanted - kept)} and have {sorted(kept - wanted)} left over: "
        "`python -m tests.golden.regolden` adds and drops them, and asks for a reason"
    )
    assert all(len(values) == losses.STEPS for values in losses.kept()["losses"].values())


def test_moving_them_needs_a_reason(tmp_path, monkeypatch, capsys):
    file = tmp_path / "losses.json"
    monkeypatch.setattr(losses, "FILE", file)
    monkeypatch.setattr(regolden, "FILE", file)
    for typed, status, written in (("\n", 1, False), ("a new optimizer\n", 0, True), ("never asked\n", 0, True)):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert regolden.main() == status
        assert file.exists() == written
    assert json.loads(file.read_text())["reasons"] == ["a new optimizer"]
    assert "nothing moved" in capsys.readouterr().out


def test_a_new_file_is_told_how_its_losses_are_made(monkeypatch):
    monkeypatch.setattr(losses, "names", lambda: [*losses.kept()["losses"], "sae=new"])
    with pytest.raises(AssertionError, match=r"lack \['sae=new'\].*python -m tests\.golden\.regolden"):
        test_every_entry_is_kept_and_none_is_left_over()
    with pytest.raises(AssertionError, match=r"sae=new has no golden losses yet.*python -m tests\.golden\.regolden"):
        test_losses_are_golden("sae=new")
