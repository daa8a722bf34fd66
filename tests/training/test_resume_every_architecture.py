"""A run that was stopped goes on bit for bit, whatever it trains: through Lightning's loop and checkpoints on disk.

`test_resume.py` stops the ReLU SAE's run everywhere and in every way; here each file of `conf/sae` is stopped twice.
"""

import os
import signal

import pytest
import torch

from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from tests.training.nodes import NAMES, keys_of, names_of_those_that
from tests.training.tiny import STEPS, Run, same

# What an architecture has to remember beside weights and moments is made to matter: k is annealed, weights are averaged, and
# latents are resampled before the first stop and between the two.
RECIPES = {name: {"average_half_life": 0.2, "resample_at": (0.2, 0.6), "resample_window": 0.05} for name in NAMES}
for name in names_of_those_that(lambda sae: sae.num_active is not None):
    RECIPES[name] |= {"k_anneal": 0.6, "k_anneal_from": 9}
for name in names_of_those_that(lambda sae: sae.batch_threshold is not None):  # a memory of more than one step
    RECIPES[name] |= {"threshold_memory": 0.3}
# p-annealing remembers sums of the last batches in the objective itself.
RECIPES["relu"] |= {"l1_coefficient": None, "lp_coefficient": 2.0, "lp_p_end": 0.3, "lp_start": 0.2, "lp_updates": 4}


def count_resamplings(monkeypatch):
    """A list that gets an entry for each."""
    resample, calls = Learner.resample, []

    def counted(self, *args, **kwargs):
        calls.append(1)
        return resample(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "resample", counted)
    return calls


def stop_in_step(monkeypatch, number):
    """A signal while the loss of step number `number` (from 1) is computed."""
    loss, calls = Learner.loss, []

    def counted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "loss", counted)


PLAIN = {name: {} for name in NAMES}
STEERED = {
    name: {"l0_target": 3} for name in NAMES if keys_of(name).get("l0_target", 0) is None
}  # a key that is there, and null


@pytest.mark.parametrize(
    ("name", "recipes", "optimizer"),
    [
        *((name, RECIPES, "adam") for name in NAMES),
        *((name, PLAIN, "adam") for name in NAMES),
        ("batch_topk", RECIPES, "signum"),
        *((name, STEERED, "adam") for name in STEERED),
    ],
    ids=[*NAMES, *(f"{name}-plain" for name in NAMES), "batch_topk-signum", *(f"{name}-steered" for name in STEERED)],
)
def test_a_run_stopped_twice_is_the_run_that_was_not(name, recipes, optimizer, tmp_path, monkeypatch):
    settings = {"node": name, "recipe": recipes[name], "optimizer": OptimizerSettings(name=optimizer)}
    whole, stopped = Run(tmp_path / "whole", **settings), Run(tmp_path / "stopped", **settings)
    with monkeypatch.context() as patch:
        resampled = count_resamplings(patch)
        exported = whole.go()
    assert exported.finished
    assert len(resampled) >= len(recipes[name].get("resample_at", ()))
    for step, resume in ((11, False), (18, True)):
        with monkeypatch.context() as patch:
            stop_in_step(patch, step)
            assert not stopped.go(resume=resume).finished
    assert stopped.last()["steps"] == 29
    again = stopped.go(resume=True)
    assert again.finished
    assert again.completed_steps == STEPS
    assert same(stopped.last(), whole.last())
    assert stopped.metrics == whole.metrics
    for key, value in exported.exported["relu"].state_dict().items():
        assert torch.equal(again.exported["relu"].state_dict()[key], value), key
