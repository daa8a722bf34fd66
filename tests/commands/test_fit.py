"""`sae.fit`: what it learns, what it reads, what it leaves, and what it says to mistakes."""

import importlib.resources
import inspect
import logging
import math
import os
import re
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

import sae
from sae.commands.reading import has_target, reads_several
from sae.errors import UserError
from sae.formats.registry import ARCHITECTURES, FITTED
from sae.functional.matching import mean_max_cosine
from sae.training.loggers.json_lines import read_json_lines
from sae.training.optimizers import OptimizerSettings
from sae.training.schedule import ScheduleSettings
from tests.cases import ramp
from tests.reference.dictionaries import planted_atoms, planted_rows
from tests.training.nodes import keys_of

SMALL = {"d_sae": 7, "tokens": 640, "batch_tokens": 64, "resample_pool_rows": 128}


@pytest.fixture
def rows():
    """Activations with a large mean: 300 rows, no multiple of anything, d_in 5."""
    return ramp(300, 5, dtype=torch.float32) + 3


class Enough(Exception):
    """Ends a fit where a test has seen what it wants."""


def weights(fitted):
    return torch.cat([value.flatten() for value in fitted.state_dict().values()])


def defaults(file):
    return yaml.safe_load(importlib.resources.files("sae.conf").joinpath(file).read_text())


def test_a_planted_dictionary_is_found_again():
    draw = torch.Generator().manual_seed(0)
    atoms = planted_atoms(32, 16, draw)
    rows = planted_rows(atoms, 12_000, 0.06, draw) + 3
    fitted = sae.fit(rows[:10_000], expansion=2, tokens=75_000, batch_tokens=256, l1_coefficient=1.2, lr=0.02)
    assert (fitted.d_in, fitted.d_sae) == (16, 32)
    assert mean_max_cosine(atoms, fitted.W_dec) > 0.9
    assert mean_max_cosine(fitted.W_dec, atoms) > 0.9
    report = sae.evaluate(fitted, rows=[rows[10_000:]])
    assert report["fvu"] < 0.15
    assert report["l0"] < 6


def test_what_is_returned_is_ready_for_use(rows):
    fitted = sae.fit(rows, **SMALL)
    assert isinstance(fitted, sae.SparseAutoencoder)
    assert not fitted.training
    assert {value.device.type for value in fitted.parameters()} == {"cpu"}
    assert not any(value.requires_grad for value in fitted.parameters())
    assert_close(fitted.W_dec.norm(dim=1), torch.ones(7))


def test_every_kind_of_array_gives_the_same(rows, tmp_path):
    expected = weights(sae.fit(rows, **SMALL))
    np.save(tmp_path / "rows.npy", rows.numpy())
    for same in (
        np.load(tmp_path / "rows.npy", mmap_mode="r"),
        rows.numpy().astype(">f4"),
        rows.double(),
        rows.T.contiguous().T,
        rows.clone().requires_grad_(),
    ):
        assert torch.equal(weights(sae.fit(same, **SMALL)), expected)
    for rounded in (rows.bfloat16(), rows.half()):
        assert torch.equal(weights(sae.fit(rounded, **SMALL)), weights(sae.fit(rounded.float(), **SMALL)))
    half = rows.half().numpy()
    assert torch.equal(weights(sae.fit(half, **SMALL)), weights(sae.fit(half.astype(np.float32), **SMALL)))


