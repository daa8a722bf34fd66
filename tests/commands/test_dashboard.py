"""`scripts/dashboard.py` from what is typed to the folder: whole, resumable, in parts, and refusing what makes no sense."""

import errno
import json
import os
import random
import re
import shlex
import shutil
import signal
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet as pq
from transformers import LlamaConfig, LlamaForCausalLM

from sae.commands import dashboard_plan
from sae.commands.dashboard import main
from sae.dashboards.collect import collector
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.document import document
from sae.dashboards.pages.folder import Dashboard, Pages
from sae.dashboards.pages.shards import column_values
from sae.functional.ranks import rank_correlation
from tests.commands.conftest import DECODER_SPECIAL, SIZES, WORDS, save_model
from tests.commands.paused import CHUNK_ROWS
from tests.commands.test_kill import kill_and_reap, start

# What is killed when; each begins where the one before was killed.
KILLS = [
    ("a chunk of codes", 3, signal.SIGKILL, -9),
    ("after a chunk of codes", 2, signal.SIGTERM, 143),
    ("a file of pages", 2, signal.SIGKILL, -9),
    ("a file of pages", 3, signal.SIGTERM, 143),
]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(dashboard_plan, "CHUNK_ROWS", CHUNK_ROWS)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def built(finished_run, tmp_path_factory):
    """A dashboard that was built in one go; to be read only."""
    out = tmp_path_factory.mktemp("built") / "dashboard"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboard_plan, "CHUNK_ROWS", CHUNK_ROWS)
        assert main([f"from={finished_run}", f"out={out}"]) == 0
    return out


def test_the_folder_has_everything_and_its_numbers_are_right(finished_run, built):
    names = content(built)
    assert {"index.html", "app.js", "app.css", "run.html", "data/manifest.js", "data/latents/0.js"} <= set(names)
    link = '<nav><a href="index.html">\N{LEFTWARDS ARROW} Latents</a></nav>\n'.encode()
    assert names["run.html"].replace(link, b"") == (finished_run / "report.html").read_bytes()
    assert names["run.html"].count(link) == 1
    assert not [name for name in names if Path(name).name.startswith(".")]
    found = Dashboard(built)
    codes = CollectedCodes(built / "collected")
    manifest, report = found.manifest, json.loads((finished_run / "report.json").read_text())["saes"]["relu"]
    assert manifest["title"] == "tiny"
    assert manifest["hook_point"] == "layers.0.resid_post"
    assert (manifest["rows"], manifest["num_latents"]) == (codes.num_rows, 32)
    assert 3900 < manifest["rows"] <= 4000  # all of the text, held out or not
    assert manifest["documents"] == 100
    assert manifest["sae"]["l0"] == report["l0"]
    assert manifest["effects"] == "gradient"
    assert (manifest["run_page"], manifest["sweep_page"]) == ("run.html", None)
    fired = {record["latent"]: record["fired"] for shard in found.latent_shards() for record in shard["latents"]}
    assert list(fired) == list(range(32))
    assert sum(fired.values()) == codes.num_entries
    assert manifest["coactive_rows"] == codes.num_rows
    assert manifest["dead"] == sum(not count for count in fired.values())


def test_the_strongest_effects_of_each_latent_are_measured_and_stand_in_the_table(built):
    exact, estimates = {}, {}
    for shard in Dashboard(built).latent_shards():
        for record in shard["latents"]:
            for example in (example for group in record["groups"] for example in group["examples"]):
                for place, effect in zip(example["places"], example["effects"], strict=True):
                    firing = record["latent"], example["block"], example["start"] + place
                    estimates[firing] = abs(effect)
                    if str(place) in example["exact"]:
                        exact[firing] = abs(example["exact"][str(place)])
    assert len(exact) == 64
    latents = sorted({latent for latent, *_ in estimates})
    for latent in latents:
        own = [firing for firing in estimates if firing[0] == latent]
        assert max(own, key=lambda firing: estimates[firing]) in exact
    (index,) = Dashboard(built).index_shards()
    effect, is_exact = (column_values(index["columns"][name]) for name in ("effect", "effect_exact"))
    for latent in latents:
        assert is_exact[latent] == 1
        assert effect[latent] == pytest.approx(max(nats for firing, nats in exact.items() if firing[0] == latent))
    found = Dashboard(built).manifest["exact_effects"]
    sizes = [list(exact.values()), [estimates[firing] for firing in exact]]
    assert found == {"firings": 64, "agreement": pytest.approx(rank_correlation(*map(np.array, sizes)), abs=1e-3)}


