"""`hook.mix=true` from what is typed to the files of a run: one SAE on the rows of several layers."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import sae
from sae.commands.dashboard import main as dashboard
from sae.commands.evaluate import main as evaluate
from sae.commands.harvest import main as harvest
from sae.commands.reading import has_target, reads_several
from sae.dashboards.live.inline import read_manifest
from sae.formats.layers import layer_units_bytes
from sae.formats.native import load_layer_units, read_cfg
from sae.training.callbacks.checkpoints import latest_checkpoint
from tests.commands.test_train import checkpoints_of, metrics_of, report_of
from tests.training.nodes import NAMES as NODES
from tests.training.nodes import keys_of

MIX = ("hook.mix=true", "hook.layers=[0,1,3]", "data.repeat=true", "activations.cache=false")
NAMES = ["layers.0.resid_post", "layers.1.resid_post", "layers.3.resid_post"]


@pytest.fixture(scope="module")
def mixed_run(decoder, text, tmp_path_factory):
    """A run in units of layers, of a folder to be read."""
    from sae.commands.train import main
    from tests.commands.conftest import typed

    folder = tmp_path_factory.mktemp("mixed")
    assert main(typed(decoder, text, folder, *MIX, "hook.layer_units=both", "activations.max_norm_multiple=4")) == 0
    return folder / "tiny"


def test_a_run_leaves_the_units_of_its_layers(mixed_run):
    folder = mixed_run / "saes" / "relu"
    units, cfg = load_layer_units(mixed_run), json.loads((folder / "cfg.json").read_text())
    assert list(units.layers) == NAMES == cfg["layers"] == [place["name"] for place in cfg["hook"]["layers"]]
    assert cfg["hook"]["layer_units"] == "both"
    assert (cfg["d_in"], cfg["d_sae"]) == (16, 32)
    assert set(cfg["training"]["norm_limits"]) == set(NAMES)
    assert (folder / "layers.safetensors").read_bytes() == (mixed_run / "layers.safetensors").read_bytes()
    assert not units.are_raw
    assert set(load_file(folder / "layers.safetensors")) == {"means", "scales"}


def test_a_report_has_numbers_over_all_rows_and_by_layer(mixed_run):
    report = report_of(mixed_run)
    assert report["tokens_trained"] == 2048
    assert 200 <= report["tokens_evaluated"] <= 256
    assert [layer["hook_point"] for layer in report["layers"]] == NAMES
    assert report["ce_sae"] is None
    assert "see `layers`" in report["ce_reason"]
    for layer in report["layers"]:
        assert 0 < layer["fvu"] < 5
        assert 0 < layer["l0"] <= 32
        assert layer["ce_clean"] > 0
        assert layer["ce_sae"] != layer["ce_mean"]
    assert sum(layer["tokens_evaluated"] for layer in report["layers"]) == report["tokens_evaluated"]
    weights = [layer["tokens_evaluated"] for layer in report["layers"]]
    mean_l0 = sum(layer["l0"] * weight for layer, weight in zip(report["layers"], weights, strict=True)) / sum(weights)
    assert math.isclose(mean_l0, report["l0"], rel_tol=0.02)
    page = (mixed_run / "report.html").read_text()
    assert "Layers of relu" in page
    assert all(page.count(name) >= 1 for name in NAMES)


def test_one_layer_is_loaded_in_its_raw_units(mixed_run):
    units, mixed = load_layer_units(mixed_run), sae.load(mixed_run)
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    for number, name in enumerate(NAMES):
        found = sae.load(mixed_run, layer=name)(x).recon
        torch.testing.assert_close(found, units.take_back(mixed(units.put(x, number)).recon, number), rtol=1e-3, atol=1e-4)
    with pytest.raises(sae.UserError, match=r"no layer 'layers\.2\.resid_post': the dictionary was trained on layers\.0\."):
        sae.load(mixed_run, layer="layers.2.resid_post")


def test_an_sae_of_one_place_has_no_layers(finished_run):
    with pytest.raises(sae.UserError, match="reads one place, not mixed layers"):
        sae.load(finished_run, layer="layers.0.resid_post")


def test_the_command_measures_what_the_run_reported(mixed_run, tmp_path, capsys):
    assert evaluate([f"from={mixed_run}", f"out={tmp_path / 'numbers.json'}"]) == 0
    found, reported = json.loads((tmp_path / "numbers.json").read_text()), report_of(mixed_run)
    assert found["layers"] == reported["layers"]
    assert found["fvu"] == reported["fvu"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert evaluate([f"from={mixed_run}", "hook.layer=1", f"out={tmp_path / 'one.json'}"]) == 0
    assert "outliers were told by their distance from the layer's mean" in capsys.readouterr().err
    one = json.loads((tmp_path / "one.json").read_text())
    assert one["hook_point"] == NAMES[1]
    assert one["ce_sae"] == pytest.approx(reported["layers"][1]["ce_sae"], rel=1e-2)
    assert one["fvu"] == pytest.approx(reported["layers"][1]["fvu"], rel=0.15)  # on three times as many rows of the layer


def test_norm_limits_of_scaled_layers_are_told_in_raw_units(mixed_run, tmp_path):
    """A limit of 0.001 in units of a millionth is 1,000 in raw ones, which drops no row; unchanged it would drop them all."""
    units, cfg = load_layer_units(mixed_run), read_cfg(mixed_run)
    scaled = replace(units, means=0 * units.means, scales=torch.full((3,), 1e-6, dtype=torch.float64))
    sections = {key: cfg[key] for key in ("model", "hook", "text", "training")}
    sections["training"]["norm_limits"] = dict.fromkeys(NAMES, 1e-3)
    folder = sae.save(sae.load(mixed_run), tmp_path / "scaled", cfg=sections, layers=scaled)
    out = tmp_path / "one.json"
    assert evaluate([f"from={folder}", "hook.layer=1", "evaluation.ce_tokens=0", f"out={out}"]) == 0
    assert json.loads(out.read_text())["tokens_evaluated"] > 200


def test_a_resumed_run_is_the_run_that_was_never_stopped(job, train, tmp_path):
    """Stopped in the middle, and again before the first chunk's units had a checkpoint beside them."""
    typed = job(*MIX, "hook.layer_units=both", "checkpoint.every_tokens=512", "checkpoint.keep=9")
    assert train(typed) == 0
    whole = tmp_path / "runs" / "tiny"
    kept = {name: (whole / name).read_bytes() for name in ("metrics.jsonl", "saes/relu/sae.safetensors", "layers.safetensors")}
    for stop in (512, 1024):
        for path in (whole / "checkpoints").iterdir():
            if int("".join(filter(str.isdigit, path.stem))) > stop:
                path.unlink()
        assert checkpoints_of(whole)[-1] == stop
        assert train([f"resume={whole}"]) == 0
        assert {name: (whole / name).read_bytes() for name in kept} == kept
    for path in (whole / "checkpoints").iterdir():
        path.unlink()
    (whole / "layers.safetensors").unlink()
    assert latest_checkpoint(whole / "checkpoints") is None
    assert train([f"resume={whole}"]) == 0
    assert {name: (whole / name).read_bytes() for name in kept} == kept