def test_the_seed_alone_decides(rows):
    first, again, other = (weights(sae.fit(rows, seed=seed, **SMALL)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_seed_is_of_the_weights_and_of_the_order(rows, monkeypatch):
    streams, learners = [], []

    def remember(folder, learner, stream, trainer, signals):
        learners.append(learner.generator.get_state())
        streams.append(next(stream).rows.values["x"])
        stream.close()
        raise Enough

    monkeypatch.setattr("sae.commands.fit._train", remember)
    for seed in (1, 1, 2):
        with pytest.raises(Enough):
            sae.fit(rows, seed=seed, **SMALL)
    for first, again, other in (streams, learners):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_the_result_takes_raw_activations(rows):
    """A scale that is a power of two changes no digit, so that the two differ in their units alone."""
    plain, scaled = sae.fit(rows, **SMALL), sae.fit(rows * 1024, **SMALL)
    assert torch.equal(plain.W_dec, scaled.W_dec)
    assert torch.equal(plain.W_enc, scaled.W_enc)
    assert torch.equal(plain.b_dec * 1024, scaled.b_dec)
    assert torch.equal(plain.encode(rows) * 1024, scaled.encode(rows * 1024))


def test_recipe_keys_and_schedule_reach_the_training(rows):
    plain = weights(sae.fit(rows, **SMALL))
    for change in (
        {"l1_coefficient": 9.0},
        {"lr": 1e-4},
        {"scaling": "norm"},
        {"b_dec_init": "zero"},
        {"chunk_tokens": 64},
        {"schedule": ScheduleSettings(warmup=0.0, decay=0.0)},
    ):
        assert not torch.equal(weights(sae.fit(rows, **SMALL, **change)), plain), change


def test_defaults_are_those_of_the_command(rows, tmp_path):
    tree = defaults("train.yaml")
    groups = {key: value for entry in tree["defaults"] if isinstance(entry, dict) for key, value in entry.items()}
    assert groups["sae"] == inspect.signature(sae.fit).parameters["architecture"].default
    assert groups["activations"] == "live"
    assert ScheduleSettings() == ScheduleSettings(**defaults(f"schedule/{groups['schedule']}.yaml"))
    optimizer = defaults(f"optimizer/{groups['optimizer']}.yaml")
    assert OptimizerSettings() == OptimizerSettings(**{**optimizer, "betas": tuple(optimizer["betas"])})
    sae.fit(rows.repeat(2, 1), d_sae=2, tokens=1100, folder=tmp_path)
    trained = [row["tokens"] for row in read_json_lines(tmp_path / "metrics.jsonl")]
    assert trained[0] == tree["train"]["batch_tokens"]
    for number in (tree["train"]["tokens"], tree["train"]["batch_tokens"], defaults("activations/live.yaml")["chunk_tokens"]):
        assert f"{number:,}" in str(sae.fit.__doc__)
    assert sae.fit(rows, **{**SMALL, "d_sae": None}).d_sae == defaults("sae/relu.yaml")["expansion"] * 5


def test_without_a_budget_every_row_is_used_once_at_least(rows, monkeypatch):
    short = {"train.yaml": {"train": {"tokens": 200, "batch_tokens": 64}}}
    monkeypatch.setattr("sae.commands.fit._defaults", lambda file: short.get(file) or defaults(file))
    budgets = []

    def remember(folder, learner, stream, trainer, signals):
        budgets.append(learner.budget.train_tokens)
        raise Enough

    monkeypatch.setattr("sae.commands.fit._train", remember)
    for x in (rows, rows[:100]):
        with pytest.raises(Enough):
            sae.fit(x)
    assert budgets == [300, 200]


def test_nothing_is_shown_and_nothing_stays(rows, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(logging.getLogger("sae"), "propagate", False)  # what is logged goes to the terminal, as outside tests
    # An L0 to steer to would be missed in so few steps, which is said.
    sae.fit(rows, architecture="topk", k=2, d_sae=7, tokens=640, batch_tokens=64)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_folder_keeps_the_sae_and_its_curves(rows, tmp_path):
    folder = tmp_path / "new" / "fit"
    fitted = sae.fit(rows, **SMALL, folder=folder)
    assert torch.equal(weights(sae.load(folder)), weights(fitted))
    losses = [row["loss"] for row in read_json_lines(folder / "metrics.jsonl") if "loss" in row]
    assert len(losses) == 10
    assert all(map(math.isfinite, losses))
    with pytest.raises(UserError, match=r"folder=.*fit exists already and is not empty"):
        sae.fit(rows, **SMALL, folder=folder)
    with pytest.raises(UserError, match="exists already"):
        sae.fit(rows, **SMALL, folder=folder / "metrics.jsonl")


def test_ctrl_c_ends_it(rows, tmp_path, monkeypatch):
    class Interrupting(np.ndarray):
        reads = 0

        def __getitem__(self, key):
            Interrupting.reads += 1
            if Interrupting.reads == 12:  # in the third pass over five blocks: training is under way
                os.kill(os.getpid(), signal.SIGINT)
            return np.asarray(super().__getitem__(key))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        sae.fit(rows.numpy().view(Interrupting), **{**SMALL, "tokens": 64_000})
    assert Interrupting.reads < 50
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], r"x has shape \[5\]. Expected \[rows, d_in\]"),
        (lambda x: x[None], r"shape \[1, 300, 5\].*x.reshape\(-1, d_in\)"),
        (lambda x: x[:0], r"shape \[0, 5\]: there is nothing in it"),
        (lambda x: x[:, :0], r"shape \[300, 0\]: there is nothing in it"),
        (lambda x: x.long(), "x holds int64. Expected floats"),
        (lambda x: x.int().numpy(), "x holds int32. Expected floats"),
        (lambda x: x[:63], r"x has 63 rows, fewer than one step takes \(batch_tokens=64\)"),
        (lambda x: x * 0, "found no scale"),
        (lambda x: x.double() * 1e300, "not finite in float32"),
    ],
)
def test_an_array_that_is_no_activations(rows, spoil, message):
    with pytest.raises(UserError, match=message):
        sae.fit(spoil(rows), **SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_rows_that_are_not_finite_are_named(rows, value):
    rows[[133, 299], 2] = value
    for x in (rows, rows.numpy()):
        with pytest.raises(UserError, match=r"Row (133|299) of x holds values that are not finite.*as do 1 others of the 300"):
            sae.fit(x, **SMALL)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"architecture": "rellu"}, ["unknown architecture 'rellu'. Did you mean 'relu'"]),
        ({"l1_coeficient": 1.0, "lr": "fast"}, ["Did you mean 'l1_coefficient'", "sae.lr: expected"]),
        ({"lr": -1.0}, ["sae.lr must be above 0, got -1.0"]),
        ({"expansion": 2}, ["sae.expansion=2 and sae.d_sae=7 are both given"]),
        ({"d_sae": 0}, ["sae.d_sae must be above 0"]),
        ({"kl_coefficient": 1.0, "resample_at": []}, ["kl_coefficient: end-to-end losses go on through the model"]),
        (
            {"kl_coefficient": 0.5, "downstream_coefficient": 0.0, "resample_at": []},
            ["kl_coefficient and downstream_coefficient: end-to-end losses", "scripts/train.py"],
        ),
        ({"tokens": 63}, ["tokens=63 is less than one step takes (batch_tokens=64)"]),
        ({"tokens": 0}, ["tokens is 0"]),
        ({"batch_tokens": -1}, ["batch_tokens is -1"]),
        ({"chunk_tokens": 0}, ["chunk_tokens` is 0"]),
        ({"device": "gpu"}, ["device='gpu' is unknown: expected one of auto, cpu, cuda, mps"]),
        ({"device": "mps"}, ["device='mps' cannot be taken"]),
    ],
)
def test_settings_that_cannot_be(rows, changes, messages):
    with pytest.raises(UserError) as caught:
        sae.fit(rows, **{**SMALL, **changes})
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_where_there_is_none(rows):
    with pytest.raises(UserError, match="device='cuda' was asked for"):
        sae.fit(rows, **SMALL, device="cuda")


