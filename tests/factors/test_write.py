"""The whole folder of a dashboard of factors from a tiny model, and what the server answers about it."""

import json

import pytest
import torch
from starlette.testclient import TestClient

from sae.activations.texts import token_blocks
from sae.dashboards.collect.collector import collect
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.live.requests import LIMITS
from sae.dashboards.live.server import application
from sae.dashboards.pages.folder import Dashboard
from sae.dashboards.pages.shards import read_script
from sae.factors.layers import Layer
from sae.factors.levels import LEVEL_RULE
from sae.factors.live import FactorAnswers
from sae.factors.paths import PathReader
from sae.factors.saliency.cheap import leave_one_out
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
ABOUT = FactorAbout(title="tiny", sae={"architecture": "relu", "d_sae": LATENTS}, model="tiny", source="words", method="relu")
HOSTILE = "</script><img src=x onerror=alert(1)>\ud800\u2028"


WORD = 52  # a token that occurs twice
HOSTILE_TOKENS = {7, int(make_blocks().ids[1, 1])}  # of the typed text and of the collected one


def hostile(token):
    return f" {HOSTILE if token in HOSTILE_TOKENS else f't{token}'}"


def hostile_text(ids):
    return [hostile(token) for token in ids]


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
    told = []
    written = write_factor_dashboard(
        folder,
        codes=codes,
        sae=subject.sae,
        layers=[Layer(name=name, number=number) for name, number in zip(LAYERS, (None, 0, 2), strict=True)],
        about=ABOUT,
        settings=SETTINGS,
        unembedding=None,
        text_of=hostile,
        texts_of=hostile_text,
        words=[f"t{WORD}", "nowhere"],
        texts=[TEXT],
        subject=subject,
        beside={"index.html": b"<!doctype html>"},
        saliency=SALIENCY,
        on_factors=lambda done, total: None,
        on_contexts=lambda done, total: told.append((done, total)),
    )
    return folder, subject, blocks, codes, written, told


def read(folder, key):
    found, payload = read_script((folder / "data" / f"{key}.js").read_bytes())
    assert found == key
    return payload


def test_every_file_that_the_manifest_names_is_there(built):
    folder, _, blocks, codes, written, told = built
    manifest = Dashboard(folder).manifest
    info = manifest["factors"]
    assert manifest == json.loads(json.dumps(written.manifest))
    assert (manifest["num_latents"], manifest["rows"], manifest["context"]) == (LATENTS, blocks.num_rows, 16)
    assert manifest["documents"] == blocks.num_documents
    assert [layer["name"] for layer in info["layers"]] == list(LAYERS)
    assert sum(layer["l0"] * layer["rows"] for layer in info["layers"]) == pytest.approx(codes.num_entries)
    assert (info["importance_top"], info["contexts"], info["size"], info["level_rule"]) == (5, 3, 4, LEVEL_RULE)
    assert (info["words"], len(info["paths"])) == ([f"t{WORD}", "nowhere"], 1)
    shards = [read(folder, f"factors/{number}") for number in range(4)]
    assert [record["factor"] for shard in shards for record in shard["factors"]] == list(range(LATENTS))
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
    for number in range(4):
        for record in read(folder, f"factors/{number}")["factors"]:
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
    agreement = built[4].manifest["factors"]["agreement"]
    pairs = {(one["first"], one["second"]): one for one in agreement}
    assert set(pairs) == {tuple(CHEAP), ("leave_one_out", "lime"), ("integrated_gradients", "lime")}
    assert pairs["leave_one_out", "lime"]["contexts"] == 2
    assert pairs[tuple(CHEAP)]["contexts"] in (4, 5, 6)
    assert all(one["same_top"] is None or 0 <= one["same_top"] <= 1 for one in agreement)


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
            words=[],
            texts=["a"],
            subject=None,
            beside={},
            on_factors=lambda done, total: None,
        )
    assert not list(tmp_path.iterdir())


# -- the server ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(built):
    folder, subject, *_ = built
    answers = FactorAnswers(
        subject,
        text_of=hostile,
        texts_of=hostile_text,
        settings=SETTINGS,
        saliency=SALIENCY,
        limits={**LIMITS, "characters": 200},
        collected=folder / "collected",
    )
    app = application(folder, answers, host="127.0.0.1")
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def test_the_server_says_the_same_as_the_folder(client, built):
    folder, *_ = built
    hello = client.get("/api/hello").json()
    assert (hello["steer"], hello["ablate"], hello["d_sae"]) == (False, False, LATENTS)
    assert hello["hook_point"] == ", ".join(LAYERS)
    assert client.post("/api/path", json={"text": TEXT}).json() == read(folder, "paths/0")
    assert client.post("/api/word", json={"word": f"t{WORD}"}).json() == read(folder, "words/0")
    record = next(r for n in range(4) for r in read(folder, f"factors/{n}")["factors"] if r["factor"] == 2)
    layer = record["peak_layer"]
    context = record["layers"][layer]["contexts"][0]
    for known in context["saliency"]:
        asked = {"factor": 2, "layer": layer, "block": context["block"], "position": context["start"] + context["peak"]}
        answer = client.post("/api/saliency", json={**asked, "method": known["method"]}).json()
        assert len(answer["weights"]) == 16
        shown = answer["weights"][context["start"] : context["start"] + len(context["tokens"])]
        assert shown == pytest.approx(known["weights"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("path", {"text": ""}, "holds no token"),
        ("path", {"text": 3}, "text is a number"),
        ("path", {"txt": "a"}, "Did you mean 'text'"),
        ("word", {"word": " "}, "0 characters"),
        ("word", {"word": "nowhere"}, "is nowhere in the dashboard's text"),
        ("word", {"word": ["a"]}, "word is a list"),
        ("saliency", {"factor": LATENTS, "layer": 0, "block": 0, "position": 1, "method": "lime"}, "from 0 to 12"),
        ("saliency", {"factor": 0, "layer": 3, "block": 0, "position": 1, "method": "lime"}, "layer is 3"),
        ("saliency", {"factor": 0, "layer": 0, "block": 7, "position": 1, "method": "lime"}, "block is 7"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 0, "method": "lime"}, "holds a special token"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 1, "method": "shap"}, "method is 'shap'. Expected one"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 1}, "method is missing"),
    ],
)
def test_a_request_that_is_wrong_is_refused_in_words(client, name, fields, words):
    response = client.post(f"/api/{name}", json=fields)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]


def test_a_long_text_another_site_and_a_dashboard_without_its_text_are_refused(client, built, tmp_path):
    folder, subject, *_ = built
    assert client.post("/api/path", json={"text": "w3 " * 90}).status_code == 413
    assert client.post("/api/word", json={"word": f"t{WORD}"}, headers={"origin": "http://elsewhere"}).status_code == 403
    assert client.post("/api/steer", json={"text": TEXT}).status_code in (404, 405)
    gone = FactorAnswers(
        subject,
        text_of=hostile,
        texts_of=hostile_text,
        settings=SETTINGS,
        saliency=SALIENCY,
        limits=LIMITS,
        collected=tmp_path / "none",
    )
    other = TestClient(application(folder, gone, host="127.0.0.1"), base_url="http://127.0.0.1:8000")
    assert "no longer in its folder" in other.post("/api/word", json={"word": f"t{WORD}"}).json()["error"]
