"""Leaving tokens out, of many targets that share the model's work: against a twin that runs it for each number by itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae.factors.saliency import copies as copies_module
from sae.factors.saliency import leave_one_out as module
from sae.factors.saliency.copies import CopyReader
from sae.factors.saliency.leave_one_out import leave_one_out, left_out
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.sites import Sites
from sae.factors.saliency.targets import mask_token
from sae.functional import shortlist as shortlist_module
from tests.cases import CASES
from tests.dashboards.collect.texts import make_blocks
from tests.factors.subjects import subject_of
from tests.factors.test_saliency import PLACES, targets_in
from tests.reference import factors as twin

SPARSE_CODING = next(case for case in CASES if case.architecture == "sparse_coding")


def expected(subject, target):
    """By the twin: every copy and every number by itself."""
    place = (target.position, target.layer, target.factor)
    falls = twin.left_out(subject, target.ids.tolist(), target.maskable.tolist(), *place, mask_token(subject.model))
    low, high = target.shown
    return [fall if low <= number < high else 0.0 for number, fall in enumerate(falls)]


def crowd(subject, blocks=(0, 5)):
    """Targets of two texts at all layers, some at one site, and windows that differ."""
    places = [
        (block, position, layer, factor) for block in blocks for position in (1, 3) for layer in range(3) for factor in (2, 5)
    ]
    targets = targets_in(subject, places)
    return [replace(target, shown=(number % 3, 4 + number % 2)) for number, target in enumerate(targets)]


@pytest.mark.parametrize(("family", "units"), [("llama", False), ("bert", False), ("bert", True)])
def test_leaving_a_token_out_equals_its_twin_whatever_is_read_together(family, units):
    subject = subject_of(family, offset=5.0, units=units)
    targets = targets_in(subject, PLACES)
    whole = leave_one_out(ActivationReader(subject), targets)
    parts = leave_one_out(ActivationReader(subject, batch_tokens=1), targets)
    mask = mask_token(subject.model)
    for target, found, alone in zip(targets, whole, parts, strict=True):
        place = (target.position, target.layer, target.factor)
        expected = twin.left_out(subject, target.ids.tolist(), target.maskable.tolist(), *place, mask)
        assert found == pytest.approx(expected, abs=1e-9)
        assert alone == pytest.approx(expected, abs=1e-9)
        assert len(target) == (target.position + 1 if family == "llama" else int(target.ids.ne(0).sum()))
    assert any(abs(found).max() > 1e-3 for found in whole)


def test_only_shown_tokens_are_left_out():
    subject = subject_of("bert", offset=5.0)
    (target,) = targets_in(subject, PLACES[:1])
    (whole,), (some,) = (
        leave_one_out(ActivationReader(subject), [replace(target, shown=shown)]) for shown in ((0, 99), (3, 5))
    )
    assert target.shown == (0, 16)
    assert np.flatnonzero(some).tolist() == [3, 4][: len(np.flatnonzero(some))]
    assert some[3:5] == pytest.approx(whole[3:5])


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [4096, 20])
def test_targets_that_share_copies_equal_their_twin(family, batch_tokens):
    subject = subject_of(family, offset=5.0)
    targets = crowd(subject)
    found = leave_one_out(ActivationReader(subject, batch_tokens=batch_tokens), targets)
    for target, falls in zip(targets, found, strict=True):
        assert falls == pytest.approx(expected(subject, target), abs=1e-9)
    assert sum(abs(falls).max() > 1e-3 for falls in found) > len(found) / 4


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_site_leaves_out_what_its_targets_show_and_see(family):
    targets = sorted(crowd(subject_of(family), blocks=(0,)), key=lambda target: -len(target))
    sites, lost = Sites(targets), [left_out(target).tolist() for target in targets]
    for site, target in zip(*sites.pairs(torch.arange(len(sites))), strict=True):
        low, high = targets[target].shown
        seen = range(low, min(high, len(targets[target])))
        assert lost[target] == [number for number in seen if targets[target].maskable[number]]
        assert sites.left_out[site].nonzero()[:, 0].tolist() == lost[target]
    for number, last in enumerate(sites.last_needed.tolist()):
        needed = [target.position for target, own in zip(targets, lost, strict=True) if number in own]
        assert last == max(needed, default=0)


def test_texts_are_read_with_the_longest_that_they_begin_where_no_token_sees_a_later_one():
    targets = crowd(subject_of("llama"), blocks=(0,))
    (together,) = module._texts(targets, cut=True)
    assert sorted(together) == list(range(len(targets)))
    assert len(targets[together[0]]) == 4
    apart = module._texts(targets, cut=False)
    assert [{len(targets[number]) for number in text} for text in apart] == [{4}, {2}]


def passes_of(monkeypatch, reader, targets):
    """Shapes of the token ids that the model reads."""
    seen, run = [], type(reader.subject.model).run

    def counts(self, ids, attention, past=None):
        seen.append(tuple(ids.shape))
        return run(self, ids, attention, past)

    monkeypatch.setattr(type(reader.subject.model), "run", counts)
    leave_one_out(reader, targets)
    return seen


def test_a_text_is_read_once_for_each_token_left_out_whatever_is_looked_at(monkeypatch):
    subject = subject_of("bert", offset=5.0)
    targets = [replace(target, shown=(0, 99)) for target in crowd(subject, blocks=(0,))]
    one, all_of_them = (
        sum(copies for copies, _ in passes_of(monkeypatch, ActivationReader(subject), part)) for part in (targets[:1], targets)
    )
    assert one == all_of_them == 1 + int(targets[0].maskable.sum())


def long_target(subject):
    """At position 10 of the longest text."""
    block = int(make_blocks().attention.sum(dim=1).argmax())
    (target,) = targets_in(subject, [(block, 10, 2, 3)])
    assert bool(target.maskable[6:11].all())
    return target


def test_a_decoder_reads_from_the_token_left_out_to_the_last_that_is_asked_for(monkeypatch):
    subject = subject_of("llama", offset=5.0)
    target = replace(long_target(subject), shown=(6, 12))
    monkeypatch.setattr(copies_module, "FEWEST_TOGETHER", 1)
    seen = passes_of(monkeypatch, ActivationReader(subject), [target])
    length = len(target)
    assert seen[:3] == [(1, length), (1, length), (1, length - length // 2)]  # as it is; keys and values; whether they serve
    assert seen[3:] == [(2, 5), (1, 3), (1, 2), (1, 1)]


def test_copies_that_are_read_together_reach_the_last_position_that_any_of_them_needs():
    subject = subject_of("llama")
    ids = long_target(subject).ids
    last = torch.zeros_like(ids)
    last[1], last[2] = 3, 6
    (part,) = CopyReader(ActivationReader(subject)).read(ids, last, torch.tensor([1, 2]), [0, 2])
    assert (part.first, part.hidden[2].shape[:2]) == (1, (2, 6))


def test_whether_a_decoder_goes_on_from_keys_and_values_is_looked_at_once(monkeypatch):
    subject, looks = subject_of("llama", offset=5.0), []
    monkeypatch.setattr(CopyReader, "_sees_the_same", lambda *_: not looks.append(1))
    leave_one_out(ActivationReader(subject), crowd(subject))
    assert looks == [1]


def test_a_model_that_does_not_go_on_from_keys_and_values_reads_copies_whole(monkeypatch):
    subject = subject_of("llama", offset=5.0)
    targets = crowd(subject)
    whole = leave_one_out(ActivationReader(subject), targets)
    for wrong in (lambda past, length, copies: past.no_such_thing, lambda past, length, copies: copies_module.nothing_yet()):
        monkeypatch.setattr(copies_module, "beginning", wrong)
        reader = CopyReader(ActivationReader(subject))
        ids = long_target(subject).ids
        (part,) = reader.read(ids, torch.full_like(ids, 3), torch.tensor([1, 2]), [0, 2])
        assert (part.first, part.hidden[2].shape[:2]) == (0, (2, 4))
        for found, before in zip(leave_one_out(ActivationReader(subject), targets), whole, strict=True):
            assert found == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_no_pass_reads_more_tokens_than_a_batch_holds(monkeypatch, family):
    subject = subject_of(family, offset=5.0)
    seen = passes_of(monkeypatch, ActivationReader(subject, batch_tokens=40), crowd(subject))
    assert max(copies * length for copies, length in seen) <= 40
    assert max(copies for copies, _ in seen) > 1


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_through_sparse_coding_it_is_the_solution_s(family):
    """Codes are found from those of the whole text: within what the tolerance of the dictionary leaves open."""
    subject = subject_of(family, case=SPARSE_CODING)
    subject.sae.tolerance = 1e-12
    targets = crowd(subject)
    found = leave_one_out(ActivationReader(subject), targets)
    for target, falls in zip(targets, found, strict=True):
        assert falls == pytest.approx(expected(subject, target), abs=1e-5)
    assert sum(abs(falls).max() > 1e-2 for falls in found) > 1


def test_a_shortlist_of_all_factors_is_no_shortlist():
    for family in ("llama", "bert"):
        subject = subject_of(family, case=SPARSE_CODING)
        subject.sae.tolerance = 1e-12
        targets = crowd(subject)
        for target, falls in zip(targets, leave_one_out(ActivationReader(subject), targets, shortlist=13), strict=True):
            assert falls == pytest.approx(expected(subject, target), abs=1e-3)


@pytest.mark.parametrize("size", [4, 8])
def test_with_a_shortlist_it_equals_its_twin(monkeypatch, size):
    """At ends of blocks too; special tokens are not left out, factors go to zero and come up from it."""
    monkeypatch.setattr(shortlist_module, "CLOSE", 1e-9)
    monkeypatch.setattr(shortlist_module, "MOST_STEPS", 10_000)
    subject = subject_of("bert", case=SPARSE_CODING, units=True)
    subject.sae.tolerance = 1e-12
    end = int(make_blocks().attention[0].sum())
    places = [(0, position, layer, factor) for position in (0, 3, end - 1) for layer in (0, 2) for factor in range(13)]
    targets = [
        replace(target, shown=(max(0, target.position - 2), target.position + 3)) for target in targets_in(subject, places)
    ]
    exact, found = (leave_one_out(ActivationReader(subject), targets, shortlist=most) for most in (None, size))
    zero, differs = 0, 0
    for target, falls, without in zip(targets, found, exact, strict=True):
        own, place = left_out(target).tolist(), (target.position, target.layer, target.factor)
        ids, mask = target.ids.tolist(), mask_token(subject.model)
        assert falls[own] == pytest.approx(twin.left_out_by_shortlist(subject, ids, own, *place, mask, size), abs=1e-6)
        assert set(np.flatnonzero(falls)) <= set(own)
        whole = twin.activation(subject, ids, *place)
        zero += int(whole > 0 and falls.max() == pytest.approx(whole))
        differs += int(abs(falls - without).max() > 1e-3)
    assert zero > 0
    assert differs > 0


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_an_encoder_needs_no_shortlist(family):
    subject = subject_of(family, offset=5.0)
    targets = crowd(subject)
    reader = ActivationReader(subject)
    for some, whole in zip(leave_one_out(reader, targets, shortlist=1), leave_one_out(reader, targets), strict=True):
        assert (some == whole).all()
    assert not subject.sae.takes_shortlist


def test_on_a_row_of_many_times_the_size_an_activation_counts_as_zero(monkeypatch):
    subject = subject_of("bert", offset=5.0)
    targets = [target for target in crowd(subject) if target.layer > 0]  # where a row is that of the text, nothing falls
    monkeypatch.setattr(module, "OUTLIER", 0.0)
    fell = 0
    for target, falls in zip(targets, leave_one_out(ActivationReader(subject), targets), strict=True):
        whole = twin.activation(subject, target.ids.tolist(), target.position, target.layer, target.factor)
        places = [number for number in range(*target.shown) if number < len(target) and target.maskable[number]]
        assert falls[places] == pytest.approx([whole] * len(places))
        assert set(np.flatnonzero(falls)) <= set(places)
        fell += np.count_nonzero(falls)
    assert fell > 5


def test_is_told_after_every_pass():
    subject = subject_of("bert", offset=5.0)
    told = []
    leave_one_out(ActivationReader(subject, batch_tokens=1), crowd(subject, blocks=(0,)), on_copies=lambda: told.append(1))
    assert len(told) == 3  # tokens 1, 3 and 4 are left out for one target or another