def test_the_units_of_a_run_are_those_of_its_file(job, train, tmp_path):
    """Once they are written they are not estimated again, whatever has become of the text."""
    assert train(job(*MIX, "hook.layer_units=both", "evaluation.ce_tokens=32")) == 0
    folder = tmp_path / "runs" / "tiny"
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    units = load_layer_units(folder)
    other = layer_units_bytes(replace(units, means=units.means + 0.25))
    (folder / "layers.safetensors").write_bytes(other)
    assert train([f"resume={folder}"]) == 0
    assert (folder / "saes" / "relu" / "layers.safetensors").read_bytes() == other


def test_stored_activations_give_the_live_run(job, train, tmp_path):
    assert train(job(*MIX, "hook.layer_units=scale")) == 0
    live, store = tmp_path / "runs" / "tiny", tmp_path / "store"
    wanted = [line for line in job() if line.split("=", 1)[0].split(".", 1)[0] in ("model", "data")]
    assert harvest([*wanted, "hook.layers=[0,1,3]", f"out={store}"]) == 0
    typed = [
        line for line in job(*MIX, "hook.layer_units=scale", "run.name=stored") if not line.startswith("activations.cache")
    ]
    assert train([*typed, "activations=stored", f"activations.path={store}"]) == 0
    for name in ("saes/relu/sae.safetensors", "metrics.jsonl", "layers.safetensors"):
        assert (tmp_path / "runs" / "stored" / name).read_bytes() == (live / name).read_bytes()


