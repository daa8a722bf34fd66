"""Products in a lower number format: rounded as said, values and gradients, and nothing else touched."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from sae.models.quick_products import QuickProducts, quick_format


def frozen(module):
    return module.requires_grad_(False)


def rounded(tensor):
    return tensor.bfloat16().float()


@pytest.mark.parametrize("kind", ["linear", "linear_without_bias", "conv1d"])
def test_values_and_gradients_are_those_of_rounded_numbers(kind):
    layer = frozen(Conv1D(7, 5) if kind == "conv1d" else nn.Linear(5, 7, bias=kind == "linear"))
    weight = layer.weight if kind == "conv1d" else layer.weight.T
    bias = 0 if layer.bias is None else layer.bias.normal_()
    x = torch.randn(2, 3, 5, requires_grad=True)
    with QuickProducts(torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    assert_close(y, rounded(rounded(x) @ rounded(weight)) + bias, rtol=0, atol=0.02)
    assert not torch.equal(y, layer(x))
    gradient = torch.randn(2, 3, 7)
    (found,) = torch.autograd.grad(y, x, gradient)
    assert_close(found, rounded(rounded(gradient) @ rounded(weight).T), rtol=0, atol=0.02)


def test_in_the_format_that_it_is_in_anyway_nothing_changes():
    layer = frozen(nn.Linear(5, 7))
    x = torch.randn(4, 5, requires_grad=True)
    with QuickProducts(torch.float32):
        y = layer(x)
    assert_close(y, layer(x))
    assert_close(torch.autograd.grad(y.sum(), x), torch.autograd.grad(layer(x).sum(), x))


def test_weights_with_a_gradient_keep_it():
    layer = nn.Linear(5, 7)
    x = torch.randn(4, 5)
    with QuickProducts(torch.bfloat16):
        y = layer(x)
    assert torch.equal(y, layer(x))
    y.sum().backward()
    assert layer.weight.grad is not None


def test_weights_are_rounded_once():
    layer = frozen(nn.Linear(5, 7))
    context = QuickProducts(torch.bfloat16)
    x = torch.randn(4, 5)
    with context:
        before = layer(x)
    layer.weight.zero_()
    with context:
        assert torch.equal(layer(x), before)


def test_the_quick_format_is_what_the_processor_has_instructions_for(monkeypatch):
    for capabilities, expected in (
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, None),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities, raising=False)
        assert quick_format(torch.device("cpu")) == expected
    assert quick_format(torch.device("meta")) is None
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert quick_format(torch.device("cpu")) is None
