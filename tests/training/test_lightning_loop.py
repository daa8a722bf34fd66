"""What Lightning's trainer is told."""

import time

import pytest
import torch

from sae.functional.float32_products import products_as_they_are
from sae.training import lightning_loop
from sae.training.learner import Learner
from tests.training.tiny import Run, TableSource, reconstruct


class Told(Exception):
    """Lightning's trainer would be made now."""


def test_auto_never_is_apples_gpu(tmp_path, monkeypatch):
    """Lightning's own "auto" would take it, and the SAE's float64 sums could not go there."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def trainer(*, accelerator, **others):
        raise Told(accelerator)

    monkeypatch.setattr(lightning_loop.L, "Trainer", trainer)
    with pytest.raises(Told, match=r"^cpu$"):
        Run(tmp_path, device="auto").go()


def test_only_steps_are_rounded(tmp_path, monkeypatch):
    """Neither the harvest, which goes on in a thread of its own while steps are made, nor evaluations on held-out text."""
    found = {"harvest": [], "evaluation": [], "step": []}
    loss = Learner.loss

    def note(kind):
        found[kind].append(torch.get_float32_matmul_precision())

    def harvest(call):
        with products_as_they_are():
            time.sleep(0.01)  # steps are on their way meanwhile
            note("harvest")

    def evaluate(sae, hook_point):
        note("evaluation")
        return reconstruct(sae, hook_point)

    def step(self, *args, **kwargs):
        note("step")
        return loss(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "loss", step)
    Run(tmp_path, steps=12, precision="tf32", source=TableSource(on_call=harvest), reconstruct=evaluate).go()
    assert {kind: set(those) for kind, those in found.items()} == {
        "harvest": {"highest"},
        "evaluation": {"highest"},
        "step": {"high"},
    }
