"""Every number of latents' pages against a twin that looks at one firing at a time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.architectures.relu import ReLUSAE
from sae.dashboards.latents.records import LatentPages, PageSettings
from sae.errors import UserError
from tests.cases import ramp
from tests.dashboards.latents.synthetic import MemoryCodes, some_blocks, some_codes
from tests.reference import dashboards as twin

SETTINGS = PageSettings(
    top=4, intervals=5, per_interval=2, random=3, window_before=3, window_after=2, bins=7, tokens=3, latents_size=4
)
D_IN = 6


def relu(latents):
    sae = ReLUSAE(d_in=D_IN, d_sae=latents, apply_b_dec_to_input=True)
    sae.W_dec.data.copy_(ramp(latents, D_IN))
    return sae


def pages(codes, settings=SETTINGS, **more):
    sae = more.pop("sae", None) or relu(codes.num_latents)
    return LatentPages(codes, sae, settings=settings, text_of=lambda token: f"<{token}>", **{"unembedding": None, **more})


def records(shards):
    """Records with tokens by their ids in place of places."""
    for shard in shards:
        ids = [string["id"] for string in shard["strings"]]
        assert ids == sorted(set(ids))
        assert all(string["text"] == f"<{string['id']}>" for string in shard["strings"])
        yield from ((record, ids) for record in shard["latents"])


def near(value, expected):
    """Four significant digits; None stands for NaN."""
    if value is None or math.isnan(expected):
        return value is None and math.isnan(expected)
    return value == float(f"{expected:.4g}") or math.isclose(value, expected, rel_tol=5.0001e-4)


@pytest.mark.parametrize("effects", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_pages_equal_their_twin(effects, seed):
    settings = replace(SETTINGS, seed=seed)
    codes = some_codes(effects=effects, seed=seed)
    found = twin.firings(codes)
    seen = list(records(pages(codes, settings).latent_shards()))
    assert [record["latent"] for record, _ in seen] == list(range(codes.num_latents))
    for (record, ids), own in zip(seen, found, strict=True):
        expected = twin.statistics(own, codes.blocks.num_rows, settings.bins)
        assert record["fired"] == expected["fired"]
        for name in ("density", "max", "mean", "std", "skewness", "kurtosis"):
            assert near(record[name], expected[name]), (record["latent"], name)
        assert record["histogram"]["counts"] == (expected["histogram"] if own else [])
        assert len(record["histogram"]["edges"]) == len(record["histogram"]["counts"]) + 1

        tokens, concentration, entropy = twin.token_statistics(own, settings.tokens)
        assert near(record["concentration"], concentration)
        assert near(record["entropy"], entropy)
        assert [(ids[entry["token"]], entry["count"]) for entry in record["tokens"]] == [entry[:2] for entry in tokens]
        for entry, (_, _, share, mean) in zip(record["tokens"], tokens, strict=True):
            assert near(entry["share"], share)
            assert near(entry["mean"], mean)

        groups = twin.groups(own, record["latent"], settings)
        assert [(group["kind"], group["count"]) for group in record["groups"]] == [(one[0], one[3]) for one in groups]
        for group, (_, low, high, _, chosen) in zip(record["groups"], groups, strict=True):
            assert (group["low"] is None) == (low is None)
            assert low is None or (near(group["low"], low) and near(group["high"], high))
            assert len(group["examples"]) == len(chosen)
            for example, firing in zip(group["examples"], chosen, strict=True):
                check_example(example, ids, firing, own, codes.blocks, settings)


def check_example(example, ids, firing, own, blocks, settings):
    start, peak, tokens, places, acts, effects = twin.window(firing, own, blocks, settings)
    assert (example["document"], example["block"]) == (firing["document"], firing["block"])
    assert (example["start"], example["peak"]) == (start, peak)
    assert [ids[token] for token in example["tokens"]] == tokens
    assert example["places"] == places
    assert all(map(near, example["acts"], acts))
    assert (example["effects"] is None) == (effects is None)
    assert effects is None or all(map(near, example["effects"], effects))


def test_pages_hold_what_weights_and_co_activation_say():
    codes, settings = some_codes(), replace(SETTINGS, neighbours=3, neurons=2, logits=4)
    sae, unembedding = relu(codes.num_latents), ramp(19, D_IN, phase=1).float()
    found = pages(codes, settings, sae=sae, unembedding=unembedding)
    W_dec, together = sae.W_dec.detach().double().numpy(), twin.jaccard(twin.firings(codes))
    for record, ids in records(found.latent_shards()):
        i = record["latent"]
        assert near(record["decoder_norm"], math.sqrt(sum(weight * weight for weight in W_dec[i])))
        check_pairs([(one["latent"], one["value"]) for one in record["decoder_neighbours"]], twin.cosines(W_dec, i, 3))
        coactive = [(one["latent"], one["value"]) for one in record["coactive_neighbours"]]
        check_pairs(coactive, twin.best(enumerate(together[i]), 3))
        neurons = [(one["dimension"], one["weight"], one["share"]) for one in record["neurons"]]
        for one, expected in zip(neurons, twin.neurons(W_dec[i], 2), strict=True):
            assert one[0] == expected[0]
            assert near(one[1], expected[1])
            assert near(one[2], expected[2])
        weights = unembedding.double().numpy() @ W_dec[i]
        raised, lowered = ([(ids[token], weight) for token, weight in record["logits"][name]] for name in ("raised", "lowered"))
        check_pairs(raised, twin.best(enumerate(weights), 4))
        check_pairs(lowered, [(token, -weight) for token, weight in twin.best(enumerate(-weights), 4)])
        bars = record["logits"]["histogram"]
        assert near(bars["edges"][0], weights.min())
        assert near(bars["edges"][-1], weights.max())
        assert bars["counts"] == np.histogram(weights, bins=settings.bins)[0].tolist()


def check_pairs(pairs, expected):
    assert [number for number, _ in pairs] == [number for number, _ in expected]
    for (_, value), (_, other) in zip(pairs, expected, strict=True):
        assert near(value, other)


def test_the_text_has_what_is_hard():
    """A dead latent, one that fires once, equal activations, groups with more firings than blocks, padding, special tokens."""
    codes = some_codes()
    found = twin.firings(codes)
    assert [len(own) for own in found[:2]] == [0, 1]
    assert len({firing["value"] for firing in found[2]}) == 1 < len(found[2])
    assert len({firing["block"] for firing in found[4]}) < SETTINGS.top < len(found[4])
    assert len({firing["value"] for firing in found[5]}) < len(found[5]) / 3
    shown = {
        ids[token]
        for record, ids in records(pages(codes).latent_shards())
        for group in record["groups"]
        for example in group["examples"]
        for token in example["tokens"]
    }
    assert 1 in shown  # special
    assert 0 not in shown  # padding


@pytest.mark.parametrize("memory", [1, 400, 2000, 10_000])
def test_buckets_change_nothing(memory):
    codes = some_codes()
    whole = pages(codes)
    expected = [list(whole.latent_shards()), list(whole.index_shards()), list(whole.search_shards())]
    reads = codes.read
    parted = pages(codes, replace(SETTINGS, memory_bytes=memory))
    assert [list(parted.latent_shards()), list(parted.index_shards()), list(parted.search_shards())] == expected
    if memory == 1:
        assert codes.read - reads == 5 * len(codes)  # to count, for co-activation, and for each of three buckets


def test_chunks_change_nothing():
    expected = list(pages(some_codes(chunk_blocks=12)).latent_shards())
    for chunk_blocks in (1, 7):
        assert list(pages(some_codes(chunk_blocks=chunk_blocks)).latent_shards()) == expected


def test_file_sizes_change_no_record():
    codes = some_codes()
    expected = [record for record, _ in records(pages(codes).latent_shards())]
    for size in (1, 11, 100):
        shards = list(pages(codes, replace(SETTINGS, latents_size=size)).latent_shards())
        assert [shard["first"] for shard in shards] == list(range(0, codes.num_latents, size))
        again = [record for record, _ in records(shards)]
        assert [strip(record) for record in again] == [strip(record) for record in expected]


def strip(record):
    """Without places of tokens, which differ between files."""
    numbers = {**record, "tokens": [{**entry, "token": 0} for entry in record["tokens"]]}
    groups = [{**group, "examples": [{**one, "tokens": 0} for one in group["examples"]]} for group in record["groups"]]
    return {**numbers, "groups": groups}


def test_another_seed_draws_other_examples_and_the_same_top():
    codes = some_codes(blocks=40)
    first, second = (list(pages(codes, replace(SETTINGS, seed=seed)).latent_shards()) for seed in (0, 1))
    (one, _), (two, _) = list(records(first))[3], list(records(second))[3]
    assert one["groups"][0] == two["groups"][0]
    assert one["groups"][-1] != two["groups"][-1]
    assert one["groups"][3] != two["groups"][3]


def test_records_are_json_without_nan():
    text = json.dumps(list(pages(some_codes()).latent_shards()), allow_nan=False)
    assert "NaN" not in text


def test_codes_of_another_sae_are_refused():
    with pytest.raises(UserError, match="The codes are of 11 latents, the SAE has 12"):
        pages(some_codes(), sae=relu(12))


def test_an_unembedding_of_another_width_is_refused():
    with pytest.raises(UserError, match="The SAE writes 6 dimensions, the residual stream has 7"):
        pages(some_codes(), unembedding=torch.zeros(19, 7))


def test_a_text_on_which_nothing_fires():
    blocks = some_blocks()
    codes = MemoryCodes(blocks, torch.zeros(blocks.num_rows, 3), effects=True, chunk_blocks=5)
    found = pages(codes)
    (shard,) = found.latent_shards()
    assert [record["fired"] for record in shard["latents"]] == [0, 0, 0]
    assert all(record["groups"] == [] and record["max"] is None for record in shard["latents"])
    (index,) = found.index_shards()
    assert sorted(index["columns"]) == ["decoder_norm", "density", "top_token"]
    assert found.map[1] is None


@settings(max_examples=20)
@given(
    blocks=st.integers(1, 9),
    context=st.integers(7, 20),
    seed=st.integers(0, 2**32),
    before=st.integers(0, 7),
    after=st.integers(0, 7),
    intervals=st.integers(1, 4),
    chunk_blocks=st.integers(1, 4),
)
def test_groups_of_any_text_equal_their_twin(blocks, context, seed, before, after, intervals, chunk_blocks):
    codes = some_codes(blocks=blocks, context=context, seed=seed % 2**31, chunk_blocks=chunk_blocks)
    chosen = replace(
        SETTINGS, seed=seed, window_before=before, window_after=after, intervals=intervals, top=3, per_interval=2, random=4
    )
    found = twin.firings(codes)
    for record, _ in records(pages(codes, chosen).latent_shards()):
        expected = twin.groups(found[record["latent"]], record["latent"], chosen)
        for group, (*_, firings) in zip(record["groups"], expected, strict=True):
            seen = [(example["block"], example["start"] + example["peak"]) for example in group["examples"]]
            assert seen == [(firing["block"], firing["position"]) for firing in firings]
