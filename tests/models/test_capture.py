"""Capture: what is read, where the forward pass ends, and that nothing stays behind."""

import threading

import pytest
import torch
from torch.testing import assert_close

from sae.models.capture import capture
from sae.models.hook_points import HookPoint, resolve_hook_point
from sae.models.splice import splice
from tests.models.tiny import DECODERS, ENCODERS, FAMILIES, tiny_model, token_blocks


def hooks(model):
    return sum(len(child._forward_hooks) + len(child._forward_pre_hooks) for child in model.module.modules())


def runs(model, paths, monkeypatch):
    ran = []
    for path in paths:
        module = model.module.get_submodule(path)
        forward = module.forward
        monkeypatch.setattr(
            module, "forward", lambda *a, path=path, forward=forward, **k: (ran.append(path), forward(*a, **k))[1]
        )
    return ran


def test_the_forward_pass_ends_after_the_last_hook_point(monkeypatch):
    model = tiny_model("llama")
    points = [resolve_hook_point(model, site=site, layer=1) for site in ("attn_out", "mlp_in")]
    ran = runs(model, ["model.layers.0", "model.layers.1.mlp", "model.layers.2", "model.norm", "lm_head"], monkeypatch)
    capture(model, *token_blocks(), points)
    assert ran == ["model.layers.0"]


def test_logits_are_not_computed_even_for_the_last_norm(monkeypatch):
    model = tiny_model("gpt2")
    point = resolve_hook_point(model, module="transformer.ln_f")
    ran = runs(model, ["lm_head", "transformer.ln_f"], monkeypatch)
    values = capture(model, *token_blocks(), [point])["transformer.ln_f.output"]
    assert ran == ["transformer.ln_f"]
    assert values.shape == (3, 16, 24)


def test_one_pass_gives_what_single_passes_give_in_any_order():
    model = tiny_model("gemma2")
    points = [resolve_hook_point(model, site=site, layer=layer) for site in ("resid_post", "attn_z") for layer in (0, 2)]
    together = capture(model, *token_blocks(), points[::-1])
    for point in points:
        assert torch.equal(together[point.name], capture(model, *token_blocks(), [point])[point.name])


def test_captured_values_are_copies_that_later_additions_do_not_reach():
    model = tiny_model("falcon")  # adds attention to the MLP's output in place
    mlp, whole = (resolve_hook_point(model, site=site, layer=1) for site in ("mlp_out", "resid_post"))
    at = capture(model, *token_blocks(), [mlp, whole])
    assert torch.equal(at[mlp.name], capture(model, *token_blocks(), [mlp])[mlp.name])
    assert not any(value.requires_grad for value in at.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_not_seen_and_neighbours_do_not_matter(family):
    model = tiny_model(family)
    point = resolve_hook_point(model, site="resid_post", layer=2)
    ids, attention = token_blocks(padded=True)
    whole = capture(model, ids, attention, [point])[point.name]
    other_padding = torch.where(attention, ids, 5)
    assert torch.equal(capture(model, other_padding, attention, [point])[point.name][attention], whole[attention])
    alone = capture(model, ids[-1:, :11], attention[-1:, :11], [point])[point.name]
    assert_close(alone[0], whole[-1, :11])
    unpadded_neighbour = attention.clone()
    unpadded_neighbour[-1] = True
    assert torch.equal(capture(model, ids, unpadded_neighbour, [point])[point.name][:-1], whole[:-1])


@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
def test_masks_with_holes_are_respected(family):
    model = tiny_model(family)
    point = resolve_hook_point(model, site="resid_post", layer=2)
    ids, attention = token_blocks(padded=False)
    attention[:, 0] = False
    changed = ids.clone()
    changed[:, 0] = 7
    one, other = (capture(model, some, attention, [point])[point.name] for some in (ids, changed))
    assert_close(one[:, 1:], other[:, 1:])


def test_decoders_look_back_and_encoders_both_ways():
    for family in [*DECODERS, *ENCODERS]:
        model = tiny_model(family)
        point = resolve_hook_point(model, site="resid_post", layer=0)
        ids, attention = token_blocks(padded=False)
        changed = ids.clone()
        changed[:, -1] = (ids[:, -1] + 1) % 90 + 3
        one, other = (capture(model, some, attention, [point])[point.name] for some in (ids, changed))
        assert torch.allclose(one[:, 0], other[:, 0]) == (family in DECODERS), family


def test_no_hook_stays_after_success_or_error():
    model = tiny_model("llama")
    before = hooks(model)
    good = resolve_hook_point(model, site="resid_post", layer=0)
    wrong_width = HookPoint(name="wrong", module="model.layers.1", tensor="output", width=7)
    capture(model, *token_blocks(), [good])
    with pytest.raises(ValueError, match=r"wrong: expected \[3, 16, 7\], got \[3, 16, 24\]"):
        capture(model, *token_blocks(), [good, wrong_width])
    missing = HookPoint(name="missing", module="lm_head", tensor="output", width=7)
    with pytest.raises(ValueError, match="did not reach missing"):
        capture(model, *token_blocks(), [good, missing])
    ids, attention = token_blocks()
    with pytest.raises(IndexError):
        capture(model, ids + 1000, attention, [good])
    assert hooks(model) == before
    assert capture(model, ids, attention, [good])[good.name].shape == (3, 16, 24)


def test_a_capture_in_another_thread_does_not_run_through_a_splice():
    model = tiny_model("llama")
    early, late = (resolve_hook_point(model, site="resid_post", layer=layer) for layer in (0, 1))
    ids, attention = token_blocks()
    clean = capture(model, ids, attention, [late])[late.name]
    seen = []
    thread = threading.Thread(target=lambda: seen.append(capture(model, ids, attention, [late])[late.name]))
    with splice(model, early, torch.zeros_like, attention):
        thread.start()
        thread.join(timeout=0.3)
        assert not seen
        assert not torch.equal(capture(model, ids, attention, [late])[late.name], clean)
    thread.join()
    assert torch.equal(seen[0], clean)
