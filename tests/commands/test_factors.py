"""`scripts/factors.py`: from what is typed to a dictionary in its folder; stopped and gone on with to the byte; refusals."""

import json
import shutil
import signal

import pytest
import torch
import yaml

import sae
from sae.activations.harvest import Harvester
from sae.commands.factors import main
from sae.commands.factors_node import PagesNode
from sae.dashboards.pages.folder import Dashboard, Pages
from sae.factors.dictionary_fit import DictionaryFit
from sae.formats.native import load_layer_units
from tests.commands.conftest import snapshot
from tests.commands.conftest import typed as train_typed
from tests.commands.test_train import checkpoints_of, metrics_of

FILES = {
    "config.yaml",
    "layers.safetensors",
    "metrics.jsonl",
    "report.html",
    "report.json",
    "run.json",
    "saes/sparse_coding/README.md",
    "saes/sparse_coding/cfg.json",
    "saes/sparse_coding/layers.safetensors",
    "saes/sparse_coding/sae.safetensors",
    "timing.jsonl",
}
LAYERS = [f"layers.{number}.resid_pre" for number in range(4)]


def typed(decoder, text, folder, *changes):
    """What one types for a run of a second, `folder/tiny`; a change takes the place of what it changes."""
    keys = {change.split("=", 1)[0] for change in changes}
    base = [
        "model=local",
        f"model.path={decoder}",
        "data=text",
        f"data.path={text}",
        "data.split_on=blank_lines",
        "data.context_length=32",
        "data.min_tail=4",
        "data.repeat=true",
        "factors.tokens=4096",
        "factors.batch_tokens=256",
        "factors.d_sae=48",
        "factors.l1_coefficient=0.5",
        "factors.dead_after_tokens=1024",
        "activations.chunk_tokens=1500",
        "activations.forward_blocks=4",
        "activations.cache=false",
        "evaluation.rows=512",
        "evaluation.ce_tokens=128",
        "pages.tokens=300",
        f"run.folder={folder}",
        "run.name=tiny",
    ]
    return [*(line for line in base if line.split("=", 1)[0] not in keys), *changes]


@pytest.fixture
def job(decoder, text, tmp_path):
    return lambda *changes: typed(decoder, text, tmp_path / "runs", *changes)


@pytest.fixture(scope="module")
def finished(decoder, text, tmp_path_factory):
    """The folder of a run that came to its end; to be read, or copied."""
    folder = tmp_path_factory.mktemp("factors")
    assert main(typed(decoder, text, folder)) == 0
    return folder / "tiny"


@pytest.fixture
def run_folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs" / "tiny")


def payload(folder, key):
    """What a file of a dashboard's data holds, be it the folder's own or of the run in it."""
    inside = folder / "dashboard" if (folder / "dashboard").is_dir() else folder
    return Pages(inside / "data").get(key)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())["saes"]["sparse_coding"]


class TestARun:
    def test_leaves_its_files(self, finished):
        files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
        assert {file for file in files if not file.startswith(("checkpoints/", "dashboard/"))} == FILES
        assert checkpoints_of(finished) == [3328, 4096]

    def test_saves_a_dictionary_that_loads_for_all_layers_and_for_each(self, finished):
        whole, units = sae.load(finished), load_layer_units(finished)
        assert list(units.layers) == LAYERS
        assert (whole.d_in, whole.d_sae, whole.l1_coefficient) == (16, 48, 0.5)
        torch.testing.assert_close(whole.W_dec.norm(dim=1), torch.ones(48))
        raw = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
        one = sae.load(finished, layer=LAYERS[2])
        expected = units.take_back(whole(units.put(raw, 2)).recon, 2)
        torch.testing.assert_close(one(raw).recon, expected, rtol=1e-3, atol=1e-3)

    def test_reports_every_layer(self, finished):
        report = report_of(finished)
        assert [layer["hook_point"] for layer in report["layers"]] == LAYERS
        assert 0 < report["fvu"] < 1
        assert report["tokens_trained"] == 4096
        assert 400 < report["tokens_evaluated"] <= 512
        for layer in report["layers"]:
            assert 0 < layer["fvu"] < 1.5
            assert layer["l0"] > 0
            assert layer["ce_sae"] > 0

    def test_writes_metrics_that_its_page_draws(self, finished):
        rows = metrics_of(finished)
        assert [row["tokens"] for row in rows] == list(range(256, 4097, 256))
        assert rows[-1]["objective"] < rows[0]["objective"]
        assert {"l0", "fvu", "objective", "gap", "unconverged", "atoms_used", "dead_fraction", "redrawn"} <= set(rows[0])
        assert "Objective of sparse coding" in (finished / "report.html").read_text()

    def test_a_dry_run_says_what_would_be_done_and_writes_nothing(self, job, tmp_path, capsys):
        assert main(job("dry_run=true")) == 0
        said = capsys.readouterr()
        assert yaml.safe_load(said.out)["factors"]["d_sae"] == 48
        assert "48 factors of 16 dimensions" in said.err
        assert "16 steps of 256 rows" in said.err
        assert all(word in said.err for word in ("memory", "disk", "for the fit", "for the pages' codes", "for saliency"))
        assert not (tmp_path / "runs").exists()


