"""What a spliced reconstruction costs further down, and its gradient, against plain float64 passes."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sae.activations.downstream import DownstreamPass
from sae.architectures.output import SAEOutput
from sae.architectures.relu import ReLUSAE
from sae.losses.end_to_end import KL, DownstreamError
from sae.losses.term import StepInfo
from sae.models import next_token
from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.tokens.blocks import TokenBlocks
from tests.cases import ramp
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


def plain(model, place, later, blocks, recon):
    """KL and squared error of each row, with their graph, and what both are of: whole passes, and hooks of torch's own."""

    def run(*put):
        seen = {}
        handles = [hooked(model.module.get_submodule(place[0]), place[1], change) for change in put]
        for name in later:
            block = model.module.get_submodule(name)
            handles.append(block.register_forward_hook(lambda _, __, out, name=name: seen.update({name: first(out)})))
        logits = model.module(input_ids=blocks.ids.long(), attention_mask=blocks.attention).logits
        for handle in handles:
            handle.remove()
        return logits[blocks.keep], [seen[name][blocks.keep] for name in later]

    clean_logits, clean = run()
    logits, moved = run(lambda x: x.masked_scatter(blocks.keep[..., None], recon))
    log_p, log_q = clean_logits.log_softmax(-1), logits.log_softmax(-1)
    squares = sum((one - other).square().sum(dim=1) for one, other in zip(moved, clean, strict=True)) / len(later)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1), squares, ((clean_logits, clean), (logits, moved))


def hooked(module, side, change):
    """A hook that changes what a module receives, or what it gives."""
    if side == "input":
        return module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    return module.register_forward_hook(lambda _, __, out: change(out) if torch.is_tensor(out) else (change(out[0]), *out[1:]))


def first(out):
    return out if torch.is_tensor(out) else out[0]


@pytest.mark.parametrize(
    ("site", "place"),
    [
        ("resid_post", ("transformer.h.0", "output")),
        ("mlp_out", ("transformer.h.0.mlp", "output")),
        ("attn_z", ("transformer.h.0.attn.c_proj", "input")),
    ],
)
def test_values_and_gradients_are_those_of_plain_passes(site, place, monkeypatch):
    """In float64 to 1e-10, over several slices of logits. GPT-2: Llama's norms are made in float32 whatever the model is in."""
    monkeypatch.setattr(next_token, "SLICE_LOGITS", 97 * 4)
    model, _, _, blocks, costs = opened(site, "gpt2")
    torch.manual_seed(2)
    recon = (costs.rows + 0.5 * torch.randn(costs.rows.shape, dtype=torch.float64)).requires_grad_()
    kl, squares, runs = plain(model, place, ["transformer.h.1", "transformer.h.2"], blocks, recon)
    found = costs(recon)
    assert kl.mean() > 1e-5
    for key, expected in (("kl", kl), ("squared_error", squares)):
        assert_close(found[key], expected, rtol=1e-10, atol=1e-12)
        weights = ramp(len(expected), phase=3)
        pair = [torch.autograd.grad((weights * one).sum(), recon, retain_graph=True)[0] for one in (found[key], expected)]
        assert pair[1].abs().max() > 1e-6
        assert_close(*pair, rtol=1e-10, atol=1e-12)
    (clean_logits, clean), (logits, moved) = (
        (one.detach().numpy(), [row.detach().numpy() for row in two]) for one, two in runs
    )
    np.testing.assert_allclose(found["kl"].detach().numpy(), twin.kl(clean_logits, logits), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["squared_error"].detach().numpy(), twin.downstream(clean, moved), rtol=1e-10)
    info = StepInfo(downstream=costs)
    sae = ReLUSAE(d_in=recon.shape[1], d_sae=3).double()
    output = SAEOutput(recon, torch.zeros(len(recon), 3), torch.zeros(len(recon), 3))
    for term, key in ((KL(), "kl"), (DownstreamError(layers=2), "squared_error")):
        assert torch.equal(term(sae, output, recon, info), found[key])


@pytest.mark.parametrize(("site", "place"), [("resid_post", "model.layers.0"), ("mlp_out", "model.layers.0.mlp")])
def test_float32_is_near_it(site, place):
    """Of a model whose norms are in float32."""
    model, _, _, blocks, costs = opened(site)
    torch.manual_seed(0)
    recon = costs.rows + 0.3 * torch.randn(costs.rows.shape, dtype=torch.float64)
    with torch.no_grad():
        kl, squares, _ = plain(model, (place, "output"), ["model.layers.1", "model.layers.2"], blocks, recon)
    found = costs(recon)
    assert_close(found["kl"], kl, rtol=1e-5, atol=1e-8)
    assert_close(found["squared_error"], squares, rtol=1e-5, atol=1e-9)


def test_the_clean_rows_cost_nothing():
    _, _, _, _, costs = opened()
    found = costs(costs.rows.double())
    assert found["kl"].abs().max() < 1e-6
    assert found["squared_error"].max() < 1e-9


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
        assert_close(rows, expected[name][blocks.keep])
    assert torch.equal(costs.rows, costs.values[mlp_out.name])
