"""A run whose optimizer passes over decoder rows without a gradient, against one whose optimizer does not."""

import os
import signal

import pytest
import torch

from sae.errors import UserError
from sae.functional.lazy_rows import LazyRows
from sae.training.kernels import KernelSettings, PassChoice
from sae.training.lazy_moments import LazyMoments
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from tests.training import nodes
from tests.training.tiny import Run, same

D_IN, D_SAE, BATCH, STEPS = 6, 120, 8, 60
LAZY = OptimizerSettings(lazy_decoder=True)
SMALL = {"k": 2, "lr": 0.01, "revive_window": 0.1, "resample_at": (0.4,), "resample_window": 0.1, "resample_pool_rows": 30}


def learner_of(name="topk", *, kernels=None, dtype=torch.float64, **changes):
    budget = Budget(train_tokens=STEPS * BATCH, batch_tokens=BATCH)
    keys = nodes.keys_of(name)
    own = {key: value for key, value in SMALL.items() if key == "lr" or keys.get(key) is not None} | changes
    learner = nodes.learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=budget, kernels=kernels, **own).to(dtype)
    learner.start_from(rows_of(learner, 64, 0))
    return learner


def rows_of(learner, count, step):
    generator = torch.Generator().manual_seed(step)
    table = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(99))  # kinds of rows: what is dead stays so
    chosen = table[torch.randint(0, 40, (count,), generator=generator)]
    noisy = chosen + 0.1 * torch.randn(count, D_IN, generator=generator)
    noisy = noisy.repeat(1, 2).to(learner.sae.b_dec.dtype)  # a cross-layer transcoder's targets may be wider
    return {point: noisy[:, :width] for point, width in nodes.widths_of(learner.name, D_IN).items()}


def trained(learner, settings, steps=STEPS):
    """Steps as the Lightning module takes them; gives the optimizer back."""
    optimizer = learner.build_optimizer(settings)
    for step in range(steps):
        rows = rows_of(learner, BATCH, 1 + step)
        learner.loss(rows, step, measure=step % 20 == 0).backward()
        learner.before_update(optimizer, measure=step % 20 == 0)
        for group in optimizer.param_groups:
            group["lr"] = learner.course.learning_rate_at(step)
        optimizer.step()
        optimizer.zero_grad()
        learner.after_update(BATCH, step, optimizer)
        if learner.course.resamples_after(step + 1):
            assert learner.resample(rows_of(learner, 64, 500), optimizer, step) > 0
    return optimizer


def assert_same_sae(one, other, tolerance):
    theirs = other.export().state_dict()
    for name, weights in one.export().state_dict().items():
        torch.testing.assert_close(weights, theirs[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("topk", {"auxk_coefficient": None, "revive_window": 0.05}),
        ("topk", {}),
        ("topk", {"unit_norm_decoder": False, "decoder_norm": 0.7, "clip_norm": 0.5}),
        ("matryoshka", {"clip_norm": 0.5}),
        ("cross_layer_transcoder", {"clip_norm": 0.5}),
        ("jumprelu", {"tanh_coefficient": None, "pre_act_coefficient": None, "revive_window": 0.05, "resample_at": ()}),
        ("relu", {"resample_at": (), "l1_coefficient": 3.0, "ghost_coefficient": 0.1}),
    ],
    ids=["topk", "auxk", "free-clipped", "matryoshka", "cross-layer", "jumprelu", "relu"],
)
def test_equal_to_the_run_that_steps_every_row(name, changes):
    kernels = KernelSettings(kernels="sparse")
    lazy, eager = (learner_of(name, kernels=kernels, **changes) for _ in range(2))
    trained(lazy, LAZY)
    trained(eager, OptimizerSettings())
    assert isinstance(lazy.sae.W_dec, LazyRows)
    assert_same_sae(lazy, eager, 1e-10)


def test_in_float32_they_differ_by_rounding():
    lazy, eager = (learner_of(dtype=torch.float32, lr=0.003, resample_at=()) for _ in range(2))
    trained(lazy, LAZY)
    trained(eager, OptimizerSettings())
    assert_same_sae(lazy, eager, 1e-4)


def test_dense_steps_among_sparse_ones(monkeypatch):
    """ReLU begins densely and goes over."""
    lazy, eager = (learner_of("relu", l1_coefficient=6.0, resample_at=()) for _ in range(2))
    chosen = []
    plain = PassChoice.forward

    def forward(self, *arguments, **keywords):
        output = plain(self, *arguments, **keywords)
        chosen.append(type(output).__name__)
        return output

    monkeypatch.setattr(PassChoice, "forward", forward)
    trained(lazy, LAZY)
    trained(eager, OptimizerSettings())
    assert set(chosen) == {"SAEOutput", "SparseSAEOutput"}
    assert_same_sae(lazy, eager, 1e-10)