def test_an_encoder_amortised_to_the_codes_stands_beside_them_in_every_table(run_folder, finished, capsys):
    """Of a run that came to its end without: the dictionary stays, to the bit."""
    assert main([f"resume={run_folder}", "factors.amortise=true", "pages.saliency=none"]) == 0
    said = capsys.readouterr().out
    assert "sparse_coding\n" in said
    assert "amortised\n" in said
    reports = json.loads((run_folder / "report.json").read_text())["saes"]
    assert reports["sparse_coding"] == report_of(finished)
    assert [layer["hook_point"] for layer in reports["amortised"]["layers"]] == LAYERS
    assert reports["sparse_coding"]["fvu"] < reports["amortised"]["fvu"] < 2  # after four steps
    exact, guess = (sae.load(run_folder / "saes" / name) for name in ("sparse_coding", "amortised"))
    assert torch.equal(exact.W_dec, guess.W_dec)
    assert load_layer_units(run_folder / "saes" / "amortised").layers == tuple(LAYERS)
    assert (run_folder / "dashboards" / "sparse_coding" / "index.html").is_file()


@pytest.mark.parametrize("scaling", ["none", "variance"])
@pytest.mark.parametrize("law", ["none", "both"])
def test_scales_are_folded_away(law, scaling, job, tmp_path):
    """One scalar over all layers, on top of the layers' own: the saved dictionary takes rows as they were before it."""
    coefficient = "factors.l1_coefficient=0.05" if (law, scaling) == ("none", "none") else "factors.l1_coefficient=0.5"
    assert main(job(f"hook.layer_units={law}", f"factors.scaling={scaling}", coefficient)) == 0
    folder = tmp_path / "runs" / "tiny"
    cfg = json.loads((folder / "saes/sparse_coding/cfg.json").read_text())
    scale = cfg["training"]["scale"]
    assert (scale == 1) == (scaling == "none")
    typed_coefficient = float(coefficient.split("=")[1])
    assert sae.load(folder).l1_coefficient == pytest.approx(typed_coefficient / scale)
    last = metrics_of(folder)[-1]
    assert report_of(folder)["fvu"] == pytest.approx(last["fvu"], abs=0.15)
    assert report_of(folder)["l0"] == pytest.approx(last["l0"], rel=0.3)


def interrupt_at(monkeypatch, owner, name, number, sent):
    """Have a signal come while the `number`-th call of a function goes on."""
    function, calls = getattr(owner, name), []

    def interrupted(self, *args, **keywords):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(sent)
        return function(self, *args, **keywords)

    monkeypatch.setattr(owner, name, interrupted)