def test_built_again_it_says_so_and_is_the_same_to_the_byte(finished_run, built, tmp_path, capsys):
    out = Path(shutil.copytree(built, tmp_path / "dashboard"))
    chunk = next((out / "collected").glob("chunk-*"))
    time = chunk.stat().st_mtime_ns
    assert main([f"from={finished_run}", f"out={out}"]) == 0
    assert "only the pages are written again" in capsys.readouterr().err
    assert content(out) == content(built)
    assert chunk.stat().st_mtime_ns == time


def test_from_may_be_left_out_inside_a_run(run_folder, monkeypatch, capsys):
    for folder in (run_folder, run_folder / "saes" / "relu"):
        monkeypatch.chdir(folder)
        assert main(["dashboard.tokens=300", "dashboard.effects=none"]) == 0
        assert Dashboard(run_folder / "dashboard").manifest["title"] == "tiny"
        assert "dashboard/index.html" in capsys.readouterr().out
        shutil.rmtree(run_folder / "dashboard")


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(run_folder, capsys):
    before = content(run_folder.parent)
    assert main([f"from={run_folder}", "dry_run=true"]) == 0
    assert re.search(r"to read, about .* to write the pages, about .* GB of memory", capsys.readouterr().err)
    assert content(run_folder.parent) == before


class TestStopped:
    @pytest.mark.parametrize(("owner", "name", "call"), [(collector, "write_chunk", 3), (Pages, "put", 1), (Pages, "put", 3)])
    def test_it_goes_on_and_ends_the_same_to_the_byte(
        self, finished_run, built, tmp_path, monkeypatch, capsys, owner, name, call
    ):
        out, calls, function = tmp_path / "dashboard", [], getattr(owner, name)

        def stopping(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGTERM)
            return function(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopping)
            assert main([f"from={finished_run}", f"out={out}"]) == 143
        assert "the same command goes on" in capsys.readouterr().err
        assert not (out / "data").exists()
        assert main([f"from={finished_run}", f"out={out}"]) == 0
        assert content(out) == content(built)

    def test_old_pages_stay_until_new_ones_of_other_settings_are_there(self, finished_run, built, tmp_path, monkeypatch):
        out = Path(shutil.copytree(built, tmp_path / "dashboard"))
        before, changed = (
            content(out),
            [f"from={finished_run}", f"out={out}", "dashboard.tokens=1500", "dashboard.effects=none"],
        )

        def fails(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Pages, "put", fails)
            assert main(changed) == 130
        after = content(out)
        assert {name: after[name] for name in before} == before
        assert main(changed) == 0
        found, codes = Dashboard(out), CollectedCodes(out / "collected")
        assert found.manifest["rows"] == codes.num_rows <= 1500
        assert found.manifest["effects"] is None
        assert not list(out.glob(".*"))

    def test_codes_that_were_damaged_are_made_anew(self, finished_run, built, tmp_path):
        out = Path(shutil.copytree(built, tmp_path / "dashboard"))
        (out / "collected" / "chunk-00002.safetensors").write_bytes(b"x")
        assert main([f"from={finished_run}", f"out={out}"]) == 0
        assert content(out) == content(built)


def test_what_a_killed_process_left_of_a_file_is_swept_away(finished_run, built, tmp_path):
    out = tmp_path / "dashboard"
    (out / "collected").mkdir(parents=True)
    for name in (".index.html.a1_b.part", "collected/.manifest.json.x.part", "collected/.chunk-00000.safetensors.abc.part"):
        (out / name).write_bytes(b"half")
    assert main([f"from={finished_run}", f"out={out}"]) == 0
    assert content(out) == content(built)


