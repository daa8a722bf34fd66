"""Pages in notebooks: which dashboard, which data, and a frame in which nothing else runs."""

import base64
import gzip
import hashlib
import html
import inspect
import json
import os
import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

import sae
from sae.dashboards.live.inline import InlineView, find_dashboard, one_latent, text_view
from sae.errors import UserError
from tests.dashboards.live.folders import HOSTILE, record, shard, strings, write_dashboard


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder `runs` of the working folder, with the dashboards of two runs; that of `first` was written last."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("second", "first")):
        folder = write_dashboard(tmp_path / "runs" / name / "dashboard")
        os.utime(folder / "data" / "manifest.js", (1000 + number, 1000 + number))
    return tmp_path / "runs"


def given(view: InlineView) -> dict:
    """What the page gives to the app."""
    found = re.search(r'dashboard\.mount\(document\.getElementById\("view"\), (\{.*\})\);</script>', view.document)
    assert found
    options = json.loads(found[1])
    options["data"] = json.loads(gzip.decompress(base64.b64decode(options["data"])))
    return options


def with_texts(one, table):
    """A record with the strings themselves in place of their places."""
    one = json.loads(json.dumps(one))
    for entry in one["tokens"]:
        entry["token"] = table[entry["token"]]
    for side in ("raised", "lowered"):
        one["logits"][side] = [[table[place], weight] for place, weight in one["logits"][side]]
    for group in one["groups"]:
        for example in group["examples"]:
            example["tokens"] = [table[place] for place in example["tokens"]]
    return one


@pytest.mark.parametrize("what", [3.0, True, None, [3], b"text"])
def test_what_is_neither_a_number_nor_a_text_is_refused(runs, what):
    with pytest.raises(
        UserError, match=rf"got {type(what).__name__}, expected a latent's number, as in sae\.show\(12\), or a text"
    ):
        inspect.unwrap(sae.show)(what, dashboard="runs/first")  # as users call it: here types are checked before


@pytest.mark.parametrize("latent", range(6))
def test_a_latent_is_shown_with_its_own_data_alone(runs, latent):
    view = sae.show(latent, dashboard="runs/first")
    options = given(view)
    assert (options["view"], options["latent"], options["look"]) == ("latent", latent, "system")
    assert options["manifest"]["num_latents"] == 6
    data = options["data"]
    assert (data["first"], len(data["latents"])) == (latent, 1)
    first = latent // 2 * 2
    assert with_texts(data["latents"][0], data["strings"]) == with_texts(record(latent), strings(first))
    assert len(data["strings"]) == 6  # of thirteen


def test_the_shard_itself_stays_as_it_is():
    whole = shard(2)
    one_latent(whole, 3)
    assert whole == shard(2)
    with pytest.raises(UserError, match="Latent 7 is missing from its file"):
        one_latent(whole, 7)


def test_numbers_of_other_libraries_are_numbers(runs):
    import numpy as np
    import torch

    for latent in (np.int64(3), torch.tensor(3)):
        assert given(sae.show(latent, dashboard="runs/first"))["latent"] == 3


def test_without_a_folder_it_is_the_dashboard_that_was_written_last(runs):
    view = sae.show(1)
    assert view.caption == "Latent 1 of runs/first/dashboard"
    assert view.caption in view._repr_html_()
    assert view.caption in repr(view)
    os.utime(runs / "second" / "dashboard" / "data" / "manifest.js")
    assert sae.show(1).caption == "Latent 1 of runs/second/dashboard"


def test_where_dashboards_are_found(runs):
    first = runs / "first"
    assert find_dashboard(first, runs=runs) == find_dashboard(first / "dashboard", runs=runs) == first / "dashboard"
    (first / "dashboards").mkdir()
    shutil.move(first / "dashboard", first / "dashboards" / "a")
    assert find_dashboard(first, runs=runs) == first / "dashboards" / "a"
    write_dashboard(first / "dashboards" / "b")
    with pytest.raises(UserError, match=r"has several dashboards, choose one of .*/a, .*/b"):
        find_dashboard(first, runs=runs)
    assert find_dashboard(None, runs=runs) == first / "dashboards" / "b"


def test_what_cannot_be_shown_is_told(runs, tmp_path):
    with pytest.raises(UserError, match=r"There is no latent 6: runs/first/dashboard has 6, numbered from 0"):
        sae.show(6, dashboard="runs/first")
    with pytest.raises(UserError, match="There is no latent -1"):
        sae.show(-1)
    with pytest.raises(UserError, match=r"runs holds no dashboard: build it with .*from=runs"):
        sae.show(0, dashboard="runs")
    with pytest.raises(UserError, match=r"There is no dashboard in elsewhere: build one"):
        find_dashboard(None, runs=tmp_path.relative_to(tmp_path) / "elsewhere")
    with pytest.raises(UserError, match=r"look='dim' is unknown: expected light, dark or system"):
        sae.show(0, look="dim")
    with pytest.raises(UserError, match=r'Say which SAE the dashboard is of, as in dictionary="runs/NAME"'):
        sae.show("w1", dashboard="runs/first")
    shard_file = runs / "first" / "dashboard" / "data" / "latents" / "0.js"
    shard_file.write_bytes(shard_file.read_bytes()[:-9])
    with pytest.raises(UserError, match="is damaged"):
        sae.show(0, dashboard="runs/first")
    shard_file.unlink()
    with pytest.raises(UserError, match=r"latents/0\.js is missing: runs/first/dashboard holds no whole dashboard"):
        sae.show(0, dashboard="runs/first")


def test_nothing_but_the_app_runs_in_the_frame(runs):
    view = sae.show(0, dashboard="runs/first", height=333, look="dark")
    document = view.document
    assert HOSTILE[:9] not in document.replace("</script>\n", "")
    scripts = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    assert len(scripts) == 2
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', document)
    assert policy
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts}
    directives = {name: set(values) for name, *values in (part.split() for part in policy[1].split(";"))}
    assert directives["script-src"] == hashes
    assert directives["default-src"] == {"'none'"}
    assert not any("unsafe" in value or "self" in value for values in directives.values() for value in values)
    frame = view._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == document
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert "height: 333px" in frame
    assert given(view)["look"] == "dark"


def test_a_text_is_shown_as_its_page(runs):
    page = {"title": HOSTILE, "text": HOSTILE, "tokens": [], "effects": None}
    options = given(text_view(page, runs / "first" / "dashboard", height=500, look="light"))
    assert (options["view"], options["data"], options["look"]) == ("text", page, "light")


@pytest.mark.slow
def test_a_notebook_shows_it(runs, tmp_path):
    code = 'import sae\nsae.show(3, dashboard="runs/first")'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = (output for output in notebook.cells[0].outputs if output.output_type == "execute_result")
    assert output["data"]["text/html"] == sae.show(3, dashboard="runs/first")._repr_html_()
    assert output["data"]["text/plain"] == "<Latent 3 of runs/first/dashboard: shown where notebooks show HTML>"
