"""Cross-entropy and KL against the model's own loss and a float64 twin."""

import pytest
import torch
from torch.testing import assert_close

from sae.models import next_token
from sae.models.hook_points import resolve_hook_point
from sae.models.next_token import compare_next_tokens, final_states, score_next_tokens, scored_positions
from sae.models.splice import splice
from tests.models.tiny import DECODERS, tiny_model, token_blocks


def logits_of(model, ids, attention):
    with torch.no_grad():
        return model.module(input_ids=ids, attention_mask=attention).logits.double()


def keep_of(attention):
    keep = attention.clone()
    keep[:, 0] = False
    keep[1, 6] = False
    return keep


@pytest.mark.parametrize("family", DECODERS)
def test_scores_equal_a_plain_float64_computation(family):
    model = tiny_model(family)
    ids, attention = token_blocks()
    keep = keep_of(attention)
    point = resolve_hook_point(model, site="resid_post", layer=1)
    scores = compare_next_tokens(model, ids, attention, keep, hook_point=point, replacements={"flipped": torch.neg})

    scored = keep[:, :-1] & keep[:, 1:]
    clean = torch.log_softmax(logits_of(model, ids, attention), dim=-1)[:, :-1][scored]
    with splice(model, point, torch.neg, keep):
        other = torch.log_softmax(logits_of(model, ids, attention), dim=-1)[:, :-1][scored]
    target = ids[:, 1:][scored][:, None]
    kl = (clean.exp() * (clean - other)).sum(dim=-1)

    settings = {"check_dtype": False, "rtol": 1e-4, "atol": 1e-5}
    assert_close(scores["clean"].cross_entropy, -clean.gather(1, target)[:, 0], **settings)
    assert_close(scores["flipped"].cross_entropy, -other.gather(1, target)[:, 0], **settings)
    assert_close(scores["flipped"].divergence, kl, **settings)
    assert (scores["clean"].divergence == 0).all()
    assert kl.mean() > 1e-3


def test_clean_cross_entropy_is_the_models_own_loss():
    model = tiny_model("gpt2")
    ids, attention = token_blocks(padded=False)
    scores = score_next_tokens(model, {"clean": final_states(model, ids, attention)}, ids, attention)
    assert_close(scores["clean"].cross_entropy.mean(), model.module(input_ids=ids, labels=ids).loss)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt"])
def test_identity_gives_the_clean_numbers_to_the_bit(family):
    model = tiny_model(family)
    ids, attention = token_blocks()
    point = resolve_hook_point(model, site="resid_mid", layer=1)
    keep = keep_of(attention)
    replacements = {"identity": lambda rows: rows, "zero": torch.zeros_like}
    scores = compare_next_tokens(model, ids, attention, keep, hook_point=point, replacements=replacements)
    assert torch.equal(scores["identity"].cross_entropy, scores["clean"].cross_entropy)
    assert (scores["identity"].divergence == 0).all()
    assert (scores["zero"].divergence > 0).any()
    assert scores["zero"].cross_entropy.shape == (int(scored_positions(keep).sum()),)


def test_soft_caps_of_the_family_are_part_of_the_logits():
    model = tiny_model("gemma2")
    ids, attention = token_blocks(padded=False)
    states = {"clean": final_states(model, ids, attention)}
    capped = score_next_tokens(model, states, ids, attention)["clean"].cross_entropy
    model.module.config.final_logit_softcapping = None
    assert not torch.allclose(capped, score_next_tokens(model, states, ids, attention)["clean"].cross_entropy)


def test_slices_give_the_same_numbers_and_bound_the_logits(monkeypatch):
    model = tiny_model("llama")
    ids, attention = token_blocks()
    keep = keep_of(attention)
    states = {"clean": final_states(model, ids, attention)}
    states["noisy"] = states["clean"] + 0.3 * torch.randn(states["clean"].shape, generator=torch.Generator().manual_seed(0))
    whole = score_next_tokens(model, states, ids, keep)
    monkeypatch.setattr(next_token, "SLICE_LOGITS", 7 * model.vocabulary_size)
    sizes = []
    model.module.lm_head.register_forward_hook(lambda _, __, logits: sizes.append(logits.shape[1]))
    sliced = score_next_tokens(model, states, ids, keep)
    assert max(sizes) == 7
    for name in states:
        assert_close(sliced[name].cross_entropy, whole[name].cross_entropy)
        assert_close(sliced[name].divergence, whole[name].divergence)


def test_low_precision_models_are_scored_in_float32():
    model = tiny_model("llama")
    model.module.to(torch.bfloat16)
    ids, attention = token_blocks(padded=False)
    scores = score_next_tokens(model, {"clean": final_states(model, ids, attention)}, ids, attention)["clean"]
    expected = torch.log_softmax(logits_of(model, ids, attention)[:, :-1], -1).gather(2, ids[:, 1:, None]).flatten()
    assert scores.cross_entropy.dtype == torch.float32
    assert_close(scores.cross_entropy, -expected.float())


def test_models_without_a_head_predict_nothing():
    model = tiny_model("bert")
    ids, attention = token_blocks()
    assert not model.has_lm_head
    with pytest.raises(ValueError, match="BertModel has no language modelling head"):
        final_states(model, ids, attention)


def test_the_model_runs_as_before_after_an_error_in_its_head(monkeypatch):
    model = tiny_model("llama")
    ids, attention = token_blocks()
    before = logits_of(model, ids, attention)
    states = {"clean": final_states(model, ids, attention)}
    with pytest.raises(RuntimeError):
        score_next_tokens(model, {"clean": states["clean"][..., :5]}, ids, attention)
    assert torch.equal(logits_of(model, ids, attention), before)


def test_no_scored_positions_give_empty_scores():
    model = tiny_model("llama")
    ids, attention = token_blocks()
    point = resolve_hook_point(model, site="resid_post", layer=0)
    nothing = torch.zeros_like(attention)
    scores = compare_next_tokens(model, ids, attention, nothing, hook_point=point, replacements={"zero": torch.zeros_like})
    assert scores["zero"].cross_entropy.shape == (0,)


def test_the_name_clean_is_taken():
    model = tiny_model("llama")
    point = resolve_hook_point(model, site="resid_post", layer=0)
    ids, attention = token_blocks()
    with pytest.raises(ValueError, match="'clean' belongs to"):
        compare_next_tokens(model, ids, attention, attention, hook_point=point, replacements={"clean": torch.tanh})