def test_parts_made_by_several_processes_are_the_same_to_the_byte(finished_run, built, tmp_path, capsys):
    out = tmp_path / "dashboard"
    for part in ("2/3", "1/3"):
        assert main([f"from={finished_run}", f"out={out}", f"dashboard.shard={part}"]) == 0
        assert f"Part {part}" in capsys.readouterr().err
        assert not (out / "data").exists()
    assert main([f"from={finished_run}", f"out={out}", "dashboard.shard=3/3"]) == 0
    assert content(out) == content(built)


def test_another_process_is_kept_out(finished_run, tmp_path, monkeypatch, capsys):
    from filelock import FileLock

    out = tmp_path / "dashboard"
    with FileLock(tmp_path / ".dashboard.lock"):
        assert main([f"from={finished_run}", f"out={out}", "dashboard.tokens=300"]) == 2
    assert "another process is writing" in capsys.readouterr().err
    assert not out.exists()


def test_held_out_text_alone(finished_run, tmp_path):
    out = tmp_path / "dashboard"
    assert main([f"from={finished_run}", f"out={out}", "dashboard.split=held_out", "dashboard.effects=none"]) == 0
    assert 0 < Dashboard(out).manifest["documents"] < 30


@pytest.mark.parametrize(("asked", "used"), [("float32", None), ("bfloat16", "bfloat16")])
def test_effects_are_estimated_in_the_number_format_that_is_asked_for(finished_run, tmp_path, asked, used):
    lines = [f"from={finished_run}", f"out={tmp_path / 'dashboard'}", "dashboard.tokens=300", "dashboard.exact_effects=0"]
    assert main([*lines, f"dashboard.effects_dtype={asked}"]) == 0
    plan = CollectedCodes(tmp_path / "dashboard" / "collected").plan
    assert plan.effects is not None
    assert plan.effects["dtype"] == used


def test_prompts_have_pages(finished_run, tmp_path):
    out = tmp_path / "dashboard"
    assert main([f"from={finished_run}", f"out={out}", "dashboard.tokens=600", 'dashboard.texts=["w1 w2, w3", "w4 ="]']) == 0
    assert Dashboard(out).manifest["texts"] == ["w1 w2, w3", "w4 ="]
    assert (out / "data" / "texts" / "1.js").is_file()


def test_exports_are_written_and_hold_the_same_latents(finished_run, built, tmp_path, capsys):
    out = Path(shutil.copytree(built, tmp_path / "dashboard"))
    lines = [f"from={finished_run}", f"out={out}", "dashboard.export=[neuronpedia,delphi,parquet]"]
    assert main([*lines, "dashboard.neuronpedia_set=my-set"]) == 0
    exports = out / "exports"
    assert pq.read_table(exports / "parquet" / "activations.parquet").num_rows == CollectedCodes(out / "collected").num_entries
    assert (exports / "neuronpedia" / "tiny-llama" / "0-my-set" / "source.jsonl").is_file()
    assert (exports / "delphi" / "layers.0.resid_post" / "config.json").is_file()
    printed = capsys.readouterr().out
    assert all(str(exports / kind) in printed for kind in ("neuronpedia", "delphi", "parquet"))


