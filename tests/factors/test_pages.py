"""Every number of factors' pages against a twin that looks at one firing at a time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae.dashboards.latents.by_latent import count, gather
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.pages.shards import column_values
from sae.errors import UserError
from sae.factors.importance import strongest, top_entries
from sae.factors.layers import Layer, by_layer
from sae.factors.levels import LEVELS
from sae.factors.records import FactorPages
from sae.factors.settings import FactorSettings
from tests.dashboards.latents.synthetic import MemoryCodes, some_blocks
from tests.dashboards.latents.test_pages import D_IN, near, relu
from tests.factors.synthetic import FACTORS, LAYERS, some_layer_codes
from tests.reference import dashboards as common
from tests.reference import factors as twin

PAGES = PageSettings(top=4, window_before=3, window_after=2, bins=7, tokens=3, latents_size=4, neighbours=3, logits=2)
SETTINGS = FactorSettings(pages=PAGES, importance_top=6)
NAMES = [Layer(name=f"layer {number}", number=number or None, fvu=0.1 * number) for number in range(LAYERS)]


def pages(codes, settings=SETTINGS, *, layers=NAMES, sae=None, unembedding=None):
    return FactorPages(
        codes,
        sae or relu(codes.num_latents),
        layers=layers,
        settings=settings,
        unembedding=unembedding,
        text_of=lambda token: f"<{token}>",
    )


def records(shards):
    for shard in shards:
        ids = [string["id"] for string in shard["strings"]]
        assert ids == sorted(set(ids))
        yield from ((record, ids) for record in shard["factors"])


@pytest.mark.parametrize("seed", [0, 1])
def test_pages_equal_their_twin(seed):
    codes = some_layer_codes(seed=seed)
    found, rows = twin.by_layer(codes, LAYERS), codes.blocks.num_rows
    seen = list(records(pages(codes).factor_shards()))
    assert [record["factor"] for record, _ in seen] == list(range(FACTORS))
    levels = set()
    for (record, ids), own in zip(seen, found, strict=True):
        every = [firing for layer in own for firing in layer]
        expected = common.statistics(every, rows * LAYERS, PAGES.bins)
        assert record["fired"] == expected["fired"]
        assert near(record["density"], expected["density"])
        assert near(record["max"], expected["max"])
        assert record["histogram"]["counts"] == (expected["histogram"] if every else [])
        _, concentration, entropy = common.token_statistics(every, 3)
        assert near(record["concentration"], concentration)
        assert near(record["entropy"], entropy)
        curve = [twin.importance(layer, 6, rows) for layer in own]
        assert (record["level"], record["peak_layer"]) == twin.level(curve)
        levels.add(record["level"])
        assert len(record["layers"]) == LAYERS
        for page, firings, height in zip(record["layers"], own, curve, strict=True):
            check_layer(page, ids, firings, height, codes.blocks)
    assert levels >= {"low", "mid", "high", None}


def check_layer(page, ids, firings, height, blocks):
    assert page["fired"] == len(firings)
    assert near(page["max"], max((one["value"] for one in firings), default=math.nan))
    assert near(page["importance"], height if firings else math.nan)
    tokens, _, _ = common.token_statistics(firings, PAGES.tokens)
    assert [(ids[entry["token"]], entry["count"]) for entry in page["tokens"]] == [entry[:2] for entry in tokens]
    chosen = twin.contexts(firings, PAGES)
    assert len(page["contexts"]) == len(chosen)
    for context, firing in zip(page["contexts"], chosen, strict=True):
        start, peak, shown, places, acts, _ = common.window(firing, firings, blocks, PAGES)
        assert (context["document"], context["block"]) == (firing["document"], firing["block"])
        assert (context["start"], context["peak"]) == (start, peak)
        assert [ids[token] for token in context["tokens"]] == shown
        assert context["places"] == places
        assert all(map(near, context["acts"], acts))
        assert context["saliency"] == []


def test_importance_of_more_tokens_than_there_are_is_the_mean_of_all():
    codes = some_layer_codes()
    rows = codes.blocks.num_rows
    found = pages(codes, replace(SETTINGS, importance_top=10 * rows)).factor_shards()
    for (record, _), own in zip(records(found), twin.by_layer(codes, LAYERS), strict=True):
        for page, firings in zip(record["layers"], own, strict=True):
            assert near(page["importance"], twin.importance(firings, 10 * rows, rows) if firings else math.nan)


def test_pages_hold_what_weights_say():
    codes = some_layer_codes()
    sae, unembedding = relu(FACTORS), torch.linspace(-1, 1, 19 * D_IN).view(19, D_IN).cos()
    W_dec = sae.W_dec.detach().double().numpy()
    for record, ids in records(pages(codes, sae=sae, unembedding=unembedding).factor_shards()):
        i = record["factor"]
        assert near(record["decoder_norm"], float(np.linalg.norm(W_dec[i])))
        assert [one["latent"] for one in record["neighbours"]] == [number for number, _ in common.cosines(W_dec, i, 3)]
        weights = unembedding.double().numpy() @ W_dec[i]
        assert [ids[token] for token, _ in record["logits"]["raised"]] == [n for n, _ in common.best(enumerate(weights), 2)]


@pytest.mark.parametrize("chunk_blocks", [1, 5, 12])
def test_top_tokens_are_exact_however_the_text_is_cut(chunk_blocks):
    codes = some_layer_codes(chunk_blocks=chunk_blocks)
    counted = count(codes)
    entries = by_layer(gather(codes, counted.fired, 0, FACTORS), LAYERS)
    chosen = top_entries(entries, strongest(entries), 7)
    found = [[] for _ in range(len(entries))]
    for entry in chosen.tolist():
        found[entries.latents[entry]].append((int(entries.rows[entry]), float(entries.values[entry])))
    for factor, own in enumerate(twin.by_layer(codes, LAYERS)):
        for layer, firings in enumerate(own):
            best = sorted(firings, key=lambda firing: (-firing["value"], firing["row"]))[:7]
            assert found[factor * LAYERS + layer] == [(firing["row"], firing["value"]) for firing in best]


@pytest.mark.parametrize("change", ["chunks of one block", "one chunk", "no memory", "files of one factor"])
def test_how_the_work_is_cut_changes_no_record(change):
    expected = pages(some_layer_codes())
    codes = some_layer_codes(chunk_blocks={"chunks of one block": 1, "one chunk": 12}.get(change, 5))
    settings = {
        "no memory": replace(SETTINGS, pages=replace(PAGES, memory_bytes=1)),
        "files of one factor": replace(SETTINGS, pages=replace(PAGES, latents_size=1)),
    }.get(change, SETTINGS)
    found = pages(codes, settings)

    def without_places(shards):  # of tokens in their file, which differ between files
        text = []
        for record, ids in records(shards):
            for layer in record["layers"]:
                for entry in layer["tokens"]:
                    entry["token"] = ids[entry["token"]]
                for context in layer["contexts"]:
                    context["tokens"] = [ids[token] for token in context["tokens"]]
            text.append(json.dumps(record, allow_nan=False))
        return text

    assert without_places(found.factor_shards()) == without_places(expected.factor_shards())
    assert list(found.index_shards()) == list(expected.index_shards())
    assert list(found.search_shards()) == list(expected.search_shards())


def test_the_index_repeats_the_pages():
    codes = some_layer_codes()
    found = pages(codes)
    seen = [record for record, _ in records(found.factor_shards())]
    (index,), (search,) = found.index_shards(), found.search_shards()
    columns = {name: column_values(value) for name, value in index["columns"].items()}
    assert set(found.columns) == set(columns)
    assert {"level", "peak_layer", "importance", "top_token", "x", "y"} <= set(columns)
    for i, record in enumerate(seen):
        fires = record["fired"] > 0
        assert columns["level"][i] == (LEVELS.index(record["level"]) if fires else -1)
        assert columns["peak_layer"][i] == (record["peak_layer"] if fires else -1)
        height = record["layers"][record["peak_layer"]]["importance"] if fires else None
        assert near(height, float(columns["importance"][i]))
        for name in ("density", "max", "concentration", "entropy", "decoder_norm"):
            assert near(record[name], float(columns[name][i]))
        assert (columns["top_token"][i] >= 0) == fires
        assert (search["snippets"][i] != "") == fires
        assert np.isfinite([columns["x"][i], columns["y"][i]]).all() == fires
    assert {columns[name].dtype.kind for name in ("level", "peak_layer")} == {"i"}
    record = seen[3]
    contexts = record["layers"][record["peak_layer"]]["contexts"]
    words = search["snippets"][3].split(" … ")
    assert words[0].count("<") == len(contexts[0]["tokens"])
    assert len(words) == min(3, len(contexts)) > 1


def test_layers_say_how_much_is_active_there():
    codes = some_layer_codes()
    found, infos = twin.by_layer(codes, LAYERS), pages(codes).layer_infos
    for number, info in enumerate(infos):
        active = sum(len(own[number]) for own in found)
        assert (info["name"], info["number"]) == (f"layer {number}", number or None)
        assert (info["rows"], info["fvu"]) == (codes.blocks.num_rows, 0.1 * number)
        assert info["l0"] == pytest.approx(active / codes.blocks.num_rows)


def test_codes_of_another_dictionary_or_of_other_layers_are_refused():
    with pytest.raises(UserError, match="The codes are of 11 factors, the dictionary has 12"):
        pages(some_layer_codes(), sae=relu(12))
    with pytest.raises(UserError, match="3 layers were named"):
        pages(some_layer_codes(), layers=NAMES[:3])
    with pytest.raises(UserError, match="importance_top=0"):
        FactorSettings(importance_top=0)


def test_a_text_on_which_nothing_fires():
    blocks = some_blocks()
    codes = MemoryCodes(blocks, torch.zeros(blocks.num_rows * LAYERS, 3), effects=False, chunk_blocks=5, layers=LAYERS)
    found = pages(codes)
    (shard,) = found.factor_shards()
    for record in shard["factors"]:
        assert (record["level"], record["peak_layer"], record["max"]) == (None, None, None)
        assert all(layer["contexts"] == [] and layer["importance"] is None for layer in record["layers"])
    assert found.map[1] is None


def test_contexts_and_snippets_are_read_together():
    codes = some_layer_codes(seed=0)
    made = FactorPages(
        codes,
        relu(codes.num_latents),
        layers=NAMES,
        settings=SETTINGS,
        unembedding=None,
        text_of=lambda token: f"\\x{token}",
        texts_of=lambda tokens: [f"{place}:{token}" for place, token in enumerate(tokens)],
    )
    (shard, *_) = made.factor_shards()
    (record, *_) = [one for one in shard["factors"] if one["fired"]]
    (context, *_) = [context for layer in record["layers"] for context in layer["contexts"]]
    shown = [shard["strings"][place] for place in context["tokens"]]
    assert [one["text"] for one in shown] == [f"{place}:{one['id']}" for place, one in enumerate(shown)]
    assert next(made.search_shards())["snippets"][record["factor"]].startswith("0:")
