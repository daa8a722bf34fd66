"""The whole folder of a dashboard of factors from a tiny model, and what the server answers about it."""

import json

import numpy as np
import pytest
import torch

from sae.activations.texts import token_blocks
from sae.dashboards.collect.collector import collect
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.live.requests import LIMITS
from sae.dashboards.pages.folder import Dashboard
from sae.dashboards.pages.shards import read_script
from sae.factors import write as write_module
from sae.factors.layers import Layer
from sae.factors.levels import LEVEL_RULE
from sae.factors.live import FactorAnswers
from sae.factors.paths import PathReader
from sae.factors.saliency.agreement import mean_or_none, rank_correlation, same_top
from sae.factors.saliency.leave_one_out import leave_one_out
from sae.factors.saliency.plan import plan_saliency
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.targets import target_of
from sae.factors.settings import FactorSettings
from sae.factors.write import FactorAbout, write_factor_dashboard
from tests.dashboards.collect.mixed import LAYERS, MIXED, mixed
from tests.dashboards.collect.texts import LATENTS, make_blocks
from tests.dashboards.live.subjects import TEXT
from tests.factors.subjects import subject_of
from tests.reference import collected as twin

SETTINGS = FactorSettings(
    pages=PageSettings(top=3, window_before=3, window_after=2, latents_size=4, tokens=3), importance_top=5, strongest=4
)
SALIENCY = SaliencySettings(contexts=9, lime_factors=(2,), lime_contexts=2, copies=12, steps=3, compared=4)
ABOUT = FactorAbout(
    title="tiny",
    sae={"architecture": "relu", "d_sae": LATENTS},
    model="tiny",
    source="words",
    method="relu",
    run_page="run.html",
    sweep_page="sweep.html",
)
HOSTILE = "</script><img src=x onerror=alert(1)>\ud800\u2028"


WORD = 52  # a token that occurs twice
HOSTILE_TOKENS = {7, int(make_blocks().ids[1, 1])}  # of the typed text and of the collected one


def hostile(token):
    return f" {HOSTILE if token in HOSTILE_TOKENS else f't{token}'}"


def hostile_text(ids):
    return [hostile(token) for token in ids]


