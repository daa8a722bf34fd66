"""The tables of steps, made on a CPU at sizes that mean nothing: they have their rows, and the dense step has our loss."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from sae.functional import triton_kernels
from sae.training.kernels import KernelSettings

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = ["--device", "cpu", "--d-in", "16", "--batch", "32", "--steps", "1", "--rounds", "1", "--compile", "0"]


@pytest.fixture
def scripts(monkeypatch):
    """Imports a script by its name, as a script imports its neighbours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in ("benchmark_gpu", "benchmark_steps", "plain_steps", "timed_steps"):
        sys.modules.pop(name, None)


def test_the_table_has_a_row_for_each_size(scripts, monkeypatch, capsys):
    wanted = ["--d-sae", "64", "96", "--sae", "topk", "batch_topk", "--k", "4", "--kernels", "sparse"]
    monkeypatch.setattr(sys, "argv", ["benchmark_gpu.py", *TINY, *wanted])
    kernels = iter([True, False, False, False])
    monkeypatch.setattr(triton_kernels, "available", lambda: next(kernels))
    scripts("benchmark_gpu").main()
    printed = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| 16")]
    assert [row[:4] for row in rows] == [["16", d_sae, "32", name] for d_sae in ("64", "96") for name in ("topk", "batch_topk")]
    assert all(float(row[4]) > 0 and float(row[6]) > 0 and row[-1] == "-" for row in rows)
    assert [row[-2] for row in rows] == ["yes", "no", "no", "no"]  # one was lost within the second


def test_a_size_that_does_not_fit_is_passed_over(scripts, monkeypatch, capsys):
    module = scripts("benchmark_gpu")

    def too_large(name, **sizes):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "measure", too_large)
    monkeypatch.setattr(sys, "argv", ["benchmark_gpu.py", *TINY, "--d-sae", "64"])
    module.main()
    assert "| 16 | 64 | 32 | topk | out of memory | - |" in capsys.readouterr().out


@pytest.mark.parametrize("beside", ["plain", "dense"])
def test_steps_are_held_against_float32_whatever_the_encoder_s_type(beside, scripts, monkeypatch, capsys):
    tiny = ["--d-in", "16", "--d-sae", "96", "--batch", "32", "--k", "4", "--steps", "2", "--sae", "topk"]
    wanted = ["--beside", beside, "--encoder-dtype", "bfloat16"]
    monkeypatch.setattr(sys, "argv", ["benchmark_steps.py", *tiny, *wanted])
    scripts("benchmark_steps").main()
    row, profile = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 96"))
    assert row[:3] == ["96", "topk", "4"]
    assert float(row[5]) > 0  # the ratio: at this size the milliseconds may round to none
    assert profile[:2] == ["96", "topk"]
    assert len(profile) == 2 + len(scripts("timed_steps").STAGES)


def test_without_a_gpu_it_says_how_to_try_it(scripts, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark_gpu.py"])
    with pytest.raises(SystemExit):
        scripts("benchmark_gpu").main()
    assert "--device cpu runs the same at tiny sizes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["topk", "batch_topk", "relu", "jumprelu", "matryoshka", "cross_layer_transcoder"])
def test_the_dense_step_has_the_framework_s_loss(name, scripts):
    framework, dense = scripts("timed_steps").Framework, scripts("plain_steps").Plain
    sizes = {"d_in": 16, "d_sae": 96, "batch": 32, "active": 5}
    ours = framework(name, kernels=KernelSettings(kernels="dense"), **sizes)
    rows = ours.rows(32, torch.Generator().manual_seed(1))
    plain = dense(ours, fused=True)
    x = plain.input_space(rows)
    target = x if plain.target_space is None else plain.target_space(rows)
    expected = ours.learner.loss(rows, ours.learner.budget.steps - 1, measure=False)  # past every ramp
    torch.testing.assert_close(plain.loss(x, target), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("beside", "names", "told"),
    [("nothing", ["topk"], True), ("nothing", ["topk", "batch_topk"], False), ("dense", ["topk"], False)],
)
def test_memory_of_the_process_is_told_only_where_it_is_one_step_s(beside, names, told, scripts, monkeypatch, capsys):
    sizes = ["--d-in", "16", "--batch", "32", "--d-sae", "64", "--k", "4", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_steps.py", *sizes, "--beside", beside, "--sae", *names])
    scripts("benchmark_steps").main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 64 |")]
    assert [row[9].isdigit() for row in rows[: len(names)]] == [told] * len(names)
