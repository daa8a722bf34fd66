"""Continuations against plain generation and a loop written by hand."""

import pytest
import torch

from sae.dashboards.live.steering import continue_text
from sae.errors import UserError
from tests.cases import every_architecture
from tests.dashboards.live.subjects import TEXT, reader_of, subject_of
from tests.models.tiny import DECODERS
from tests.reference import live as twin


def prompt_of(subject, text=TEXT):
    return reader_of(subject).blocks(text).ids[0]


@pytest.mark.parametrize("family", DECODERS)
def test_without_clamps_it_is_the_models_own_text(family):
    subject = subject_of(family=family)
    prompt = prompt_of(subject)
    own = subject.model.module.generate(
        prompt.long()[None], max_new_tokens=12, do_sample=False, eos_token_id=None, use_cache=False
    )[0, len(prompt) :].tolist()
    special = [place for place, token in enumerate(own) if token in subject.model.special]
    expected = (own[: special[0]], True) if special else (own, False)
    assert continue_text(subject, prompt, clamps={}, new_tokens=12) == expected


@every_architecture
def test_with_clamps_it_is_a_loop_by_hand(case):
    subject = subject_of(case)
    prompt = prompt_of(subject)
    own = continue_text(subject, prompt, clamps={}, new_tokens=8)
    different = 0
    for clamps in ({3: 4.0}, {0: 0.0, 7: -6.0}, {12: 9.0, 1: 9.0, 5: 0.5}):
        found = continue_text(subject, prompt, clamps=clamps, new_tokens=8)
        assert found == twin.continuation(subject, prompt.tolist(), clamps, 8)
        different += found != own
    assert different


@pytest.mark.parametrize("family", DECODERS)
def test_every_family_can_be_steered(family):
    subject = subject_of(family=family)
    prompt = prompt_of(subject)
    clamps = {2: 5.0, 6: 3.0}
    found = continue_text(subject, prompt, clamps=clamps, new_tokens=6)
    assert found == twin.continuation(subject, prompt.tolist(), clamps, 6)


def test_a_latent_held_where_it_is_changes_nothing():
    """The error term stays: what is added is the difference from the SAE's own activation, here zero."""
    subject = subject_of()
    prompt = prompt_of(subject)
    with torch.no_grad():
        subject.sae.b_enc[4] = -1e6  # never active
    own = continue_text(subject, prompt, clamps={}, new_tokens=10)
    assert continue_text(subject, prompt, clamps={4: 0.0}, new_tokens=10) == own
    assert continue_text(subject, prompt, clamps={4: 50.0}, new_tokens=10) != own


def test_draws_follow_the_seed_and_are_the_same_with_and_without_clamps():
    subject = subject_of()
    with torch.no_grad():
        subject.sae.b_enc[4] = -1e6
    prompt = prompt_of(subject)
    settings = {"new_tokens": 12, "temperature": 1.5}
    texts = [continue_text(subject, prompt, clamps={}, seed=seed, **settings) for seed in (0, 0, 1, 2)]
    assert texts[0] == texts[1]
    assert len({str(text) for text in texts}) == 3
    assert continue_text(subject, prompt, clamps={4: 0.0}, seed=1, **settings) == texts[2]
    greedy = continue_text(subject, prompt, clamps={}, new_tokens=12)
    for cold in (1e-4, 1e-308, 5e-324):  # the last are so small that scores divided by them overflow
        assert continue_text(subject, prompt, clamps={}, new_tokens=12, temperature=cold, seed=5) == greedy


def test_draws_have_the_models_probabilities():
    subject = subject_of()
    prompt = prompt_of(subject)
    logits = subject.model.module(prompt.long()[None]).logits[0, -1]
    expected = torch.softmax(logits / 2, dim=0)
    drawn = torch.zeros(len(expected), dtype=torch.float64)
    for seed in range(600):
        tokens, ended = continue_text(subject, prompt, clamps={}, new_tokens=1, temperature=2.0, seed=seed)
        if not ended:
            drawn[tokens[0]] += 1 / 600
    ordinary = torch.tensor([token not in subject.model.special for token in range(len(expected))])
    assert float((drawn - expected)[ordinary].abs().max()) < 0.06


def test_a_special_token_ends_the_text():
    subject = subject_of()
    prompt = prompt_of(subject)
    tokens, ended = continue_text(subject, prompt, clamps={}, new_tokens=6)
    assert not ended
    subject.model.special |= {tokens[2]}
    place = tokens.index(tokens[2])
    assert continue_text(subject, prompt, clamps={}, new_tokens=6) == (tokens[:place], True)


def test_mistakes_are_told():
    subject = subject_of()
    prompt = prompt_of(subject)
    with pytest.raises(UserError, match=r"There is no latent 13: the SAE has 13, numbered from 0"):
        continue_text(subject, prompt, clamps={13: 1.0}, new_tokens=1)
    with pytest.raises(UserError, match=r"activations overflow: hold latents at smaller values"):
        continue_text(subject, prompt, clamps={1: 1e308, 2: -1e308}, new_tokens=2)
    encoder = subject_of(family="bert")
    with pytest.raises(UserError, match=r"BertModel predicts no next tokens"):
        continue_text(encoder, prompt_of(encoder), clamps={}, new_tokens=1)


def test_nothing_hangs_on_the_model_afterwards():
    subject = subject_of()
    prompt = prompt_of(subject)
    with pytest.raises(UserError, match="overflow"):
        continue_text(subject, prompt, clamps={1: 1e308, 2: -1e308}, new_tokens=2)
    hooks = [module for module in subject.model.module.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == []
    assert subject.model.lock.acquire(blocking=False)
    subject.model.lock.release()
