"""The loss with its gradient: a matrix at the end or any other head, in slices, against autograd of the model's logits."""

import pytest
import torch
from torch.testing import assert_close

from sae.models import loss_gradients as module
from sae.models.loss_gradients import loss_gradients
from sae.models.next_token import final_states, scored_positions
from sae.models.quick_products import QuickProducts
from tests.models.tiny import DECODERS, tiny_model, token_blocks


def opened(family, *, bias=False):
    model = tiny_model(family)
    if bias:  # of the head
        model.module.get_output_embeddings().bias = torch.nn.Parameter(
            torch.linspace(-2, 2, model.vocabulary_size), requires_grad=False
        )
    ids, attention = token_blocks()
    keep = attention.clone()
    keep[:, 0] = False
    keep[1, 6] = False
    return model, final_states(model, ids, attention), ids, keep


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("rows", [4, 10**6])
def test_they_are_those_of_the_model_s_own_logits(family, rows, bias, monkeypatch):
    model, states, ids, keep = opened(family, bias=bias)
    monkeypatch.setattr(module, "SLICE_BYTES", rows * 4 * model.vocabulary_size)
    losses, gradient = loss_gradients(model, states, ids, keep)
    scored = scored_positions(keep)
    leaf = states.detach().clone().requires_grad_()
    logits = module.logits_of(model, leaf.flatten(0, 1)).unflatten(0, ids.shape)[:, :-1][scored]
    expected = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][scored], reduction="none")
    assert_close(losses, expected.detach())
    assert_close(gradient, torch.autograd.grad(expected.sum(), leaf)[0])
    assert float(gradient.abs().max()) > 1e-3


@pytest.mark.parametrize(("family", "alone"), [("llama", True), ("gpt2", True), ("gemma2", False)])
def test_only_a_head_that_is_a_matrix_is_run_as_one(family, alone, monkeypatch):
    model, states, ids, keep = opened(family)
    by_graph = []
    monkeypatch.setattr(module, "_by_graph", lambda *given, run=module._by_graph: by_graph.append(1) or run(*given))
    loss_gradients(model, states, ids, keep)
    assert bool(by_graph) is not alone


def test_scaled_logits_are_no_matrix_alone():
    model, states, ids, keep = opened("llama")
    losses, gradient = loss_gradients(model, states, ids, keep)
    model.module.lm_head.register_forward_hook(lambda _, __, logits: logits * 0.5)
    halved, of_halved = loss_gradients(model, states, ids, keep)
    model.module.lm_head._forward_hooks.clear()
    with torch.no_grad():
        model.module.lm_head.weight.mul_(0.5)
    expected = loss_gradients(model, states, ids, keep)
    assert_close((halved, of_halved), expected)
    assert not torch.allclose(halved, losses)
    assert not torch.allclose(of_halved, gradient)


def test_in_bfloat16_they_are_near():
    model, states, ids, keep = opened("llama", bias=True)
    plain = loss_gradients(model, states, ids, keep)
    with QuickProducts(torch.bfloat16) as products:
        losses, gradient = loss_gradients(model, states, ids, keep, products)
    assert losses.dtype == gradient.dtype == torch.float32
    assert_close((losses, gradient), plain, rtol=0.02, atol=0.02)
    assert not torch.equal(gradient, plain[1])


def test_what_is_all_but_impossible_costs_a_finite_loss():
    model, states, ids, keep = opened("gpt2")
    losses, gradient = loss_gradients(model, states * 1e4, ids, keep)
    assert float(losses.max()) == pytest.approx(87.3, abs=0.1)
    assert bool(gradient.isfinite().all())


def test_nothing_scored_has_no_gradient():
    model, states, ids, keep = opened("llama")
    losses, gradient = loss_gradients(model, states, ids, torch.zeros_like(keep))
    assert losses.shape == (0,)
    assert not bool(gradient.any())
