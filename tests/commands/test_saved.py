"""What is done with things that are saved: evaluating an SAE again, and training from a store."""

import json
import re

import pytest

from sae.commands import benchmark, evaluate, harvest
from sae.commands.train import main
from sae.functional import devices


def source_lines(arguments):
    """Those overrides that say where activations come from."""
    return [line for line in arguments if line.split("=")[0].split(".")[0] in ("model", "data", "activations", "evaluation")]


def numbers(folder):
    report = json.loads((folder / "report.json").read_text())["saes"]["relu"]
    return {key: value for key, value in report.items() if key != "tokens_per_second"}


class TestEvaluate:
    def test_gives_the_numbers_of_the_end_of_training(self, finished_run, tmp_path):
        assert evaluate.main([f"from={finished_run}", f"out={tmp_path / 'again.json'}"]) == 0
        again = json.loads((tmp_path / "again.json").read_text())
        again.pop("tokens_per_second")
        assert again == numbers(finished_run)

    def test_other_text_gives_other_numbers(self, finished_run, tmp_path):
        path = tmp_path / "other.txt"
        path.write_text("\n\n".join(" ".join(f"w{(7 * i + j * j) % 40}" for j in range(40)) for i in range(60)))
        assert evaluate.main([f"from={finished_run}", f"data.path={path}", f"out={tmp_path / 'again.json'}"]) == 0
        again = json.loads((tmp_path / "again.json").read_text())
        assert again["fvu"] != numbers(finished_run)["fvu"]
        assert again["dead_fraction"] == numbers(finished_run)["dead_fraction"]

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ([], "from= must be given"),
            (["from=nowhere"], "there is no folder nowhere"),
            (["from={run}", "evaluation.rosw=3"], "Did you mean"),
            (["from={run}", "trainer.device=mps"], "trainer.device='mps' cannot be taken"),
            (["from={run}", "hook.site=mlp_in", "hook.layer=9"], "4 layers, numbered 0 to 3"),
        ],
    )
    def test_mistakes(self, lines, message, finished_run, capsys):
        assert evaluate.main([line.format(run=finished_run) for line in lines]) == 2
        assert message in capsys.readouterr().err

    def test_a_hook_point_of_another_width_is_refused(self, finished_run, capsys):
        assert evaluate.main([f"from={finished_run}", "hook.module=model.layers.0.mlp.gate_proj"]) == 2
        assert "the SAE reads 16 dimensions" in capsys.readouterr().err


class TestHarvest:
    @pytest.fixture
    def store(self, job, tmp_path):
        assert harvest.main([*source_lines(job()), f"out={tmp_path / 'store'}"]) == 0
        return tmp_path / "store"

    def test_training_from_a_store_equals_live_to_the_bit(self, job, store, tmp_path):
        # one pass, so that the live run harvests while it trains
        assert main(job("run.name=live", "activations.cache=false")) == 0
        stored = [line for line in job("run.name=stored") if not line.startswith("activations.")]
        assert main([*stored, "activations=stored", f"activations.path={store}", "activations.chunk_tokens=1024"]) == 0
        runs = tmp_path / "runs"
        for name in ("saes/relu/sae.safetensors", "metrics.jsonl"):
            assert (runs / "live" / name).read_bytes() == (runs / "stored" / name).read_bytes()

    def test_a_run_that_repeats_its_text_fills_the_cache_and_equals_one_that_does_not_use_it(self, job, tmp_path):
        changes = ("data.max_rows=1024", "data.repeat=true")
        cache = tmp_path / "cache"
        assert main(job("run.name=cached", *changes, f"activations.cache_dir={cache}")) == 0
        assert list((cache / "activations").glob("*/manifest.json"))
        assert main(job("run.name=live", *changes, "activations.cache=false")) == 0
        runs = tmp_path / "runs"
        assert (runs / "live/saes/relu/sae.safetensors").read_bytes() == (
            runs / "cached/saes/relu/sae.safetensors"
        ).read_bytes()

    def test_a_store_of_another_text_is_refused(self, job, store, tmp_path, capsys):
        path = tmp_path / "other.txt"
        path.write_text("\n\n".join(" ".join(f"w{(3 * i + j) % 40}" for j in range(40)) for i in range(100)))
        stored = [line for line in job(f"data.path={path}") if not line.startswith("activations.")]
        assert main([*stored, "activations=stored", f"activations.path={store}"]) == 2
        assert "was made from another text" in capsys.readouterr().err

    def test_an_altered_shard_is_named(self, job, store, capsys):
        shard = next(store.glob("shard-*.safetensors"))
        content = bytearray(shard.read_bytes())
        content[-5] ^= 1
        shard.write_bytes(content)
        stored = [line for line in job() if not line.startswith("activations.")]
        assert main([*stored, "activations=stored", f"activations.path={store}"]) == 2
        assert shard.name in capsys.readouterr().err

    def test_out_must_be_given_and_dry_run_writes_nothing(self, job, tmp_path, capsys):
        assert harvest.main(source_lines(job())) == 2
        assert "out= must be given" in capsys.readouterr().err
        assert harvest.main([*source_lines(job()), f"out={tmp_path / 'store'}", "dry_run=true"]) == 0
        assert not (tmp_path / "store").exists()