def write(folder, subject, codes, saliency, told, **changes):
    settings = {
        "layers": [Layer(name=name, number=number) for name, number in zip(LAYERS, (None, 0, 2), strict=True)],
        "about": ABOUT,
        "settings": SETTINGS,
        "unembedding": None,
        "text_of": hostile,
        "texts_of": hostile_text,
        "read_as": str,
        "words": [],
        "texts": [],
        "beside": {"index.html": b"<!doctype html>"},
        "on_factors": lambda done, total: None,
        "on_contexts": lambda done, total: told.append((done, total)),
    }
    return write_factor_dashboard(
        folder, codes=codes, sae=subject.sae, subject=subject, saliency=saliency, **{**settings, **changes}
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("factors")
    subject, blocks = subject_of("llama"), make_blocks()
    codes = collect(
        folder / "collected",
        sae=subject.sae,
        source=mixed(subject.model, subject.points),
        hook_points=[MIXED],
        layers=LAYERS,
        blocks=blocks,
        belongs_to={"model": "tiny"},
        chunk_blocks=3,
        effects=None,
    )
    told, chosen = [], []
    written = write(
        folder,
        subject,
        codes,
        SALIENCY,
        told,
        words=[f"t{WORD}", "nowhere"],
        texts=[TEXT],
        on_chosen=lambda *numbers: chosen.append(numbers),
    )
    return folder, subject, blocks, codes, written, told, chosen


def answers_of(subject, collected, limits=LIMITS):
    """What a server of these pages answers with."""
    return FactorAnswers(
        subject,
        text_of=hostile,
        texts_of=hostile_text,
        read_as=str,
        settings=SETTINGS,
        saliency=SALIENCY,
        limits=limits,
        collected=collected,
    )


def read(folder, key):
    found, payload = read_script((folder / "data" / f"{key}.js").read_bytes())
    assert found == key
    return payload


def records_in(folder):
    return [record for number in range(4) for record in read(folder, f"factors/{number}")["factors"]]


def shown_in(folder):
    """Contexts on all pages."""
    return sum(len(page["contexts"]) for record in records_in(folder) for page in record["layers"])


def test_every_file_that_the_manifest_names_is_there(built):
    folder, _, blocks, codes, written, told, chosen = built
    manifest = Dashboard(folder).manifest
    info = manifest["factors"]
    assert manifest == json.loads(json.dumps(written.manifest))
    assert (manifest["num_latents"], manifest["rows"], manifest["context"]) == (LATENTS, blocks.num_rows, 16)
    assert manifest["documents"] == blocks.num_documents
    assert [layer["name"] for layer in info["layers"]] == list(LAYERS)
    assert (manifest["title"], manifest["sae"], manifest["model"]) == (ABOUT.title, ABOUT.sae, ABOUT.model)
    assert (manifest["source"], info["method"], manifest["hook_point"]) == (ABOUT.source, ABOUT.method, ", ".join(LAYERS))
    assert (manifest["blocks"], manifest["window"]) == (len(blocks), [3, 2])
    assert (manifest["run_page"], manifest["sweep_page"]) == (ABOUT.run_page, ABOUT.sweep_page)
    for name in ("index_size", "latents_size", "search_size", "ultra_low"):
        assert manifest[name] == getattr(SETTINGS.pages, name)
    assert sum(layer["l0"] * layer["rows"] for layer in info["layers"]) == pytest.approx(codes.num_entries)
    assert (info["importance_top"], info["contexts"], info["size"], info["level_rule"]) == (5, 3, 4, LEVEL_RULE)
    assert info["saliency"] == {"method": "leave_one_out", "measured": 9, "shown": shown_in(folder)}
    assert chosen == [(9, shown_in(folder), pytest.approx(chosen[0][2]))]
    assert (info["words"], len(info["paths"])) == ([f"t{WORD}", "nowhere"], 1)
    records = records_in(folder)
    assert [record["factor"] for record in records] == list(range(LATENTS))
    assert manifest["dead"] == sum(record["fired"] == 0 for record in records)
    for kind in ("index/0", "search/0", "words/0", "words/1", "paths/0"):
        assert read(folder, kind)
    assert written.size == sum(path.stat().st_size for path in (folder / "data").rglob("*.js"))
    assert (folder / "index.html").exists()
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 9
    for path in (folder / "data").rglob("*.js"):
        assert b"<" not in path.read_bytes()


def test_saliency_stands_at_the_strongest_contexts(built):
    folder, subject, blocks, *_ = built
    by_rank, lime, reader = {}, 0, ActivationReader(subject)
    for record in records_in(folder):
        for layer, page in enumerate(record["layers"]):
            for rank, context in enumerate(page["contexts"]):
                methods = [one["method"] for one in context["saliency"]]
                assert methods in ([], ["leave_one_out"], ["leave_one_out", "integrated_gradients"], [*CHEAP, "lime"])
                lime += "lime" in methods
                by_rank.setdefault((rank, layer != record["peak_layer"]), []).append(bool(methods))
                for one in context["saliency"]:
                    assert len(one["weights"]) == len(context["tokens"])
                if methods:
                    check_weights(context, record["factor"], layer, reader, blocks)
    assert lime == 2
    assert sum(by_rank[0, False]) == 9
    assert not any(by_rank[1, True])


@pytest.mark.parametrize("batch_tokens", [4096, 6])
def test_by_default_every_context_has_it(built, tmp_path, batch_tokens):
    _, subject, blocks, codes, *_ = built
    told, made = [], []
    settings = SaliencySettings(compared=0, batch_tokens=batch_tokens)
    written = write(tmp_path, subject, codes, settings, told, on_factors=lambda *numbers: made.append(numbers))
    info, total = written.manifest["factors"], shown_in(tmp_path)
    assert made == [(done, LATENTS) for done in (0, 4, 8, 12, LATENTS)]
    assert info["saliency"] == {"method": "leave_one_out", "measured": total, "shown": total}
    reader = ActivationReader(subject)
    for record in records_in(tmp_path):
        for layer, page in enumerate(record["layers"]):
            for context in page["contexts"]:
                assert [one["method"] for one in context["saliency"]] == ["leave_one_out"]
                check_weights(context, record["factor"], layer, reader, blocks)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told.count((total, total)) == 1  # once all is written
    assert len({done for done, _ in told}) == 1 + len(blocks) - 1  # none, then after each block that has tokens
    assert (len(told) > 2 * len(blocks)) == (batch_tokens == 6)  # a stop is heeded after each pass


def test_a_way_by_a_shortlist_is_named_and_compared_with_the_exact_one(built, tmp_path):
    _, subject, _, codes, *_ = built
    settings = SaliencySettings(method="leave_one_out_shortlist", compared=4)
    info, total = write(tmp_path, subject, codes, settings, []).manifest["factors"], shown_in(tmp_path)
    assert info["saliency"] == {"method": "leave_one_out_shortlist", "measured": total, "shown": total}
    pairs = {(one["first"], one["second"]): one for one in info["agreement"]}
    ways = ["leave_one_out_shortlist", *CHEAP]
    assert set(pairs) == {(ways[0], ways[1]), (ways[0], ways[2]), (ways[1], ways[2])}
    same = pairs[ways[0], ways[1]]
    assert (same["contexts"], same["correlation"], same["same_top"]) == (
        4,
        pytest.approx(1),
        1,
    )  # an encoder takes no shortlist
    found = [
        [one["method"] for one in context["saliency"]]
        for record in records_in(tmp_path)
        for page in record["layers"]
        for context in page["contexts"]
    ]
    assert sorted(found) == sorted([ways] * 4 + [ways[:1]] * (total - 4))


def test_without_time_pages_come_without(built, tmp_path, monkeypatch):
    _, subject, _, codes, *_ = built
    windows = []

    def plans(*args, window, **keywords):
        windows.append(window)
        return plan_saliency(*args, window=window, **keywords)

    monkeypatch.setattr(write_module, "plan_saliency", plans)
    info = write(tmp_path, subject, codes, SaliencySettings(compared=0, minutes=1e-9), []).manifest["factors"]
    assert info["saliency"] == {"method": "leave_one_out", "measured": 0, "shown": shown_in(tmp_path)}
    assert not any(one["saliency"] for record in records_in(tmp_path) for page in record["layers"] for one in page["contexts"])
    assert windows == [(3, 2)]
    for settings in (None, SaliencySettings(method="none")):
        info = write(tmp_path, subject, codes, settings, []).manifest["factors"]
        assert info["saliency"] == {"method": None, "measured": 0, "shown": shown_in(tmp_path)}


def test_a_stop_leaves_no_pages_and_the_next_run_makes_the_same(built, tmp_path):
    _, subject, _, codes, *_ = built
    settings = SaliencySettings(compared=0, batch_tokens=6)
    write(tmp_path / "whole", subject, codes, settings, [])

    class Stop(Exception):
        pass

    class Stopping(list):
        def append(self, told):
            super().append(told)
            if len(self) == 5:
                raise Stop

    with pytest.raises(Stop):
        write(tmp_path / "again", subject, codes, settings, Stopping())
    assert not (tmp_path / "again" / "data").exists()
    write(tmp_path / "again", subject, codes, settings, [])
    whole, again = (
        {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in (tmp_path / name / "data").rglob("*.js")}
        for name in ("whole", "again")
    )
    assert whole == again


CHEAP = ["leave_one_out", "integrated_gradients"]


def check_weights(context, factor, layer, reader, blocks):
    block = blocks.select(torch.tensor([context["block"]]))
    position = context["start"] + context["peak"]
    target = target_of(reader.subject.model, block, position=position, layer=layer, factor=factor)
    (expected,) = leave_one_out(reader, [target])
    weights = context["saliency"][0]["weights"]
    shown = expected[context["start"] : context["start"] + len(weights)]
    assert weights[: len(shown)] == pytest.approx(shown, rel=1e-3, abs=1e-6)
    assert not any(weights[context["peak"] + 1 :])  # a decoder sees no later token


def test_ways_are_compared_where_several_were_used(built):
    folder, _, blocks, _, written, *_ = built
    agreement = written.manifest["factors"]["agreement"]
    pairs = {(one["first"], one["second"]): one for one in agreement}
    assert list(pairs) == sorted({tuple(CHEAP), ("leave_one_out", "lime"), ("integrated_gradients", "lime")})
    assert pairs["leave_one_out", "lime"]["contexts"] == 2
    shown = {
        (rank, layer != record["peak_layer"], record["factor"], layer): context
        for record in records_in(folder)
        for layer, page in enumerate(record["layers"])
        for rank, context in enumerate(page["contexts"])
    }
    named = {place for place, context in shown.items() if "lime" in [way["method"] for way in context["saliency"]]}
    compared = {place for place, context in shown.items() if len(context["saliency"]) > 1}
    assert {place[:3] for place in named} == {(0, False, 2), (1, False, 2)}  # the strongest two at the layer of its peak
    assert compared == {*sorted(shown)[: SALIENCY.compared], *named}
    assert pairs[tuple(CHEAP)]["contexts"] == len(compared)
    correlations, tops = zip(*(agree(shown[place], blocks.keep[shown[place]["block"]]) for place in compared), strict=True)
    assert pairs[tuple(CHEAP)]["correlation"] == pytest.approx(mean_or_none(correlations), abs=0.01)
    assert pairs[tuple(CHEAP)]["same_top"] == pytest.approx(mean_or_none(tops))


def agree(context, keep):
    """How two ways agree on the tokens that are shown, not special and not after the one that fires."""
    places = [place for place in range(context["peak"] + 1) if keep[context["start"] + place]]
    one, two = (np.array(way["weights"])[places] for way in context["saliency"][:2])
    return rank_correlation(one, two), same_top(one, two, places.index(context["peak"]))


def test_a_text_s_path_lists_the_factors_of_each_layer(built):
    folder, subject, *_ = built
    page = read(folder, "paths/0")
    assert page["title"] == page["text"] == TEXT
    again = PathReader(subject, texts_of=hostile_text, strongest=4).page(TEXT)
    assert page["tokens"] == json.loads(json.dumps(again["tokens"]))
    (first, *others) = page["tokens"]
    assert (first["kept"], first["layers"]) == (False, [])
    rows = mixed(subject.model, subject.points).rows
    read_blocks = token_blocks(subject.model, TEXT)
    x = rows(read_blocks, torch.tensor([0])).values[MIXED]
    codes = twin.codes(subject.sae, x[None], torch.ones(1, len(x), dtype=torch.bool))
    for number, token in enumerate(others):
        for layer, listed in enumerate(token["layers"]):
            own = sorted(codes[3 * number + layer].items(), key=lambda pair: (-pair[1], pair[0]))[:4]
            assert [entry["factor"] for entry in listed] == [factor for factor, _ in own]
            assert [entry["activation"] for entry in listed] == pytest.approx([value for _, value in own], rel=1e-3)


def test_texts_and_saliency_need_a_subject(built, tmp_path):
    _, subject, _, codes, *_ = built
    with pytest.raises(ValueError, match="with a subject: give one"):
        write_factor_dashboard(
            tmp_path,
            codes=codes,
            sae=subject.sae,
            layers=[Layer(name=name) for name in LAYERS],
            about=ABOUT,
            settings=SETTINGS,
            unembedding=None,
            text_of=str,
            texts_of=hostile_text,
            read_as=str,
            words=[],
            texts=["a"],
            subject=None,
            beside={},
            on_factors=lambda done, total: None,
        )
    assert not list(tmp_path.iterdir())