def test_a_dry_run_counts_vectors(job, train, capsys):
    def training_rows(*changes):
        assert train(job("dry_run=true", *changes)) == 0
        printed = capsys.readouterr().err
        return int(re.search(r"([\d,]+) training rows", printed).group(1).replace(",", "")), printed

    alone, _ = training_rows("hook.layer=0")
    mixed, printed = training_rows(*MIX)
    assert mixed == 3 * alone
    assert "each token gives 3 rows, one a layer" in printed
    assert "d_in 16, d_sae 32" in printed


def test_all_blocks_are_mixed_where_none_are_named(job, train, capsys):
    assert train(job("hook.mix=true", "data.repeat=true", "dry_run=true")) == 0
    printed = capsys.readouterr().err
    assert all(f"layers.{number}.resid_post" in printed for number in range(4))


def test_an_encoder_has_reasons_in_place_of_cross_entropies(encoder, job, train, tmp_path, capsys):
    assert train(job(f"model.path={encoder}", *MIX, "hook.site=resid_pre")) == 0
    for layer in report_of(tmp_path / "runs" / "tiny")["layers"]:
        assert layer["ce_sae"] is None
        assert "no language modelling head" in layer["ce_reason"]
    assert "no cross-entropy: BertModel" in capsys.readouterr().out


def test_a_start_from_a_mixed_sae_takes_its_units(mixed_run, job, train, tmp_path):
    assert train(job(*MIX, "hook.layer_units=both", f"init_from={mixed_run}", "seed=3", "run.name=more")) == 0
    more = tmp_path / "runs" / "more"
    assert (more / "layers.safetensors").read_bytes() == (mixed_run / "layers.safetensors").read_bytes()
    assert metrics_of(more)[0]["fvu"] < metrics_of(mixed_run)[0]["fvu"]


ONE_PLACE = [name for name in NODES if not has_target(name) and not reads_several(name)]
SIZES = {"k": "sae.k=4", "l0_target": "sae.l0_target=4"}


@pytest.mark.parametrize("architecture", ONE_PLACE)
def test_every_architecture_of_one_place_trains_on_mixed_rows(architecture, job, train, tmp_path):
    settings = [text for key, text in SIZES.items() if keys_of(architecture).get(key) is not None]
    kept = [line for line in job(*MIX, "hook.layer_units=both", "train.tokens=1024", "evaluation.ce_tokens=32")]
    if "resample_pool_rows" not in keys_of(architecture):
        kept = [line for line in kept if not line.startswith("sae.resample_pool_rows")]
    assert train([*kept, f"sae={architecture}", *settings]) == 0
    report = report_of(tmp_path / "runs" / "tiny")
    assert [layer["hook_point"] for layer in report["layers"]] == NAMES
    assert report["l0"] > 0
    assert (tmp_path / "runs" / "tiny" / "saes" / architecture / "layers.safetensors").is_file()


def test_modules_of_different_widths_are_not_mixed(refused, job):
    typed = ["hook.mix=true", "hook.module=model.layers.1.mlp.*_proj"]
    assert "cannot be mixed: model.layers.1.mlp.down_proj.output has 16" in refused(job(*typed), loads_model=True)
    assert "is one: name more" in refused(job("hook.mix=true", "hook.module=model.layers.1.mlp"), loads_model=True)


def test_a_start_in_other_units_is_refused(mixed_run, finished_run, refused, job):
    said = refused(job(*MIX, f"init_from={mixed_run}"))
    assert "takes rows of mixed layers, each less its layer's mean" in said
    assert "hook.layer_units=none gives others" in said
    assert "takes raw rows" in refused(job(*MIX, "hook.layer_units=scale", f"init_from={finished_run}"))


def test_pages_of_one_place_ask_for_a_layer(mixed_run, tmp_path, capsys):
    assert dashboard([f"from={mixed_run}"]) == 2
    assert "name it by hook.layer=" in capsys.readouterr().err
    out = tmp_path / "dashboard"
    typed = ["hook.layer=1", "dashboard.effects=none", "dashboard.tokens=500"]
    assert dashboard([f"from={mixed_run}", *typed, f"out={out}"]) == 0
    assert read_manifest(out)["hook_point"] == NAMES[1]
    assert sae.show("w1 w2 w3", dashboard=out, dictionary=mixed_run) is not None