def test_benchmark_prints_every_stage(job, capsys, monkeypatch):
    clocks = []
    monkeypatch.setattr(devices, "clock", lambda device: clocks.append(device.type) or float(len(clocks)))
    lines = [*source_lines(job()), "batch_tokens=128", "steps=2", "job_tokens=512", "sae.expansion=2"]
    assert benchmark.main(lines) == 0
    printed = capsys.readouterr().out
    for stage in ("harvest to layers.0.resid_post", "SAE step, plain loop", "SAE step, framework", "whole job", "pair by pair"):
        assert stage in printed
    # All times are by the clock that waits for a GPU: harvest, job, and before and after each of four steps of both kinds.
    assert clocks == ["cpu"] * (2 + 2 + 1 + 4 * 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sae=topk", "sae=topk: the plain loop beside it is that of sae=relu.*benchmark_steps"),
        ("sae=transcoder", "sae=transcoder: the plain loop"),
        (
            "sae.unit_norm_decoder=false sae.l1_weighting=decoder_norm",
            "sae.unit_norm_decoder=false: the plain loop beside it does not do that. Take true",
        ),
        ("sae.scaling=layer_norm", "sae.scaling=layer_norm: the plain loop beside it does not do that. Take variance"),
        ("sae.mse_reduction=mean", "sae.mse_reduction=mean: the plain loop beside it does not do that. Take sum"),
        ("sae.mse_coefficient=2.0", "sae.mse_coefficient=2.0: the plain loop beside it does not do that. Take 1.0"),
        ("sae.mse_coefficient=1/d_in", "sae.mse_coefficient=1/d_in: the plain loop beside it does not do that. Take 1.0"),
        ("sae.mse_warmup=0.5", "sae.mse_warmup=0.5: the plain loop beside it does not do that. Take 0.0"),
        ("sae.l1_weighting=frozen_decoder_norm", "sae.l1_weighting=frozen_decoder_norm: the plain loop.*Take none"),
        ("sae.l1_on=pre_acts", "sae.l1_on=pre_acts: the plain loop beside it does not do that. Take latent_acts"),
        ("sae.average_half_life=0.1", "sae.average_half_life=0.1: the plain loop beside it does not do that. Take null"),
        ("sae.expansion=0.01", "sae.expansion=0.01 gives no latent for 16 dimensions"),
    ],
)
def test_the_benchmark_refuses_what_the_plain_loop_does_not_do_before_anything_is_loaded(
    job, capsys, monkeypatch, change, says
):
    def loaded(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("sae.commands.origin.open_origin", loaded)
    assert benchmark.main([*source_lines(job()), *change.split()]) == 2
    assert re.search(says, capsys.readouterr().err.replace("\n", " "))


def test_the_benchmark_times_the_step_that_the_trainer_s_settings_ask_for(job, monkeypatch):
    """Passes, device and log of every training it makes, and precision of the plain loop too."""
    import torch

    import sae.training.run
    from sae.commands.plain_loop import PlainLoop

    asked, autocasts = [], []
    train, step = sae.training.run.train, PlainLoop.step

    def noting_train(**keywords):
        asked.extend((learner.passes.settings, keywords["trainer"]) for learner in keywords["learners"].values())
        return train(**keywords)

    def noting_step(self, rows):
        autocasts.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        step(self, rows)

    monkeypatch.setattr("sae.training.run.train", noting_train)
    monkeypatch.setattr(PlainLoop, "step", noting_step)
    settings = ["trainer.device=cpu", "trainer.precision=bf16", "trainer.kernels=sparse", "trainer.encoder_dtype=bfloat16"]
    sizes = ["batch_tokens=128", "steps=2", "job_tokens=512", "sae.expansion=2"]
    assert benchmark.main([*source_lines(job()), *sizes, *settings]) == 0
    assert len(asked) == 2
    for passes, trainer in asked:
        assert (passes.kernels, passes.encoder_dtype) == ("sparse", "bfloat16")
        assert (trainer.device, trainer.precision, trainer.log_every_steps) == ("cpu", "bf16", 100)
    assert autocasts == [(True, torch.bfloat16)] * 4


def test_the_benchmark_refuses_passes_that_cannot_be_made_before_anything_is_loaded(job, capsys, monkeypatch):
    def loaded(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("sae.commands.origin.open_origin", loaded)
    lines = [*source_lines(job()), "trainer.compile=true", "trainer.kernels=sparse"]
    assert benchmark.main(lines) == 2
    assert "trainer.compile=true" in capsys.readouterr().err


def test_the_benchmark_s_plain_loop_takes_the_framework_s_step():
    """Same start, same rows: after a step the weights are the framework's, or the comparison compares different work."""
    import torch

    from sae.commands.plain_loop import PlainLoop
    from tests.training.tiny import HOOK, make_learner

    learner = make_learner()
    rows = torch.randn(64, learner.sae.d_in, generator=torch.Generator().manual_seed(1))
    learner.start_from({HOOK: rows})
    loop = PlainLoop(learner)
    optimizer = torch.optim.Adam(learner.sae.parameters(), lr=learner.course.peak_lr, fused=True)
    loop.step(rows)
    learner.loss({HOOK: rows}, learner.budget.steps - 1, measure=False).backward()  # past the ramp of the coefficient
    learner.before_update(optimizer, measure=False)
    optimizer.step()
    learner.after_update(len(rows), learner.budget.steps - 1, optimizer)
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        torch.testing.assert_close(getattr(loop, name), getattr(learner.sae, name), rtol=1e-5, atol=1e-6)