def test_explanations_reach_index_and_pages(finished_run, tmp_path):
    file, out = tmp_path / "words, of mine.jsonl", tmp_path / "dashboard"
    file.write_text(
        '{"latent": 5, "text": "</script>", "source": "me", "score": 0.7}\n{"latent": 5, "name": "f1", "value": 1}\n'
    )
    lines = [f"from={finished_run}", f"out={out}", "dashboard.tokens=600", "dashboard.effects=none"]
    assert main([*lines, f"dashboard.explanations={file}"]) == 0
    found = Dashboard(out)
    assert next(found.index_shards())["explanations"] == {"5": "</script>"}
    assert found.manifest["has_scores"]
    assert next(found.latent_shards())["latents"][5]["scores"] == [{"name": "f1", "value": 1.0}]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "from= must be given"),
        (["from=nowhere"], "there is no folder nowhere"),
        (["from={run}", "dashboard.tokns=3"], "Did you mean 'dashboard.tokens'"),
        (["from={run}", "tokens=3"], "Did you mean 'dashboard.tokens'"),
        (["from={run}", "dashboard.top=0", "port=70000"], "dashboard.top must be at least 1"),
        (["from={run}", "dashboard.top=0", "port=70000"], "port must lie between"),
        (["from={run}", "open=maybe"], "open: expected true or false"),
        (["from={run}", "dashboard.shard=3/2"], "expected a part and how many there are"),
        (["from={run}", "dashboard.export=[excel]"], "'neuronpedia', 'delphi', 'parquet'"),
        (["from={run}", "dashboard.export=[neuronpedia]", "dashboard.neuronpedia_set=A_b"], "neuronpedia_set='A_b'"),
        (["from={run}", "dashboard.explanations=nowhere"], "Explanations could not be read"),
        (["from={run}", "dashboard.tokens=3"], "fewer rows than one block"),
        (["from={run}", "dashboard.memory_gb=1e300"], "dashboard.memory_gb must lie between"),
        (["from={run}", "dashboard.memory_gb=1e-12"], "dashboard.memory_gb must lie between"),
        (["from={run}", "dashboard.texts=['w1', ' ']"], "dashboard.texts[1]: "),
        (["from={run}", "dashboard.texts=['" + "w1 " * 3000 + "']"], "dashboard.texts[0]: The text has 3,000 tokens"),
        (["from={run}", "serve=true", "host=256.1.1.1"], "is no address to listen on"),
        (["from={run}", "dashboard.export=[neuronpedia]", "dashboard.neuronpedia_model=../x"], "neuronpedia_model='../x'"),
        (["from={run}", "out={run}"], "is no dashboard's folder"),
        (["from={run}", "hook.layer=9"], "4 layers, numbered 0 to 3"),
        (["from={run}", "hook.module=model.layers.0.mlp.gate_proj"], "the SAE reads 16 dimensions"),
    ],
)
def test_mistakes(lines, message, run_folder, capsys):
    before = content(run_folder.parent)
    assert main([line.format(run=run_folder) for line in lines]) == 2
    assert message in capsys.readouterr().err
    assert content(run_folder.parent) == before


@pytest.mark.parametrize("name", ["data/mine.csv", "collected/mine.csv", "data/latents/0.js", "index.html"])
def test_folders_of_others_are_left_alone(name, run_folder, tmp_path, capsys):
    """Many a project has a folder `data`: a dashboard that took its place would delete what is in it."""
    out = tmp_path / "project"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("years of work")
    assert main([f"from={run_folder}", f"out={out}", "dashboard.tokens=600", "dashboard.effects=none"]) == 2
    assert "is no dashboard's folder" in capsys.readouterr().err
    assert content(out) == {name: b"years of work"}


def test_a_collected_text_without_its_manifest_is_named(run_folder, built, tmp_path, capsys):
    out = Path(shutil.copytree(built, tmp_path / "dashboard"))
    (out / "collected" / "manifest.json").unlink()
    before = content(out)
    assert main([f"from={run_folder}", f"out={out}"]) == 2
    said = capsys.readouterr().err
    assert f"{out / 'collected' / 'manifest.json'} is missing" in said
    assert f"delete the folder {out / 'collected'}" in said
    assert content(out) == before
    shutil.rmtree(out / "collected")
    assert main([f"from={run_folder}", f"out={out}", "dashboard.tokens=300", "dashboard.effects=none"]) == 0


def test_a_single_short_document_has_a_dashboard(run_folder, tmp_path, capsys):
    text, out = tmp_path / "short.txt", tmp_path / "short"
    text.write_text("w1 w2 w3 w4 w5 w6 w7")
    lines = [f"from={run_folder}", f"out={out}", "data=text", f"data.path={text}", "data.split_on=null"]
    assert main([*lines, "dashboard.split=held_out"]) == 2
    assert "The text has only one document" in capsys.readouterr().err
    assert main(lines) == 0
    manifest = Dashboard(out).manifest
    assert (manifest["rows"], manifest["documents"], manifest["blocks"]) == (7, 1, 1)
    text.write_text("w1")
    assert main([*(line for line in lines if not line.startswith("out=")), f"out={tmp_path / 'word'}"]) == 0
    assert Dashboard(tmp_path / "word").manifest["rows"] == 1


