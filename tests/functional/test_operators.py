"""The kernels as operators: what is told of their results beforehand is what comes out, and they may stand in any graph.

Here the operators are their plain versions; in the interpreter, in a process of its own, their kernels.
"""

import pytest
import torch
from torch.library import opcheck

import sae.functional.triton_kernels as kernels
from sae.functional.triton_kernels import language
from tests.cases import ramp
from tests.functional.test_triton_kernels import needs_triton, run_cases

DEVICE = "cuda" if torch.cuda.is_available() and not language.interpreted() else "cpu"


def calls(dtype):
    """Each operator with arguments: entries without order, an empty bag at either end, and inputs that are not contiguous."""
    table, rows = ramp(11, 37, dtype=dtype).to(DEVICE), ramp(37, 6, dtype=dtype, phase=1).to(DEVICE).T
    picks, row_of = ((torch.arange(50, device=DEVICE) * step % below).int() for step, below in ((7, 11), (5, 6)))
    offsets, weights = torch.tensor([0, 0, 3, 50, 50]).int().to(DEVICE), ramp(50, dtype=dtype, phase=2).to(DEVICE)
    yield torch.ops.sae.weighted_bags, (table, picks, offsets, weights)
    yield torch.ops.sae.gathered_dots, (rows, row_of, table, picks)
    if dtype != torch.float64:
        yield torch.ops.sae.encode_top_k, (rows, table.T, ramp(11).to(DEVICE), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_operators_are_registered_rightly(dtype):
    """Schema, types and shapes with sizes known and as symbols: PyTorch's own checks."""
    for operator, arguments in calls(dtype):
        assert set(opcheck(operator.default, arguments).values()) == {"SUCCESS"}


def test_an_operator_is_its_function():
    for operator, arguments in calls(torch.float32):
        found, expected = operator(*arguments), getattr(kernels, operator.__name__)(*arguments)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_outside_of_a_trace_no_operator_is_called(monkeypatch):
    """It would cost the host time in every step."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **kwargs or {})

    ((_, arguments), *_) = calls(torch.float32)
    with Watch():
        kernels.weighted_bags(*arguments)
        assert not any(name.startswith("sae.") for name in seen)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        kernels.weighted_bags(*arguments)
    assert seen[-1] == "sae.weighted_bags.default"


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(language.interpreted(), reason="TRITON_INTERPRET is set")
def test_in_the_interpreter():
    run_cases("operator_cases.py", "-o", "addopts=", TRITON_INTERPRET="1")