class TestResume:
    @pytest.mark.parametrize(
        ("owner", "name", "number", "sent", "status"),
        [
            pytest.param(DictionaryFit, "step", 9, signal.SIGINT, 130, id="in a step"),  # two of them in the plan
            pytest.param(Harvester, "rows", 3, signal.SIGTERM, 143, id="before the first chunk"),
        ],
    )
    def test_a_run_that_was_stopped_equals_the_one_left_in_peace(
        self, owner, name, number, sent, status, job, finished, tmp_path, monkeypatch, capsys
    ):
        with monkeypatch.context() as patched:
            interrupt_at(patched, owner, name, number, sent)
            assert main(job()) == status
        folder = tmp_path / "runs" / "tiny"
        assert f"o on with: python scripts/factors.py resume={folder}" in capsys.readouterr().err
        assert not (folder / "report.json").exists()
        assert main([f"resume={folder}"]) == 0
        for file in ("metrics.jsonl", "saes/sparse_coding/sae.safetensors"):
            assert (folder / file).read_bytes() == (finished / file).read_bytes(), file
        ours, theirs = load_layer_units(folder), load_layer_units(finished)
        assert torch.equal(ours.means, theirs.means)
        assert torch.equal(ours.scales, theirs.scales)
        assert report_of(folder) == report_of(finished)

    def test_from_an_earlier_checkpoint_rows_that_were_written_since_are_written_again(self, run_folder, finished):
        """As after a kill: the last checkpoint is older than the metrics."""
        (run_folder / "checkpoints" / "tokens-000000000004096.ckpt").unlink()
        shutil.rmtree(run_folder / "saes")
        assert main([f"resume={run_folder}"]) == 0
        for file in ("metrics.jsonl", "saes/sparse_coding/sae.safetensors"):
            assert (run_folder / file).read_bytes() == (finished / file).read_bytes(), file

    def test_a_larger_budget_extends_a_run(self, run_folder):
        before = (run_folder / "metrics.jsonl").read_bytes()
        assert main([f"resume={run_folder}", "factors.tokens=5120"]) == 0
        assert (run_folder / "metrics.jsonl").read_bytes().startswith(before)
        assert report_of(run_folder)["tokens_trained"] == 5120
        assert yaml.safe_load((run_folder / "config.yaml").read_text())["factors"]["tokens"] == 5120

    def test_what_would_make_another_run_is_refused(self, run_folder, capsys):
        before = snapshot(run_folder)
        assert main([f"resume={run_folder}", "factors.l1_coefficient=1", "factors.tokens=256", "seed=3"]) == 2
        said = capsys.readouterr().err
        assert "factors.l1_coefficient=1 would make another run (it was 0.5)" in said
        assert "factors.tokens=256 is less than the 4096 of the run" in said
        assert "seed=3 would make another run" in said
        assert snapshot(run_folder) == before

    def test_another_command_s_run_is_sent_there(self, run_folder, finished_run, train, capsys):
        assert main([f"resume={finished_run}"]) == 2
        assert "is a run of scripts/train.py" in capsys.readouterr().err
        assert train([f"resume={run_folder}"]) == 2
        assert "is a run of scripts/factors.py" in capsys.readouterr().err

    def test_a_run_that_is_there(self, run_folder, job, capsys):
        before = snapshot(run_folder)
        assert main(job()) == 2
        assert f"exists already. Go on with it: resume={run_folder}" in capsys.readouterr().err
        assert snapshot(run_folder) == before
        assert main(job("run.if_exists=resume")) == 0
        assert main(job("run.if_exists=overwrite", "factors.tokens=512")) == 0
        assert report_of(run_folder)["tokens_trained"] == 512