def test_a_full_disk_is_told_before(run_folder, monkeypatch, capsys):
    usage = shutil.disk_usage(run_folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert main([f"from={run_folder}"]) == 2
    assert "GB free" in capsys.readouterr().err


def test_a_disk_that_fills_up_meanwhile_is_named(finished_run, built, tmp_path, monkeypatch, capsys):
    out = Path(shutil.copytree(built, tmp_path / "dashboard"))

    def fails(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Pages, "put", fails)
    assert main([f"from={finished_run}", f"out={out}"]) == 2
    printed = capsys.readouterr().err
    assert f"The disk of {out} is full" in printed
    assert "the same command goes on" in printed
    assert content(out) == content(built)


class TestOtherKinds:
    """What has no effects, or no direct way to the logits, has pages without them."""

    def build(self, job, train, tmp_path, *lines):
        assert train(job(*lines)) == 0
        run = tmp_path / "runs" / "tiny"
        assert main([f"from={run}", "dashboard.tokens=600"]) == 0
        return Dashboard(run / "dashboard")

    def test_an_encoder(self, job, train, tmp_path, encoder, capsys):
        found = self.build(job, train, tmp_path, f"model.path={encoder}")
        assert found.manifest["effects"] is None
        assert next(found.latent_shards())["latents"][0]["logits"] is None
        assert main([f"from={tmp_path / 'runs' / 'tiny'}", "dashboard.effects=gradient"]) == 2
        assert "no language modelling head" in capsys.readouterr().err

    def test_a_transcoder(self, job, train, tmp_path):
        found = self.build(job, train, tmp_path, "sae=transcoder", "sae.k=4", "hook.layer=1")
        assert found.manifest["hook_point"] == "layers.1.mlp_in -> layers.1.mlp_out"
        assert found.manifest["effects"] == "gradient"
        assert next(found.latent_shards())["latents"][0]["logits"] is not None

    def test_a_crosscoder(self, job, train, tmp_path):
        found = self.build(job, train, tmp_path, "sae=crosscoder", "sae.l1_coefficient=0.1")
        assert found.manifest["hook_point"].count(" + ") == 2
        assert next(found.latent_shards())["latents"][0]["logits"] is None

    def test_a_place_off_the_stream(self, job, train, tmp_path):
        found = self.build(job, train, tmp_path, "hook.site=attn_z")
        assert next(found.latent_shards())["latents"][0]["logits"] is None


def test_several_saes_of_a_run_have_dashboards_of_their_own(run_folder, capsys):
    shutil.copytree(run_folder / "saes" / "relu", run_folder / "saes" / "other")
    assert main([f"from={run_folder}"]) == 2
    assert "name one of them" in capsys.readouterr().err
    assert main([f"from={run_folder / 'saes' / 'other'}", "dashboard.tokens=600", "dashboard.effects=none"]) == 0
    assert (
        f"  next     python scripts/dashboard.py from={run_folder / 'saes' / 'other'} serve=true\n" in capsys.readouterr().out
    )
    found = Dashboard(run_folder / "dashboards" / "other")
    assert found.manifest["title"] == "tiny: other"


def test_an_sae_alone_has_its_dashboard_inside(run_folder, tmp_path):
    alone = Path(shutil.copytree(run_folder / "saes" / "relu", tmp_path / "mine"))
    assert main([f"from={alone}", "dashboard.tokens=600", "dashboard.effects=none"]) == 0
    assert Dashboard(alone / "dashboard").manifest["run_page"] is None


def test_the_sweep_s_page_comes_along(run_folder):
    sweep = run_folder.parent / "sweeps" / "2026-01-02"
    sweep.mkdir(parents=True)
    (sweep / "sweep.csv").write_text("run,sae.lr,fvu\nother,1,0.5\ntiny,2,0.5\n")
    (sweep / "sweep.html").write_text(document("sweep", "<p>sweep"))
    assert main([f"from={run_folder}", "dashboard.tokens=600", "dashboard.effects=none"]) == 0
    assert Dashboard(run_folder / "dashboard").manifest["sweep_page"] == "sweep.html"
    assert " Latents</a></nav>\n<p>sweep" in (run_folder / "dashboard" / "sweep.html").read_text()


def test_the_command_that_it_names_serves_what_was_built(run_folder, tmp_path, monkeypatch, capsys):
    from sae.dashboards.live import server

    served = []
    monkeypatch.setattr(server, "serve", lambda folder, **_: served.append(folder) or 0)
    few = ["dashboard.tokens=600", "dashboard.effects=none"]
    places = {tmp_path / "else where, x=1": ["out={}"], run_folder / "dashboard": []}
    for out, given in places.items():
        assert main([f"from={run_folder}", *(line.format(out) for line in given), *few]) == 0
        command = shlex.split(re.findall(r"  next     (.*)", capsys.readouterr().out)[0])
        assert command[:2] == ["python", "scripts/dashboard.py"]
        assert main([*command[2:], "port=0"]) == 0
        assert "served as it is" in capsys.readouterr().err
    assert served == list(places)


class TestShown:
    @pytest.fixture
    def served(self, monkeypatch):
        from sae.dashboards.live import server

        calls = []
        monkeypatch.setattr(server, "serve", lambda folder, **settings: calls.append((folder, settings)) or 0)
        return calls

    def test_serving_builds_what_is_not_there_and_no_more(self, run_folder, served, capsys):
        lines = [f"from={run_folder}", "serve=true", "port=0", "dashboard.tokens=600", "dashboard.effects=none"]
        assert main(lines) == 0
        assert "served as it is" not in capsys.readouterr().err
        before = content(run_folder)
        assert main(lines[:3]) == 0  # whatever it was built with
        assert "served as it is" in capsys.readouterr().err
        assert content(run_folder) == before
        folders, settings = zip(*served, strict=True)
        assert set(folders) == {run_folder / "dashboard"}
        assert settings[0]["host"] == "127.0.0.1"
        assert settings[0]["port"] == 0
        assert settings[0]["unembedding"].shape == (44, 16)

    def test_open_shows_the_page(self, run_folder, monkeypatch):
        opened = []
        monkeypatch.setattr(webbrowser, "open", opened.append)
        assert main([f"from={run_folder}", "open=true", "dashboard.tokens=600", "dashboard.effects=none"]) == 0
        assert opened == [(run_folder / "dashboard" / "index.html").absolute().as_uri()]


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img/src=x/onerror=alert(2)>",
    "\"'`${x}\\",
    "a\u200bb\u2060",
    "\u202etxet\u2066",
    "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f600\u200d\U0001f525",
    "x" * 1_000_000,
]