def test_mistakes_leave_no_folder(rows, tmp_path):
    folder = tmp_path / "fit"
    for wrong in ({"lr": -1.0}, {"tokens": 1}, {"device": "gpu"}):
        with pytest.raises(UserError):
            sae.fit(rows, **{**SMALL, **wrong}, folder=folder)
    assert not Path(folder).exists()


# For eight latents, in every file that has the key and does not leave it null.
FEW: dict[str, object] = {"k": 2, "l0_target": 2.0, "l1_coefficient": 0.5, "group_fractions": [0.5, 0.5]}
SIZES = {"d_sae": 8, "tokens": 640, "batch_tokens": 64}


ONE_ACTIVATION = [name for name in ARCHITECTURES if not has_target(name) and not reads_several(name) and name not in FITTED]


def test_what_is_not_trained_by_gradient_is_refused_with_what_fits_it(rows):
    with pytest.raises(
        UserError, match=r"architecture=sparse_coding is not trained by gradient: python scripts/factors\.py .*DictionaryFit"
    ):
        sae.fit(rows, architecture="sparse_coding", **SIZES)


@pytest.mark.parametrize("architecture", ONE_ACTIVATION)
def test_every_architecture_of_one_activation_fits(architecture, rows):
    small = {key: value for key, value in FEW.items() if keys_of(architecture).get(key) is not None}
    fitted = sae.fit(rows, architecture=architecture, **SIZES | {"tokens": 1920}, **small, resample_pool_rows=128)
    assert type(fitted) is ARCHITECTURES[architecture]
    assert sae.evaluate(fitted, rows=[rows])["fvu"] < 1


