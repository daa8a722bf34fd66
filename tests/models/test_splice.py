"""Splice: what is replaced reaches all that reads it, and nothing else changes."""

import pytest
import torch
from torch.testing import assert_close

from sae.models.capture import capture
from sae.models.hook_points import BLOCK_SITES, resolve_hook_point
from sae.models.splice import splice
from tests.models.tiny import D_MODEL, FAMILIES, tiny_model, token_blocks


def sites_of(family):
    return [site for site in BLOCK_SITES if site != "resid_mid" or FAMILIES[family].wiring != "parallel"]


def mask_of(attention):
    mask = attention.clone()
    mask[:, 0] = False
    return mask


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_changes_nothing_to_the_bit_and_another_value_does(family):
    model = tiny_model(family)
    ids, attention = token_blocks()
    final = resolve_hook_point(model, site="resid_post", layer=2)
    clean = capture(model, ids, attention, [final])[final.name]
    for site in sites_of(family):
        point = resolve_hook_point(model, site=site, layer=1)
        with splice(model, point, lambda rows: rows, mask_of(attention)):
            assert torch.equal(capture(model, ids, attention, [final])[final.name], clean), site
        with splice(model, point, lambda rows: 1.5 * rows, mask_of(attention)):
            assert not torch.allclose(capture(model, ids, attention, [final])[final.name], clean), site


@pytest.mark.parametrize(("family", "site"), [(f, s) for f in FAMILIES for s in BLOCK_SITES if s in sites_of(f)])
def test_only_unmasked_positions_are_replaced_and_in_order(family, site):
    model = tiny_model(family)
    ids, attention = token_blocks()
    mask = mask_of(attention)
    point = resolve_hook_point(model, site=site, layer=1)
    clean = capture(model, ids, attention, [point])[point.name]
    received = []

    def replace(rows):
        received.append(rows)
        return torch.arange(rows.numel(), dtype=torch.float64).reshape(rows.shape) / rows.numel()

    with splice(model, point, replace, mask):
        seen = capture(model, ids, attention, [point])[point.name]
    assert torch.equal(received[0], clean[mask])
    assert torch.equal(seen[~mask], clean[~mask])
    assert_close(seen[mask], replace(clean[mask]).float())


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].wiring != "parallel"])
def test_a_new_middle_reaches_the_mlp_and_the_skip_connection(family):
    model = tiny_model(family)
    ids, attention = token_blocks()
    point, mlp_in, mlp_out, post = (
        resolve_hook_point(model, site=site, layer=1) for site in ("resid_mid", "mlp_in", "mlp_out", "resid_post")
    )
    block = model.module.get_submodule(post.module)
    new = torch.randn(int(attention.sum()), D_MODEL, generator=torch.Generator().manual_seed(3))
    with splice(model, point, lambda rows: new, attention):
        at = capture(model, ids, attention, [mlp_in, mlp_out, post])
    got = at[post.name][attention]
    total = new + at[mlp_out.name][attention]
    if FAMILIES[family].wiring == "post-norm":
        norm = [child for child in block.modules() if isinstance(child, torch.nn.LayerNorm)][-1]
        assert_close(got, norm(total))
        assert_close(at[mlp_in.name][attention], new)
    else:
        norm = block.get_submodule(FAMILIES[family].mlp_norm)
        assert_close(got, total)
        assert_close(at[mlp_in.name][attention], norm(new))


def test_replacing_a_block_output_equals_replacing_the_next_input():
    model = tiny_model("gemma3")
    ids, attention = token_blocks()
    final = resolve_hook_point(model, site="resid_post", layer=2)
    ends = []
    for site, layer in (("resid_post", 0), ("resid_pre", 1)):
        point = resolve_hook_point(model, site=site, layer=layer)
        with splice(model, point, torch.tanh, mask_of(attention)):
            ends.append(capture(model, ids, attention, [final])[final.name])
    assert torch.equal(*ends)


def test_hooks_go_when_the_context_closes_even_by_an_error():
    model = tiny_model("llama")
    ids, attention = token_blocks()
    point, final = (resolve_hook_point(model, site=site, layer=1) for site in ("resid_mid", "resid_post"))
    clean = capture(model, ids, attention, [final])[final.name]

    def broken(rows):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), splice(model, point, broken, attention):
        capture(model, ids, attention, [final])
    assert torch.equal(capture(model, ids, attention, [final])[final.name], clean)
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in model.module.modules())
