"""Attention by our own way back: values and gradients against twins, rounding against PyTorch's kernel."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sae.models import quick_products
from sae.models.quick_attention import QuickAttention
from sae.models.quick_products import QuickProducts
from tests.reference.attention import causal_attention

SCALE = 0.3


def drawn(groups=2, dtype=torch.float64, context=7):
    """Query, key, value: four heads of width 5, values of width 3."""
    generator = torch.Generator().manual_seed(groups)
    shapes = (2, 4, context, 5), (2, groups, context, 5), (2, groups, context, 3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_values_are_the_twin_s(groups):
    query, key, value = drawn(groups)
    found = QuickAttention.apply(query, key, value, SCALE, torch.float64).detach()
    for block in range(2):
        for head in range(4):
            of = head // (4 // groups)
            parts = (query[block, head], key[block, of], value[block, of])
            expected = causal_attention(*(part.detach().numpy() for part in parts), SCALE)
            assert_close(found[block, head], torch.from_numpy(expected))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_equal_finite_differences(groups):
    assert torch.autograd.gradcheck(lambda *parts: QuickAttention.apply(*parts, SCALE, torch.float64), drawn(groups))


def test_products_in_bfloat16_are_near_pytorch_s_kernel():
    parts = drawn(dtype=torch.float32)
    expected = F.scaled_dot_product_attention(*parts, is_causal=True, scale=SCALE, enable_gqa=True)
    with QuickProducts(torch.bfloat16):
        found = F.scaled_dot_product_attention(*parts, is_causal=True, scale=SCALE, enable_gqa=True)
    assert found.dtype == torch.float32
    assert "QuickAttention" in type(found.grad_fn).__name__
    assert_close(found, expected, rtol=0.02, atol=0.02)
    gradient = torch.randn(found.shape)
    pairs = zip(torch.autograd.grad(found, parts, gradient), torch.autograd.grad(expected, parts, gradient), strict=True)
    for ours, theirs in pairs:
        assert_close(ours, theirs, rtol=0.03, atol=0.05)


def test_the_scale_is_pytorch_s_where_none_is_given():
    parts = drawn(groups=4, dtype=torch.float32)
    with QuickProducts(torch.float32):
        found = F.scaled_dot_product_attention(*parts, is_causal=True)
    assert_close(found, F.scaled_dot_product_attention(*parts, is_causal=True))


@pytest.mark.parametrize("kind", ["without_graph", "masked", "not_causal", "long", "other_length"])
def test_other_attention_is_left_alone(kind, monkeypatch):
    query, key, value = drawn(groups=4, dtype=torch.float32)
    settings = {"is_causal": True}
    if kind == "without_graph":
        query, key, value = (part.detach() for part in (query, key, value))
    elif kind == "masked":
        settings = {"attn_mask": torch.ones(7, 7, dtype=torch.bool).tril(2)}
    elif kind == "not_causal":
        settings = {}
    elif kind == "long":
        monkeypatch.setattr(quick_products, "MOST_POSITIONS", 6)
    else:
        query = query[:, :, :4]
    expected = F.scaled_dot_product_attention(query, key, value, **settings)
    with QuickProducts(torch.bfloat16):
        found = F.scaled_dot_product_attention(query, key, value, **settings)
    assert torch.equal(found, expected)