def test_a_transcoder_fits_a_map_from_one_array_to_another(rows, tmp_path):
    """A target of another width, which is an affine map of the input: the skip connection finds it."""
    target = rows @ ramp(5, 3, dtype=torch.float32) - 7
    fitted = sae.fit(
        rows,
        target=target,
        architecture="transcoder",
        **SIZES | {"tokens": 19_200},
        k=1,
        skip=True,
        lr=0.01,
        folder=tmp_path / "t",
    )
    assert (fitted.d_in, fitted.d_out, fitted.d_sae) == (5, 3, 8)
    assert sae.evaluate(fitted, rows=[(rows, target)])["fvu"] < 0.02
    assert_close(sae.load(tmp_path / "t")(rows).recon, fitted(rows).recon)


def test_a_crosscoder_fits_arrays_side_by_side(rows):
    other = 30 * rows @ ramp(5, 3, dtype=torch.float32)
    fitted = sae.fit([rows, other], architecture="crosscoder", **SIZES | {"tokens": 6400}, l1_coefficient=0.1)
    assert fitted.widths == (5, 3)
    assert sae.evaluate(fitted, rows=[torch.cat([rows, other], dim=1)])["fvu"] < 0.5


def test_a_cross_layer_transcoder_fits_arrays_to_as_many_others(rows):
    """The second target is made of both inputs, the first of its own alone."""
    other = rows.flip(0)
    targets = [rows @ ramp(5, 3, dtype=torch.float32), (rows + 2 * other) @ ramp(5, 4, dtype=torch.float32)]
    fitted = sae.fit(
        [rows, other],
        target=targets,
        architecture="cross_layer_transcoder",
        **SIZES | {"d_sae": 24, "tokens": 19_200},
        lr=0.01,
        k=8,
    )
    assert (fitted.widths, fitted.target_widths) == ((5, 5), (3, 4))
    x, target = torch.cat([rows, other], dim=1), torch.cat(targets, dim=1)
    assert sae.evaluate(fitted, rows=[(x, target)])["fvu"] < 0.2
    with pytest.raises(UserError, match=r"target is a list of 1\. Expected a list of 2 arrays"):
        sae.fit([rows, other], target=targets[:1], architecture="cross_layer_transcoder")
    with pytest.raises(UserError, match=r"target is a list of 2\. Expected one array, for architecture='transcoder'"):
        sae.fit(rows, target=targets, architecture="transcoder")


@pytest.mark.parametrize(
    ("arrays", "settings", "said"),
    [
        (1, {"architecture": "transcoder"}, "target= was not given"),
        (1, {"target": 300}, "target= was given"),
        (1, {"target": 299, "architecture": "transcoder"}, "x has 300 rows and target 299"),
        (1, {"architecture": "crosscoder"}, "x is one array"),
        (["x"], {"architecture": "crosscoder"}, "list of 1. Expected at least two arrays"),
        (["x", "x"], {}, "list of 2. Expected one array"),
        (
            1,
            {"architecture": "cross_layer_transcoder", "target": 300},
            "x is one array. A cross_layer_transcoder reads one for",
        ),
        ([], {"architecture": "cross_layer_transcoder", "target": 300}, "Expected at least one array in it"),
        (["x"], {"architecture": "cross_layer_transcoder"}, "target= was not given"),
        (
            ["x", "x"],
            {"architecture": "cross_layer_transcoder", "target": 300},
            "Expected a list of 2 arrays, one for each of x",
        ),
        (1, {"architecture": "topk", "k": 9, **SIZES}, "sae.k must lie in 1..d_sae=8, got 9"),
        (1, {"architecture": "relu", "l1_weighting": "part_norms", **SIZES}, "sae.l1_weighting=part_norms needs a crosscoder"),
    ],
)
def test_arrays_that_do_not_go_with_the_architecture(arrays, settings, said, rows):
    x = [rows for _ in arrays] if isinstance(arrays, list) else rows
    given = {**settings, "target": torch.zeros(settings["target"], 3)} if "target" in settings else settings
    with pytest.raises(UserError, match=re.escape(said)):
        sae.fit(x, **given)
