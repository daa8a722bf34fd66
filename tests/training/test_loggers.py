"""Where metrics go: lines of JSON always, TensorBoard and Weights & Biases if asked for, several at once."""

import json
import os
import signal

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae.errors import UserError
from sae.training.learner import Learner
from sae.training.loggers import wandb as wandb_module
from sae.training.loggers.json_lines import JsonLines, read_json_lines
from sae.training.loggers.settings import LoggerSettings
from sae.training.loggers.sink import MetricSink
from sae.training.loggers.tensorboard import TensorBoard
from sae.training.loggers.wandb import WeightsAndBiases, has_account
from tests.training.test_resume import at_call, stop
from tests.training.tiny import BATCH, Run

# -- lines of JSON -----------------------------------------------------------------------------------------------------


def test_rows_are_on_the_disk_when_they_are_written_and_cut_back_to_a_place(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    lines = JsonLines(path)
    lines.write({"tokens": 1, "loss": 0.1})
    place = lines.position()
    lines.write({"tokens": 2, "loss": float("nan")})
    assert path.stat().st_size > place == len('{"tokens": 1, "loss": 0.1}\n')
    lines.cut_back(place)
    lines.write({"tokens": 3})
    lines.close()
    again = JsonLines(path)
    again.cut_back(again.position())
    again.write({"tokens": 4})
    again.close()
    assert [row["tokens"] for row in read_json_lines(path)] == [1, 3, 4]


def test_numbers_survive_to_the_last_bit(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.write({"loss": 0.1 + 0.2})
    lines.close()
    assert read_json_lines(tmp_path / "metrics.jsonl") == [{"loss": 0.1 + 0.2}]


def test_a_line_cut_short_is_left_out_and_a_missing_file_is_empty(tmp_path):
    path = tmp_path / "timing.jsonl"
    assert read_json_lines(path) == []
    path.write_bytes(b'{"tokens": 1}\n{"tok')
    assert read_json_lines(path) == [{"tokens": 1}]


# -- TensorBoard -------------------------------------------------------------------------------------------------------


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(name)]


def test_tensorboard_shows_metrics_over_tokens(tmp_path):
    sink = TensorBoard(tmp_path, resumed_at_tokens=None)
    sink.log({"loss": 0.5, "l0": 3.0}, split="train", tokens=8)
    sink.log({"loss": 0.25}, split="train", tokens=16)
    sink.log_histogram("held_out/log10_density", edges=[-3.0, -1.0, 0.0], counts=[4, 9], tokens=16)
    sink.finish(report={"fvu": 0.3}, folder=str(tmp_path))
    sink.close()
    assert scalars(tmp_path, "train/loss") == [(8, 0.5), (16, 0.25)]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (histogram,) = events.Histograms("held_out/log10_density")
    assert histogram.step == 16
    assert list(histogram.histogram_value.bucket) == [4, 9]
    assert list(histogram.histogram_value.bucket_limit) == [-1, 0]
    assert events.Tags()["tensors"] == ["report/text_summary"]


def test_a_resumed_run_hides_the_points_that_it_takes_again(tmp_path):
    first = TensorBoard(tmp_path, resumed_at_tokens=None)
    for tokens in (8, 16, 24):
        first.log({"loss": float(tokens)}, split="train", tokens=tokens)
    first.close()
    second = TensorBoard(tmp_path, resumed_at_tokens=16)
    for tokens in (24, 32):
        second.log({"loss": -float(tokens)}, split="train", tokens=tokens)
    second.close()
    # the point at 16 was logged before the checkpoint at 16 and stays
    assert scalars(tmp_path, "train/loss") == [(8, 8), (16, 16), (24, -24), (32, -32)]


# -- Weights & Biases --------------------------------------------------------------------------------------------------


class FakeRun:
    def __init__(self, settings):
        self.id, self.settings = settings["id"], settings
        self.rows, self.metrics, self.summary, self.artifacts, self.finished = [], {}, {}, [], False

    def define_metric(self, name, step_metric):
        self.metrics[name] = step_metric

    def log(self, row):
        assert not self.finished
        self.rows.append(row)

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def finish(self):
        self.finished = True


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A wandb without service and network; gives the runs that were opened."""
    runs = []

    def init(**settings):
        runs.append(FakeRun(settings))
        return runs[-1]

    class Setup:
        class settings:
            base_url = "https://api.wandb.ai"

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "setup", Setup)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return runs


def open_wandb(folder, **changes):
    settings = {"project": "p", "run_id": "7-relu", "name": "n", "group": "g", "entity": None, "tags": ["t"], "mode": "auto"}
    return WeightsAndBiases(folder=folder, **{**settings, "save_sae": False, "config": {"seed": 0}, **changes})


def test_it_is_offline_without_an_account_and_online_with_one(fake, tmp_path, monkeypatch):
    assert not has_account()
    open_wandb(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "k")
    open_wandb(tmp_path)
    open_wandb(tmp_path, mode="offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_wandb(tmp_path, mode="online")
    assert [run.settings["mode"] for run in fake] == ["offline", "online", "offline", "offline"]
    assert [run.settings["resume"] for run in fake] == [None, "allow", None, None]
    assert {run.settings["id"] for run in fake} == {"7-relu"}
    assert {run.settings["reinit"] for run in fake} == {"create_new"}  # several at once in one process


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_an_earlier_login_counts_as_an_account(fake, tmp_path, host):
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'a' * 40}\n")
    assert has_account()
    (tmp_path / "netrc").write_text("machine elsewhere.example\n  login user\n  password x\n")
    assert not has_account()
    (tmp_path / "netrc").write_text("no netrc at all")
    assert not has_account()


def test_online_without_an_account_is_an_error_and_never_a_prompt(fake, tmp_path):
    with pytest.raises(UserError, match=r"logger\.mode=online needs an account.*logger\.mode=offline"):
        open_wandb(tmp_path, mode="online")
    assert fake == []


def test_a_server_out_of_reach_is_a_users_error(fake, tmp_path, monkeypatch):
    def fail(**_):
        raise wandb.errors.CommError("timed out")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(UserError, match=r"could not be opened \(timed out\).*logger\.mode=offline"):
        open_wandb(tmp_path)


def test_metrics_go_over_tokens_and_the_report_into_the_summary(fake, tmp_path):
    sink = open_wandb(tmp_path / "new", save_sae=True)
    assert isinstance(sink, MetricSink)
    sink.log({"loss": 0.5}, split="train", tokens=8)
    sink.log_histogram("held_out/log10_density", edges=[-3.0, -1.0, 0.0], counts=[4, 9], tokens=8)
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "cfg.json").write_text("{}")
    sink.finish(report={"fvu": 0.3, "kl": None}, folder=str(tmp_path / "sae"))
    sink.close()
    (run,) = fake
    assert run.metrics == dict.fromkeys(("train/*", "held_out/*", "timing/*"), "tokens")
    assert run.rows[0] == {"tokens": 8, "train/loss": 0.5}
    assert list(run.rows[1]["held_out/log10_density"].histogram) == [4, 9]
    assert run.summary == {"fvu": 0.3}
    assert [(artifact.name, artifact.type) for artifact in run.artifacts] == [("sae-7-relu", "sae")]
    assert run.finished


# -- in a run ----------------------------------------------------------------------------------------------------------


def close(session):
    """What the command does when training has ended."""
    for sink in (sink for sinks in session.sinks.values() for sink in sinks):
        sink.finish(report={"fvu": 0.3}, folder=str(session.checkpoint.parent))
        sink.close()


def test_several_loggers_see_every_row_and_the_id_survives_a_resume(fake, tmp_path, monkeypatch):
    run = Run(tmp_path, loggers=LoggerSettings(names=("wandb", "tensorboard")), names=("relu", "other"))
    with monkeypatch.context() as patch:
        at_call(patch, Learner, "loss", 2 * 14, stop)
        stopped = run.go()
    assert [type(sink).__name__ for sink in stopped.sinks["relu"]] == ["WeightsAndBiases", "TensorBoard"]
    close(stopped)
    close(run.go(resume=True))
    assert [part.id for part in fake] == ["0123-relu", "0123-other"] * 2
    assert {part.settings["group"] for part in fake} == {"tiny"}
    assert fake[0].settings["config"] == run.config
    rows = [json.loads(line) for line in run.metrics.splitlines()]
    expected = [(row["tokens"], row["loss"]) for row in rows if row["sae"] == "relu" and "loss" in row]
    logged = [row for part in fake[::2] for row in part.rows]
    assert [(row["tokens"], row["train/loss"]) for row in logged if "train/loss" in row] == expected
    assert sum("held_out/log10_density" in row for row in logged) == 5
    assert any("timing/tokens_per_second" in row for row in logged)
    shown = scalars(tmp_path / "tensorboard" / "relu", "train/loss")
    assert [step for step, _ in shown] == [tokens for tokens, _ in expected]
    assert [value for _, value in shown] == pytest.approx([loss for _, loss in expected], rel=1e-6)


def test_loggers_are_closed_when_a_run_fails(fake, tmp_path, monkeypatch):
    def fail():
        raise UserError("no")

    at_call(monkeypatch, Learner, "loss", 3, fail)
    with pytest.raises(UserError, match="no"):
        Run(tmp_path, loggers=LoggerSettings(names=("wandb", "tensorboard"))).go()
    assert [part.finished for part in fake] == [True]


def test_metrics_do_not_depend_on_loggers(fake, tmp_path):
    plain, logged = Run(tmp_path / "plain"), Run(tmp_path / "logged", loggers=LoggerSettings(names=("wandb",)))
    plain.go()
    logged.go()
    assert plain.metrics == logged.metrics


def test_the_cross_entropy_comes_as_often_as_asked(tmp_path):
    run = Run(tmp_path, splice=lambda sae, hook_point: {"ce_sae": float(sae.d_sae)})
    run.go()
    rows = [json.loads(line) for line in run.metrics.splitlines()]
    assert [row["tokens"] for row in rows if "ce_sae" in row] == [15 * BATCH, 30 * BATCH]
    assert [row["tokens"] for row in rows if "density_histogram" in row] == [9 * BATCH, 18 * BATCH, 27 * BATCH, 36 * BATCH, 320]


def test_a_row_of_training_metrics_holds_what_people_look_at(tmp_path):
    Run(tmp_path).go()
    rows = read_json_lines(tmp_path / "metrics.jsonl")
    assert rows[0].keys() == {
        *("tokens", "sae", "split", "loss", "loss_mse", "loss_l1", "l0", "fvu", "lr", "mse_coefficient", "l1_coefficient"),
        *("gradient_norm", "dead_fraction", "never_fired_fraction"),
    }
    assert [row["tokens"] for row in rows if "loss" in row] == [BATCH, *range(3 * BATCH, 40 * BATCH, 3 * BATCH)]
    timing = read_json_lines(tmp_path / "timing.jsonl")
    assert timing[0].keys() == {"tokens", "time", "tokens_per_second", "waiting_share"}
    assert all(0 <= row["waiting_share"] <= 1 for row in timing)


@pytest.mark.slow
def test_wandb_offline_writes_a_segment_for_each_session(tmp_path, monkeypatch):
    """The real one: no account, no network, no question; both segments carry the run's id, so that `wandb sync` joins them."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Run(tmp_path, loggers=LoggerSettings(names=("wandb",)), names=("relu", "other"))
    with monkeypatch.context() as patch:
        at_call(patch, Learner, "loss", 2 * 14, lambda: os.kill(os.getpid(), signal.SIGTERM))
        close(run.go())
    close(run.go(resume=True))
    wandb_module.wandb.teardown()
    # offline-run-TIME-ID, and a number behind it where two sessions began within one second
    names = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert sorted(name.split("-", 3)[3].removesuffix("-1") for name in names) == ["0123-other"] * 2 + ["0123-relu"] * 2
    assert all(path.stat().st_size > 0 for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 4