def test_hostile_text_is_shown_as_text_in_files_of_plain_ascii(job, train, tmp_path):
    """Words of a vocabulary, a document with half a character, prompts, explanations and names."""
    words = [*WORDS[:20], *HOSTILE]
    special = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), DECODER_SPECIAL, strict=True))
    config = LlamaConfig(vocab_size=len(special) + len(words), bos_token_id=1, eos_token_id=2, pad_token_id=3, **SIZES)
    model = save_model(tmp_path / "</script>", LlamaForCausalLM(config), special, words)
    draw = random.Random(0)
    documents = [" ".join(draw.choices(words, k=30)) for _ in range(60)]
    lines = [json.dumps({"text": text}) for text in documents] + ['{"text": "w1 \\ud800 w2 w3 w4 w5 w6"}']
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    (tmp_path / "words.jsonl").write_text(json.dumps({"latent": 0, "text": "".join(HOSTILE[:7]), "source": HOSTILE[0]}))
    source = ["data=jsonl", f"data.path={tmp_path / 'text.jsonl'}", "train.tokens=1024"]
    given = [line for line in job(f"model.path={model}", *source, "run.name=<b>") if not line.startswith("data.split_on")]
    assert train([line for line in given if line != "data=text"]) == 0
    run = tmp_path / "runs" / "<b>"
    prompt = json.dumps(" ".join(HOSTILE[:7]), ensure_ascii=False).replace("\\\\", "\\")
    extra = [f"dashboard.explanations={tmp_path / 'words.jsonl'}", f"dashboard.texts=[{prompt}]", "dashboard.export=[parquet]"]
    assert main([f"from={run}", *extra]) == 0
    files = content(run / "dashboard" / "data")
    assert len(files) == 5
    for data in files.values():
        assert data.isascii()
        assert b"<" not in data
        assert len(data) < 300_000  # the word of a megabyte is not in them
    (shard,) = Dashboard(run / "dashboard").latent_shards()
    shown = {entry["text"] for entry in shard["strings"]}
    assert {f" {word}" for word in HOSTILE[:7]} <= shown
    assert any("1,000,001 characters" in text for text in shown)
    assert shard["latents"][0]["explanations"][0]["text"] == "".join(HOSTILE[:7])
    assert Dashboard(run / "dashboard").manifest["title"] == "<b>"


