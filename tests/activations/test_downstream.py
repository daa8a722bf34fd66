"""What a spliced reconstruction costs further down, and its gradient, against plain float64 passes and finite differences."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sae.activations.downstream import DownstreamPass
from sae.architectures.output import SAEOutput
from sae.architectures.relu import ReLUSAE
from sae.losses.end_to_end import KL, DownstreamError
from sae.losses.objective import StepInfo
from sae.models import next_token
from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.models.splice import splice
from sae.tokens.blocks import TokenBlocks
from tests.models.tiny import tiny_model, token_blocks
from tests.reference import saes as twin


def opened(site="resid_post", family="llama", later=(1, 2)):
    model = tiny_model(family)
    model.module.double()
    ids, attention = token_blocks()
    keep = attention.clone()
    keep[:, 0] = False
    keep[1, 6] = False
    document = torch.where(attention, 0, -1)
    blocks = TokenBlocks(ids=ids.int(), attention=attention, keep=keep, document=document)
    point = resolve_hook_point(model, site=site, layer=0)
    points = [resolve_hook_point(model, site="resid_post", layer=layer) for layer in later]
    return model, point, points, blocks, DownstreamPass(model, point, blocks, later=points)


def plain(model, point, points, blocks, recon):
    """The same numbers with the model's own logits and hidden states, nothing shared but the splice."""
    runs = []
    for replace in (lambda rows: rows, lambda rows: recon.to(rows)):
        with splice(model, point, replace, blocks.keep), torch.no_grad():
            mask = blocks.attention
            output = model.module(input_ids=blocks.ids.long(), attention_mask=mask, output_hidden_states=True)
        runs.append((torch.log_softmax(output.logits.float(), -1).double()[blocks.keep], output.hidden_states))
    (clean, hidden), (other, moved) = runs
    kl = (clean.exp() * (clean - other)).sum(dim=1)
    layer = points[0].layer + 1  # hidden_states[0] is the embedding; the last has passed the final norm
    return kl, (moved[layer] - hidden[layer])[blocks.keep].square().sum(dim=1)


@pytest.mark.parametrize("site", ["resid_post", "mlp_out", "resid_mid"])
def test_costs_equal_a_plain_pass(site):
    model, point, points, blocks, costs = opened(site, later=(1,))
    torch.manual_seed(0)
    recon = costs.rows.double() + 0.3 * torch.randn(costs.rows.shape, dtype=torch.float64)
    found = costs(recon)
    kl, squares = plain(model, point, points, blocks, recon)
    assert kl.mean() > 1e-6
    assert_close(found["kl"].double(), kl, rtol=1e-3, atol=1e-6)
    assert_close(found["squared_error"].double(), squares, rtol=1e-5, atol=1e-9)


def test_costs_are_the_twin_s_of_logits_and_later_activations():
    model, point, points, blocks, costs = opened()
    torch.manual_seed(2)
    recon = costs.rows.double() + 0.5 * torch.randn(costs.rows.shape, dtype=torch.float64)
    seen, runs = {}, []
    for one in points:
        block = model.module.get_submodule(one.module)
        block.register_forward_hook(
            lambda _, __, out, name=one.name: seen.update({name: out if torch.is_tensor(out) else out[0]})
        )
    for replace in (lambda rows: rows, lambda rows: recon.to(rows)):
        with splice(model, point, replace, blocks.keep), torch.no_grad():
            output = model.module(input_ids=blocks.ids.long(), attention_mask=blocks.attention)
        later = [seen[one.name][blocks.keep].numpy() for one in points]
        runs.append((output.logits[blocks.keep].numpy(), later))
    (clean_logits, clean), (logits, moved) = runs
    found = costs(recon)
    assert float(found["kl"].mean()) > 1e-5
    np.testing.assert_allclose(found["kl"].detach().numpy(), twin.kl(clean_logits, logits), rtol=1e-3, atol=1e-6)  # of float32
    np.testing.assert_allclose(found["squared_error"].detach().numpy(), twin.downstream(clean, moved), rtol=1e-5)
    info = StepInfo(downstream=costs)
    sae = ReLUSAE(d_in=recon.shape[1], d_sae=3).double()
    output = SAEOutput(recon, torch.zeros(len(recon), 3), torch.zeros(len(recon), 3))
    for term, key in ((KL(), "kl"), (DownstreamError(layers=2), "squared_error")):
        assert torch.equal(term(sae, output, recon, info), found[key])


def test_the_clean_rows_cost_nothing():
    _, _, _, _, costs = opened()
    found = costs(costs.rows.double())
    assert found["kl"].abs().max() < 1e-6
    assert found["squared_error"].max() < 1e-9


def test_gradients_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(next_token, "SLICE_LOGITS", 97 * 4)  # several slices
    _, _, _, _, costs = opened()
    torch.manual_seed(1)
    recon = (costs.rows.double() + 0.5 * torch.randn(costs.rows.shape, dtype=torch.float64)).requires_grad_()
    total = costs(recon)["squared_error"].mean() + 50 * costs(recon)["kl"].double().mean()
    (gradient,) = torch.autograd.grad(total, recon)
    direction = torch.randn(recon.shape, dtype=torch.float64)
    step = 1e-2
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            found = costs(recon + sign * step * direction)
            ends.append(found["squared_error"].double().mean() + 50 * found["kl"].double().mean())
    difference = (ends[0] - ends[1]) / (2 * step)
    assert abs(float(difference)) > 1e-3
    assert_close((gradient * direction).sum(), difference, rtol=2e-3, atol=1e-5)


def test_masked_positions_and_weights_are_left_alone():
    model, _, _, blocks, costs = opened()
    recon = torch.zeros_like(costs.rows).requires_grad_()
    costs(recon)["kl"].sum().backward()
    assert recon.grad is not None
    assert len(recon.grad) == blocks.num_rows
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_what_a_transcoder_reads_is_kept_beside():
    model, _, _, blocks, _ = opened()
    mlp_in, mlp_out = (resolve_hook_point(model, site=site, layer=1) for site in ("mlp_in", "mlp_out"))
    costs = DownstreamPass(model, mlp_out, blocks, reads=[mlp_in])
    expected = capture(model, blocks.ids, blocks.attention, [mlp_in, mlp_out])
    assert list(costs.values) == [mlp_in.name, mlp_out.name]
    for name, rows in costs.values.items():
        assert_close(rows, expected[name][blocks.keep].float())
    assert torch.equal(costs.rows, costs.values[mlp_out.name])
