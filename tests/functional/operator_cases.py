"""The operators with their kernels, and compiled steps through them.

No test file by its name: `test_operators.py` runs it in Triton's interpreter, without the checks of shapes, whose wrappers
around dataclasses cannot be traced. By hand:

    TRITON_INTERPRET=1 python -m pytest -o addopts= tests/functional/operator_cases.py
"""

import pytest
import torch
from torch._dynamo.utils import counters

from sae.functional import devices
from sae.functional.triton_kernels import language
from sae.training import compiled
from sae.training.kernels import KernelSettings
from sae.training.recipe import Budget
from tests.functional.test_operators import test_an_operator_is_its_function, test_operators_are_registered_rightly
from tests.training.nodes import build_optimizer, learner_of, one_step, widths_of

__all__ = ["test_an_operator_is_its_function", "test_operators_are_registered_rightly"]

# Of torch 2.13 itself, while it traces a `torch.autograd.Function`; ends with the torch that does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.mark.parametrize("name", ["topk", "batch_topk", "matryoshka", "cross_layer_transcoder"])
def test_compiled_steps_through_kernels_equal_the_others(name, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: True)
    assert language.runs_on(torch.zeros(1))
    counters.clear()
    losses = []
    for compiles in (True, False):
        kernels = KernelSettings(kernels="sparse", compile=compiles)
        one = learner_of(name, d_in=6, d_sae=24, budget=Budget(train_tokens=10**5, batch_tokens=8), kernels=kernels)
        torch.manual_seed(3)
        values = {point: torch.randn(8, width) for point, width in widths_of(name, 6).items()}
        one.start_from(values)
        optimizer = build_optimizer(one)
        losses.append([one_step(one, optimizer, values, step) for step in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