@pytest.mark.slow
def test_processes_that_are_killed_again_and_again_end_the_same_to_the_byte(finished_run, built, tmp_path):
    out, log = tmp_path / "dashboard", tmp_path / "log"
    arguments = [f"from={finished_run}", f"out={out}"]
    for number, (moment, call, sent, status) in enumerate(KILLS):
        signs = tmp_path / f"signs-{number}"
        signs.mkdir()
        kill_and_reap(start(arguments, log, moment, call, signs), sent, signs, status=status, log=log)
        assert not (out / "data").exists()
    assert main(arguments) == 0
    assert content(out) == content(built)
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_between_two_renames_the_old_pages_are_kept(finished_run, built, tmp_path):
    out, log, signs = Path(shutil.copytree(built, tmp_path / "dashboard")), tmp_path / "log", tmp_path / "signs"
    signs.mkdir()
    arguments = [f"from={finished_run}", f"out={out}"]
    kill_and_reap(start(arguments, log, "between two renames", 1, signs), signal.SIGKILL, signs, status=-9, log=log)
    assert not (out / "data").exists()
    assert Dashboard(out).manifest == Dashboard(built).manifest  # put back by whoever reads
    assert main(arguments) == 0
    assert content(out) == content(built)


@pytest.mark.slow
def test_the_packaged_model(tmp_path):
    """Real tokens, real text, effects on the loss: of latents that point in arbitrary directions."""
    import torch

    import sae
    from sae.architectures.initialise import initialise_
    from sae.architectures.relu import ReLUSAE

    dictionary = ReLUSAE(d_in=576, d_sae=64)
    initialise_(dictionary, decoder_norm=1.0, tied=True, generator=torch.Generator().manual_seed(0))
    sae.save(dictionary, tmp_path / "mine")
    lines = [f"from={tmp_path / 'mine'}", "dashboard.tokens=2000", "dashboard.exact_effects=4"]
    assert main([*lines, 'dashboard.texts=["The Eiffel Tower stands in"]', "dashboard.export=[neuronpedia]"]) == 0
    found = Dashboard(tmp_path / "mine" / "dashboard")
    assert "Wikipedia" in found.manifest["source"] or "wikipedia" in found.manifest["source"]
    assert found.manifest["effects"] == "gradient"
    (index,) = found.index_shards()
    shards = list(found.latent_shards())
    strings = {entry["text"] for shard in shards for entry in shard["strings"]}
    assert {" the", " of", "\n"} <= strings
    assert not [text for text in strings if "Ġ" in text or "Ċ" in text]
    records = [record for shard in shards for record in shard["latents"]]
    assert all(len(record["logits"]["raised"]) == 10 for record in records if record["fired"])
    exact = [one for record in records for group in record["groups"] for one in group["examples"] if one["exact"]]
    assert exact
    assert index["first"] == 0
