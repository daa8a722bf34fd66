"""`scripts/train.py` from what is typed to the files of a run."""

import json
import re

import pytest
import yaml

import sae
from sae.commands import origin
from sae.commands.evaluate import main as evaluate

FILES = {
    "config.yaml",
    "metrics.jsonl",
    "report.html",
    "report.json",
    "run.json",
    "saes/relu/README.md",
    "saes/relu/cfg.json",
    "saes/relu/sae.safetensors",
    "timing.jsonl",
}
REPORT = {
    "fvu",
    "explained_variance",
    "l0",
    "l1",
    "cosine",
    "norm_ratio",
    "dead_fraction",
    "ce_clean",
    "ce_sae",
    "ce_zero",
    "ce_mean",
    "ce_recovered_zero",
    "ce_recovered_mean",
    "kl",
    "tokens_trained",
    "tokens_evaluated",
    "tokens_per_second",
}


def report_of(folder):
    (report,) = json.loads((folder / "report.json").read_text())["saes"].values()
    return report


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def fvus(folder):
    return [row["fvu"] for row in metrics_of(folder) if row.get("split") == "train" and "fvu" in row]


def checkpoints_of(folder):
    return sorted(int(re.findall(r"\d+", path.name)[0]) for path in (folder / "checkpoints").iterdir())


def test_a_run_leaves_its_files_and_no_others(finished_run):
    files = {str(path.relative_to(finished_run)) for path in finished_run.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith("checkpoints/")} == FILES
    assert checkpoints_of(finished_run)[-1] == 2048
    assert [path.name for path in finished_run.parent.iterdir()] == ["tiny"]


def test_a_report_holds_the_numbers_that_are_promised(finished_run):
    report = report_of(finished_run)
    assert set(report) >= REPORT
    assert all(isinstance(report[key], int | float) for key in REPORT)
    assert report["tokens_trained"] == 2048
    assert report["ce_reason"] is None


@pytest.mark.parametrize("rows", [0, 64])
def test_what_thresholds_were_multiplied_by_is_told(rows, job, train, tmp_path):
    typed = [line for line in job("sae=batch_topk", "sae.k=4", f"sae.calibration_rows={rows}") if "resample" not in line]
    assert train(typed) == 0
    run = tmp_path / "runs" / "tiny"
    factor = report_of(run).get("threshold_factor")
    assert factor is None if rows == 0 else 0.5 < factor < 2
    assert json.loads((run / "saes" / "batch_topk" / "cfg.json").read_text())["training"]["threshold_factor"] == factor
    assert evaluate([f"from={run}", f"out={tmp_path / 'again.json'}"]) == 0
    assert json.loads((tmp_path / "again.json").read_text()).get("threshold_factor") == factor


def test_the_configuration_is_kept_whole(finished_run, decoder):
    tree = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert tree["model"]["path"] == str(decoder)
    assert tree["sae"]["expansion"] == 2
    assert "hydra" not in tree


def test_metrics_are_counted_in_tokens(finished_run):
    rows = metrics_of(finished_run)
    assert rows[-1]["tokens"] == 2048
    assert {row["split"] for row in rows if "fvu" in row} == {"train", "held_out"}
    assert all("second" not in key for row in rows for key in row)


def test_the_sae_loads(finished_run, decoder):
    loaded = sae.load(finished_run)
    assert (loaded.d_in, loaded.d_sae) == (16, 32)
    cfg = json.loads((finished_run / "saes" / "relu" / "cfg.json").read_text())
    assert cfg["hook"]["name"] == "layers.0.resid_post"
    assert cfg["model"]["name"] == decoder.name


