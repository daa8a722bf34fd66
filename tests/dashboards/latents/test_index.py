import base64
import math
from dataclasses import replace

import numpy as np
import pytest

from sae.dashboards.latents.explanations import read_explanations
from tests.dashboards.latents.synthetic import some_codes
from tests.dashboards.latents.test_pages import SETTINGS, pages
from tests.reference import dashboards as twin

KINDS = {"f32": "<f4", "i32": "<i4", "u8": "u1"}


def column(shard, name):
    held = shard["columns"][name]
    return np.frombuffer(base64.b64decode(held["data"]), dtype=KINDS[held["type"]])


def explained(folder, latents=11):
    path = folder / "explanations.jsonl"
    path.write_text(
        '{"latent": 3, "text": "one", "source": "a", "score": 0.25}\n'
        '\n{"latent": 3, "text": "two", "source": "b", "score": 0.75}\n'
        '{"latent": 10, "text": "three", "source": "a", "score": null}\r\n'
        '{"latent": 10, "text": "four\u2028", "source": "a"}\n'
        '{"latent": 4, "name": "probe", "value": 1}'
    )
    return read_explanations(path, latents)


@pytest.mark.parametrize("size", [1, 4, 8192])
def test_columns_equal_their_twin(tmp_path, size):
    codes = some_codes()
    found = pages(codes, replace(SETTINGS, index_size=size), explanations=explained(tmp_path))
    shards, firings = list(found.index_shards()), twin.firings(codes)
    assert [shard["first"] for shard in shards] == list(range(0, 11, size))
    assert found.columns == list(shards[0]["columns"])
    names = "density max mean decoder_norm concentration entropy effect x y score effect_exact top_token"
    assert found.columns == names.split()
    for i, own in enumerate(firings):
        shard = shards[i // size]
        numbers = {name: column(shard, name)[i % size].item() for name in found.columns}
        expected = twin.statistics(own, codes.blocks.num_rows, SETTINGS.bins)
        tokens, concentration, entropy = twin.token_statistics(own, 1)
        expected |= {"concentration": concentration, "entropy": entropy, "score": {3: 0.75}.get(i, math.nan)}
        assert numbers["effect_exact"] == 0
        for name in ("density", "max", "mean", "effect", "concentration", "entropy", "score"):
            assert numbers[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-7, nan_ok=True), (i, name)
        ids = [string["id"] for string in shard["strings"]]
        assert (ids[numbers["top_token"]] if own else -1) == (tokens[0][0] if own else numbers["top_token"])
        assert math.isnan(numbers["x"]) == (not own)
    words = {latent: text for shard in shards for latent, text in shard["explanations"].items()}
    assert words == {"3": "two", "10": "three"}


def test_exact_effects_take_the_place_of_estimates_and_say_so():
    codes = some_codes()
    settings = replace(SETTINGS, index_size=4)
    plain, found = pages(codes, settings), pages(codes, settings)
    found.put_exact_effects({2: 0.25, 9: 0.0})
    for before, after in zip(plain.index_shards(), found.index_shards(), strict=True):
        for place, latent in enumerate(range(after["first"], min(after["first"] + 4, 11))):
            expected = {2: 0.25, 9: 0.0}.get(latent, column(before, "effect")[place].item())
            assert column(after, "effect")[place].item() == pytest.approx(expected, nan_ok=True)
            assert column(after, "effect_exact")[place].item() == (latent in (2, 9))


def test_columns_without_numbers_are_left_out():
    found = pages(some_codes(effects=False))
    assert not {"effect", "effect_exact"} & set(found.columns)
    assert "score" not in found.columns


@pytest.mark.parametrize("size", [3, 8192])
def test_the_search_holds_tokens_and_words_around_the_strongest(size):
    codes = some_codes(blocks=20, context=40)
    settings = replace(SETTINGS, search_size=size, window_before=20, window_after=20)
    shards = list(pages(codes, settings).search_shards())
    for i, own in enumerate(twin.firings(codes)):
        shard = shards[i // size]
        ids = [string["id"] for string in shard["strings"]]
        tokens, *_ = twin.token_statistics(own, settings.tokens)
        assert [ids[place] for place in shard["tokens"][i % size]] == [token for token, *_ in tokens]
        expected = []
        for firing in twin.groups(own, i, settings)[0][4][:3] if own else []:
            _, peak, shown, *_ = twin.window(firing, own, codes.blocks, settings)
            expected.append("".join(f"<{token}>" for token in shown[max(peak - 8, 0) : peak + 9]))
        assert shard["snippets"][i % size] == " … ".join(expected)


def test_explanations_stand_on_their_latent_s_page(tmp_path):
    records = [
        one for shard in pages(some_codes(), explanations=explained(tmp_path)).latent_shards() for one in shard["latents"]
    ]
    assert records[3]["explanations"] == [
        {"text": "one", "source": "a", "score": 0.25},
        {"text": "two", "source": "b", "score": 0.75},
    ]
    assert records[10]["explanations"][1]["text"] == "four\u2028"
    assert records[4]["scores"] == [{"name": "probe", "value": 1.0}]
    assert records[5]["explanations"] == records[5]["scores"] == []