@pytest.mark.parametrize("name", ["topk", "cross_layer_transcoder"])
def test_no_step_reads_the_whole_decoder(name, monkeypatch):
    """Neither the pass nor the dead latents' term, the update, what follows it, nor an export."""
    asked = []
    plain = LazyMoments.catch_up_
    monkeypatch.setattr(LazyMoments, "catch_up_", lambda self, rows=None: asked.append(rows) or plain(self, rows))
    learner = learner_of(name, resample_at=())
    trained(learner, LAZY)
    learner.export()
    assert len(asked) >= 2 * STEPS
    assert all(rows is not None for rows in asked)


# -- stopping and going on ---------------------------------------------------------------------------------------------


class LazyRun(Run):
    """Of many latents, so that most have no gradient in a step."""

    def __init__(self, folder, **changes):
        settings = {"optimizer": LAZY, "node": "topk", "recipe": {"resample_at": (0.5,), "resample_window": 0.05}}
        super().__init__(folder, **settings | changes)

    def learner(self, name, budget):
        own = {"seed": self.seed, "budget": budget, **self.recipe}
        return nodes.learner_of(self.node, d_in=5, d_sae=D_SAE, lr=0.02, **own)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = LazyRun(tmp_path_factory.mktemp("whole"))
    assert run.go().finished
    return run


@pytest.mark.parametrize("step", [7, 31])
def test_a_stopped_run_goes_on_bit_for_bit(step, whole, tmp_path, monkeypatch):
    """Though it saves, and so looks at all of the decoder, where the other did not."""
    run, calls, plain = LazyRun(tmp_path), [], Learner.loss

    def loss(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "loss", loss)
        assert run.go().completed_steps == step
    resumed = run.go(resume=True)
    assert resumed.finished
    assert same(run.last(), whole.last())
    assert run.metrics == whole.metrics
    assert same(resumed.exported["relu"].state_dict(), run.go(resume=True).exported["relu"].state_dict())


def test_a_checkpoint_holds_weights_that_are_up_to_date(whole, tmp_path):
    """Not what lies in memory: that is in the optimizer's state."""
    saved = whole.last()
    weights, state = saved["weights"]["learners.relu.sae.W_dec"], saved["optimizers"][0]["relu"]["lazy_moments"][0]
    behind = state["weights_at"] < len(state["rates"]) - 1
    assert 0 < int(behind.sum()) < D_SAE
    assert torch.equal(weights[~behind], state["weights"][~behind])
    assert not torch.equal(weights[behind], state["weights"][behind])
    assert not isinstance(weights, LazyRows)


# -- where it is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernels", "changes", "says"),
    [
        ("matching_pursuit", {}, {}, "saves nothing where the decoder encodes too, as in MatchingPursuitSAE"),
        ("relu", {}, {"l1_weighting": "decoder_norm"}, "saves nothing with terms that read every decoder row: l1"),
        ("gated", {}, {}, "saves nothing with terms that read every decoder row: gate"),
        ("jumprelu", {}, {}, "saves nothing with terms that read every decoder row: pre_act"),
        ("topk", {}, {"average_half_life": 0.1}, "saves nothing with sae.average_half_life"),
        ("topk", {"kernels": "dense"}, {}, "needs a sparse pass: take trainer.kernels=auto or sparse"),
    ],
)
def test_refused_where_every_step_reads_the_whole_decoder(name, kernels, changes, says):
    learner = learner_of(name, kernels=KernelSettings(**kernels), **changes)
    with pytest.raises(UserError, match=rf"optimizer\.lazy_decoder=true {says}.*Or set optimizer\.lazy_decoder=false"):
        learner.build_optimizer(LAZY)
    assert not isinstance(learner.sae.W_dec, LazyRows)


def test_refused_on_another_device_than_a_cpu():
    learner = learner_of().to("meta")
    with pytest.raises(UserError, match=r"lazy_decoder=true is made for trainer\.device=cpu, got meta"):
        learner.build_optimizer(LAZY)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "adamw"}, "needs optimizer=adam, got adamw"),
        ({"name": "muon"}, "needs optimizer=adam, got muon"),
        ({"weight_decay": 0.1}, r"weight decay moves every row in every step, got optimizer\.weight_decay=0\.1"),
        ({"betas": (0.9, 0.5)}, r"needs optimizer\.betas with beta1\^2 < beta2.*got \[0\.9, 0\.5\]"),
    ],
)
def test_refused_with_constants_that_leave_nothing_to_make_up(settings, says):
    with pytest.raises(UserError, match=says):
        OptimizerSettings(lazy_decoder=True, **settings)
