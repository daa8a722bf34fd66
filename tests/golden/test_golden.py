"""Training gives the numbers that it gave before."""

import io
import json

import numpy as np
import pytest
import torch

from sae.training.kernels import KernelSettings
from tests.golden import losses, regolden


@pytest.mark.parametrize("name", losses.names())
def test_losses_are_golden(name):
    kept = losses.kept()["losses"]
    assert name in kept, f"{name} has no golden losses yet: `python -m tests.golden.regolden` adds them, and asks for a reason"
    np.testing.assert_allclose(losses.compute(name), kept[name], rtol=losses.TOLERANCE)


@pytest.mark.parametrize("name", losses.names())
def test_rounding_alone_stays_far_below_the_tolerance(name):
    np.testing.assert_allclose(losses.compute(name), losses.compute(name, torch.float64), rtol=losses.TOLERANCE / 5)


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


def test_only_what_is_out_of_tolerance_new_or_gone_is_rewritten(tmp_path, monkeypatch, capsys):
    """Rounding on another machine leaves an entry as it is, to the last digit, though another one moves."""
    file, steps = tmp_path / "losses.json", [float(step + 1) for step in range(losses.STEPS)]
    shifted = {name: [loss * (1 + shift) for loss in steps] for name, shift in (("rounded", 1e-7), ("moved", 1e-5), ("new", 0))}
    shifted["late"] = [*steps[:-1], steps[-1] * (1 + 1e-5)]
    file.write_text(json.dumps({"reasons": ["once"], "losses": dict.fromkeys(("rounded", "moved", "gone", "late"), steps)}))
    for module in (losses, regolden):
        monkeypatch.setattr(module, "FILE", file)
    monkeypatch.setattr(regolden, "names", lambda: list(shifted))
    monkeypatch.setattr(regolden, "compute", shifted.__getitem__)
    monkeypatch.setattr("sys.stdin", io.StringIO("another beta\n"))
    assert regolden.main() == 0
    assert json.loads(file.read_text()) == {"reasons": ["once", "another beta"], "losses": shifted | {"rounded": steps}}
    told = capsys.readouterr().out.split()
    assert "rounded" not in told
    assert {"moved", "new", "gone", "late"} <= set(told)
    assert regolden.main() == 0
    assert "nothing moved" in capsys.readouterr().out


def test_a_new_file_is_told_how_its_losses_are_made(monkeypatch):
    monkeypatch.setattr(losses, "names", lambda: [*losses.kept()["losses"], "sae=new"])
    with pytest.raises(AssertionError, match=r"lack \['sae=new'\].*python -m tests\.golden\.regolden"):
        test_every_entry_is_kept_and_none_is_left_over()
    with pytest.raises(AssertionError, match=r"sae=new has no golden losses yet.*python -m tests\.golden\.regolden"):
        test_losses_are_golden("sae=new")
