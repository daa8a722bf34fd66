"""`sae.show` of a text: the SAE and the model are those of the run that the dashboard stands in."""

import base64
import gzip
import json
import re
import shutil

import numpy as np
import pytest

import sae
from sae.commands import show as module
from sae.dashboards.live.quantiles import ActivationQuantiles
from sae.errors import UserError
from tests.dashboards.live.folders import write_dashboard

TEXT = "w3 w14 w15 w9 w26"


@pytest.fixture(autouse=True)
def nothing_loaded():
    module._reader.cache_clear()
    yield
    module._reader.cache_clear()


@pytest.fixture
def run(run_folder, monkeypatch):
    """A run with a dashboard, in the `runs` of the working folder."""
    monkeypatch.chdir(run_folder.parents[1])
    write_dashboard(run_folder / "dashboard", num_latents=32)
    return run_folder


def page_of(view):
    packed = re.search(r'"data": "([^"]+)"', view.document)
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_a_text_is_read_through_the_runs_model_and_sae(run):
    page = page_of(sae.show(TEXT))
    assert [token["text"].strip() for token in page["tokens"]] == ["<s>", *TEXT.split()]
    assert page["effects"] == "gradient"
    dictionary = sae.load(run)
    saved = json.loads((run / "saes" / "relu" / "cfg.json").read_text())
    place = {key: saved["hook"][key] for key in ("site", "layer")}
    model = sae.load_model(**saved["training"]["config"]["model"])
    blocks = sae.token_blocks(model, TEXT)
    (rows,) = sae.capture(model, blocks.ids, blocks.attention, [sae.resolve_hook_point(model, **place)]).values()
    acts = dictionary.encode(rows[0, 1:]).detach()
    for token, expected in zip(page["tokens"][1:], acts, strict=True):
        found = {entry["latent"]: entry["activation"] for entry in token["latents"]}
        assert found == pytest.approx({int(latent): float(expected[latent]) for latent in expected.nonzero()}, rel=1e-4)
    entries = [entry for token in page["tokens"][1:-1] for entry in token["latents"]]
    assert entries
    assert all(entry["logit_effect"] is not None and entry["quantile"] is None for entry in entries)


def test_quantiles_come_from_the_dashboard(run):
    ActivationQuantiles(fired=np.ones(32, dtype=np.int64), points=np.full(32, 1e-9)).write(run / "dashboard" / "collected")
    entries = [entry for token in page_of(sae.show(TEXT))["tokens"] for entry in token["latents"]]
    assert {entry["quantile"] for entry in entries} == {1.0}


def test_the_model_is_loaded_once(run, monkeypatch):
    from sae.commands import origin

    loaded = []
    load = origin.load_model
    monkeypatch.setattr(origin, "load_model", lambda **keywords: loaded.append(1) or load(**keywords))
    sae.show(3)
    assert loaded == []
    sae.show(TEXT)
    sae.show("w7 w8")
    assert loaded == [1]


def test_a_dashboard_elsewhere_is_told_its_sae(run, tmp_path):
    elsewhere = shutil.move(run / "dashboard", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r'Say which SAE the dashboard is of, as in dictionary="runs/NAME"'):
        sae.show(TEXT, dashboard=elsewhere)
    assert page_of(sae.show(TEXT, dashboard=elsewhere, dictionary="runs/tiny"))["text"] == TEXT


def test_a_dashboard_of_several_belongs_to_the_sae_of_its_name(run):
    shutil.copytree(run / "saes" / "relu", run / "saes" / "other")
    (run / "dashboards").mkdir()
    folder = shutil.move(run / "dashboard", run / "dashboards" / "other")
    assert page_of(sae.show(TEXT, dashboard=folder))["text"] == TEXT


def test_mistakes_are_told(run):
    with pytest.raises(UserError, match="The text holds no token"):
        sae.show("")
    shutil.rmtree(run / "dashboard")
    write_dashboard(run / "dashboard", num_latents=6)
    module._reader.cache_clear()
    with pytest.raises(UserError, match=r"has 32 latents, the dashboard .* is of 6"):
        sae.show(TEXT)
    cfg = run / "saes" / "relu" / "cfg.json"
    saved = json.loads(cfg.read_text())
    del saved["training"]["config"]
    cfg.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"does not say which model it reads: .*Latents can be shown without"):
        sae.show(TEXT)