def test_help_names_the_ways_to_call_it(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "python scripts/factors.py from=runs/NAME" in said
    assert "experiment" in said


def test_a_shortlist_is_for_dictionaries_that_search():
    for method in ("leave_one_out_shortlist", "leave_one_out", "integrated_gradients", "none"):
        node = PagesNode(saliency=method)
        assert node.saliency_settings(0, takes_shortlist=True).method == method
        exact = {"leave_one_out_shortlist": "leave_one_out"}.get(method, method)
        assert node.saliency_settings(0, takes_shortlist=False).method == exact
    assert PagesNode().saliency == "leave_one_out_shortlist"


class TestPages:
    def test_come_with_the_run(self, finished):
        pages = Dashboard(finished / "dashboard")
        manifest = pages.manifest
        assert [layer["name"] for layer in manifest["factors"]["layers"]] == LAYERS
        assert manifest["num_latents"] == 48
        assert manifest["rows"] <= 300
        assert manifest["factors"]["method"] == "sparse coding"
        measured = {layer["hook_point"]: layer["fvu"] for layer in report_of(finished)["layers"]}
        assert [layer["fvu"] for layer in manifest["factors"]["layers"]] == [measured[name] for name in LAYERS]
        assert manifest["run_page"] == "run.html"
        (first, *_) = payload(finished, "factors/0")["factors"]
        assert len(first["layers"]) == 4
        shown = [context for layer in first["layers"] for context in layer["contexts"]]
        assert all("leave_one_out_shortlist" in [one["method"] for one in context["saliency"]] for context in shown)
        assert shown
        assert manifest["factors"]["saliency"]["method"] == "leave_one_out_shortlist"

    def test_again_from_the_run_with_words_texts_and_other_layers(self, run_folder, tmp_path, capsys):
        out = tmp_path / "other"
        asked = ["pages.words=[w3]", 'pages.texts=["w1 w2 ${w3}"]', "pages.saliency=none", "pages.tokens=200"]
        assert main([f"from={run_folder}", f"out={out}", "hook.layers=[1,3]", *asked]) == 0
        pages = Dashboard(out)
        assert [layer["name"] for layer in pages.manifest["factors"]["layers"]] == [LAYERS[1], LAYERS[3]]
        assert pages.manifest["factors"]["words"] == ["w3"]
        assert payload(out, "words/0")["total"] > 0
        assert payload(out, "paths/0")["text"] == "w1 w2 ${w3}"
        assert f"from={run_folder} out={out} serve=true" in capsys.readouterr().out

    def test_of_an_sae_that_was_trained_on_mixed_layers(self, decoder, text, train, tmp_path):
        base = [line for line in train_typed(decoder, text, tmp_path) if not line.startswith("sae.resample_pool_rows")]
        assert train([*base, "hook.mix=true", "sae=topk", "sae.k=4", "train.tokens=1024"]) == 0
        assert main([f"from={tmp_path / 'tiny'}", "pages.tokens=200", "pages.saliency=none"]) == 0
        manifest = Dashboard(tmp_path / "tiny" / "dashboard").manifest
        assert manifest["factors"]["method"] == "topk"
        assert len(manifest["factors"]["layers"]) == 4

    def test_in_shards_they_are_the_same(self, run_folder, tmp_path, monkeypatch):
        monkeypatch.setattr("sae.commands.factors_job.CHUNK_ROWS", 256)
        asked = [f"from={run_folder}", "pages.tokens=300", "pages.saliency=none"]
        assert main([*asked, f"out={tmp_path / 'whole'}"]) == 0
        for part in ("2/2", "1/2"):
            assert main([*asked, f"out={tmp_path / 'parts'}", f"pages.shard={part}"]) == 0
        whole, parts = (
            {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in (tmp_path / "whole", tmp_path / "parts")
        )
        assert whole == parts

    def test_a_signal_ends_them_and_the_same_command_goes_on(self, run_folder, finished, monkeypatch, capsys):
        asked = [f"from={run_folder}", "pages.tokens=300"]
        shutil.rmtree(run_folder / "dashboard")
        with monkeypatch.context() as patched:
            interrupt_at(patched, Pages, "put", 2, signal.SIGTERM)
            assert main(asked) == 143
        assert "the same command goes on" in capsys.readouterr().err
        assert not (run_folder / "dashboard" / "data").exists()
        assert main([*asked, "dry_run=true"]) == 0
        assert "already read" in capsys.readouterr().err
        assert main(asked) == 0
        ours, theirs = (
            {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "dashboard" / "data").rglob("*.js")}
            for folder in (run_folder, finished)
        )
        assert ours == theirs

    def test_what_is_there_is_served_as_it_is(self, run_folder, monkeypatch):
        served = []
        monkeypatch.setattr("sae.factors.live.serve_factors", lambda folder, *args, **keywords: served.append(folder) or 0)
        before = snapshot(run_folder)
        assert main([f"from={run_folder}", "serve=true", "port=0"]) == 0
        assert served == [run_folder / "dashboard"]
        assert snapshot(run_folder) == before