def test_the_page_stands_alone(finished_run):
    page = (finished_run / "report.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_results_go_to_standard_output_and_progress_does_not(job, train, capsys):
    assert train(job()) == 0
    printed = capsys.readouterr()
    assert "FVU" in printed.out
    assert "report.html" in printed.out
    assert "resume=" in printed.out
    assert "hook point" not in printed.out
    for part in (
        "hook point",
        "[32 tokens, 16]",
        "d_in 16, d_sae 32",
        "1,072 parameters",
        "16 steps",
        "memory",
        "2 chunks of rows on cpu",
        "disk",
        "time",
    ):
        assert part in printed.err
    assert "training 2,048 of 2,048 tokens" in printed.err
    assert "\r" not in printed.err  # no bar where there is no terminal


def test_two_runs_with_one_seed_are_one(job, train, tmp_path, finished_run):
    assert train(job()) == 0
    for name in ("saes/relu/sae.safetensors", "metrics.jsonl"):
        assert (tmp_path / "runs" / "tiny" / name).read_bytes() == (finished_run / name).read_bytes()
    assert train(job("seed=1", "run.name=other")) == 0
    weights = "saes/relu/sae.safetensors"
    assert (tmp_path / "runs" / "other" / weights).read_bytes() != (finished_run / weights).read_bytes()


def test_a_dry_run_writes_nothing(job, train, tmp_path, capsys):
    before = set(tmp_path.rglob("*"))
    assert train(job("dry_run=true", "hook.layer=2", "data.repeat=true", "train.tokens=8000")) == 0
    printed = capsys.readouterr()
    assert set(tmp_path.rglob("*")) == before
    assert "layers.2.resid_post" in printed.err
    assert "62 steps" in printed.err
    tree = yaml.safe_load(printed.out)
    assert tree["hook"]["layer"] == 2
    assert tree["train"]["tokens"] == 8000


@pytest.mark.parametrize(("kernels", "least", "most"), [("dense", 3.0, 3.6), ("auto", 0.5, 0.7)])
def test_a_dry_run_foretells_the_memory_of_the_pass_that_training_takes(kernels, least, most, job, train, capsys):
    """65,536 latents, batch 2,048: six arrays of all pre-activations, or the 2^27 of them that are searched at a time."""
    sizes = ["sae.expansion=null", "sae.d_sae=65536", "sae.k=8", "train.batch_tokens=2048"]
    lines = [line for line in job("sae=topk", *sizes) if not line.startswith("sae.resample")]
    assert train([*lines, f"trainer.kernels={kernels}", "dry_run=true"]) == 0
    (found,) = re.findall(r"memory +about ([0-9.]+) GB", capsys.readouterr().err)
    assert least <= float(found) <= most


def test_a_name_is_made_of_model_place_and_sae(job, train, tmp_path):
    for typed in (["run.name=null"], ["run.name=null", "hook.site=mlp_out", "hook.layer=2", "sae.d_sae=24"]):
        lines = [line for line in job("dry_run=true", *typed) if "d_sae" not in " ".join(typed) or "expansion" not in line]
        assert train(lines) == 0
    lines = [line for line in job() if not line.startswith(("run.name", "sae.expansion"))]
    assert train([*lines, "sae.d_sae=24", "hook.site=mlp_out", "hook.layer=2"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-llama-mlp_out-2-relu-24"]


def test_a_finished_run_is_extended(train, run_folder):
    before = metrics_of(run_folder)
    identity = (run_folder / "run.json").read_text()
    assert train([f"resume={run_folder}", "train.tokens=3072"]) == 0
    assert report_of(run_folder)["tokens_trained"] == 3072
    after = metrics_of(run_folder)
    assert after[: len(before)] == before
    assert after[-1]["tokens"] == 3072
    assert yaml.safe_load((run_folder / "config.yaml").read_text())["train"]["tokens"] == 3072
    assert (run_folder / "run.json").read_text() == identity
    assert [path.name for path in run_folder.parent.iterdir()] == ["tiny"]


def test_a_finished_run_resumed_as_it_is_gives_the_same(train, run_folder):
    weights = (run_folder / "saes" / "relu" / "sae.safetensors").read_bytes()
    before = {key: value for key, value in report_of(run_folder).items() if key != "tokens_per_second"}
    assert train([f"resume={run_folder}", "activations.device=cpu"]) == 0  # which changes no batch
    assert (run_folder / "saes" / "relu" / "sae.safetensors").read_bytes() == weights
    assert {key: value for key, value in report_of(run_folder).items() if key != "tokens_per_second"} == before


def test_if_exists_resume_goes_on(job, train, run_folder):
    identity = (run_folder / "run.json").read_text()
    assert train(job("run.if_exists=resume")) == 0
    assert (run_folder / "run.json").read_text() == identity


def test_if_exists_resume_passes_over_nothing_that_was_typed(job, train, run_folder, capsys):
    assert train(job("run.if_exists=resume", "sae.l1_coefficient=9.0")) == 2
    assert "sae.l1_coefficient=9.0 would make another run" in capsys.readouterr().err


def test_if_exists_resume_starts_where_there_is_nothing(job, train, tmp_path):
    assert train(job("run.if_exists=resume")) == 0
    assert report_of(tmp_path / "runs" / "tiny")["tokens_trained"] == 2048


def test_if_exists_overwrite_starts_anew(job, train, run_folder):
    identity = (run_folder / "run.json").read_text()
    (run_folder / "notes.txt").touch()
    assert train(job("run.if_exists=overwrite", "train.tokens=1024")) == 0
    assert report_of(run_folder)["tokens_trained"] == 1024
    assert (run_folder / "run.json").read_text() != identity
    assert not (run_folder / "notes.txt").exists()


def test_a_run_starts_from_a_trained_sae(job, train, tmp_path, finished_run):
    """Its first loss is about the other's last, not that of a fresh start."""
    assert train(job(f"init_from={finished_run}", "sae.resample_at=[]", "train.tokens=1024")) == 0
    first, fresh = (fvus(folder)[0] for folder in (tmp_path / "runs" / "tiny", finished_run))
    assert abs(first - fvus(finished_run)[-1]) < abs(first - fresh)


def test_an_encoder_has_no_cross_entropy(job, train, tmp_path, encoder, capsys):
    assert train(job(f"model.path={encoder}", "hook.layer=3")) == 0
    report = report_of(tmp_path / "runs" / "tiny")
    for key in (key for key in REPORT if key.startswith(("ce_", "kl"))):
        assert report[key] is None
    assert "head" in report["ce_reason"]
    assert report["fvu"] > 0
    assert f"no cross-entropy: {report['ce_reason']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "name", "width"),
    [
        (["hook.site=embeddings"], "embeddings", 16),
        (["hook.site=mlp_out", "hook.layer=1"], "layers.1.mlp_out", 16),
        (["hook.site=attn_z", "hook.layer=3"], "layers.3.attn_z", 16),
        (["hook.module=model.layers.2.mlp.down_proj", "hook.tensor=input"], "model.layers.2.mlp.down_proj.input", 24),
        (["hook.module=model.layers.[2].*norm"], None, None),
        (["hook.module=model.layers.[2].inp*"], "model.layers.2.input_layernorm.output", 16),
        (["hook.module=blocks.2.hook_resid_mid"], "layers.2.resid_mid", 16),
    ],
)
def test_a_hook_point_is_where_it_was_typed(typed, name, width, job, train, capsys):
    status = train(job(*typed, "dry_run=true"))
    said = capsys.readouterr().err
    if name is None:
        assert status == 2
        assert "names 2 modules where one is wanted" in said
    else:
        assert status == 0
        assert f"hook point   {name} = " in said
        assert f"[32 tokens, {width}] a block" in said


def test_a_run_at_a_modules_input(job, train, tmp_path):
    assert train(job("hook.module=model.layers.2.mlp.down_proj", "hook.tensor=input")) == 0
    assert sae.load(tmp_path / "runs" / "tiny").d_in == 24
    assert report_of(tmp_path / "runs" / "tiny")["ce_sae"] is not None


def test_odd_characters_in_paths(job, train, tmp_path, text, decoder):
    """In the text's, the model's and the run's name, and again when it is resumed."""
    odd = "it's a=b, [c] {d} 'é中🙂"
    folder = tmp_path / odd
    folder.mkdir()
    (folder / f"{odd}.txt").write_text(text.read_text())
    (folder / "model=1,2").symlink_to(decoder)
    model, data = f"model.path={folder / 'model=1,2'}", f"data.path={folder / odd}.txt"
    assert train(job(model, data, f"run.folder={folder}", f"run.name={odd}")) == 0
    assert report_of(folder / odd)["tokens_trained"] == 2048
    assert train([f"resume={folder / odd}", "train.tokens=3072"]) == 0
    assert train(job(f"init_from={folder / odd}", "dry_run=true")) == 0


def test_home_is_meant_by_a_tilde(job, train, tmp_path, monkeypatch, finished_run):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "done").symlink_to(finished_run)
    assert train(job("run.folder=~/mine", "init_from=~/done", "train.tokens=256")) == 0
    assert (tmp_path / "mine" / "tiny" / "report.json").is_file()


def test_a_mixture_of_texts(job, train, tmp_path, text):
    lines = [line for line in job("data=mixture") if not line.startswith(("data.path", "data.split_on"))]
    mine = [f"+data.sources.mine.{key}" for key in ("source=text", f"path={text}", "split_on=blank_lines")]
    assert train([*lines, *mine, "+data.weights.mine=2", "~data.sources.wikipedia", "~data.weights.wikipedia"]) == 0
    assert report_of(tmp_path / "runs" / "tiny")["tokens_trained"] == 2048


def test_a_mistake_of_ours_keeps_its_traceback(job, train, monkeypatch):
    """Only what a user can mend is told without one."""

    def fail(**_):
        raise RuntimeError("ours")

    monkeypatch.setattr(origin, "load_model", fail)
    with pytest.raises(RuntimeError, match="ours"):
        train(job())


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device", "x"), 2)])
def test_what_comes_from_outside_is_told_without_a_traceback(error, status, job, train, monkeypatch, capsys):
    def fail(**_):
        raise error

    monkeypatch.setattr(origin, "load_model", fail)
    assert train(job()) == status
    said = capsys.readouterr().err
    assert {130: "interrupted", 2: "error: x: No space left on device"}[status] in said
