"""Every number of latents' pages against a twin that looks at one firing at a time."""

import json
import math
from dataclasses import replace

import pytest

from sae.architectures.relu import ReLUSAE
from sae.dashboards.latents.records import LatentPages, PageSettings
from tests.cases import ramp
from tests.dashboards.latents.synthetic import some_codes
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
        assert codes.read - reads == 4 * len(codes)  # to count, and for each of three buckets


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
    with pytest.raises(ValueError, match="The codes are of 11 latents, the SAE has 12"):
        pages(some_codes(), sae=relu(12))
