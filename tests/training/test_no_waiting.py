"""On a GPU a step of training must not wait for the device. Here every step takes the GPU's way on a CPU, under a watch."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from sae.errors import UserError
from sae.functional import devices, triton_kernels
from sae.functional.gpu_choice import sparse_pays
from sae.losses.objective import Objective
from sae.losses.registry import TERMS
from sae.losses.term import Anneals, StepInfo
from sae.training.dead_candidates import DeadCandidates
from sae.training.dead_latents import DeadLatents
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.module import SAEModule
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.start import draw_
from tests.cases import CASES, TERM_CASES, build, rows_for, target_for
from tests.losses.test_contract import downstream
from tests.no_waiting import NoWaiting, WaitedError
from tests.training.nodes import NAMES, POINT, build_optimizer, every_node, learner_of, sae_of, widths_of
from tests.training.tiny import BATCH, STEPS, Run

D_IN, D_SAE, ROWS = 6, 40, 32
BUDGET = Budget(train_tokens=10**6, batch_tokens=ROWS)
# Those whose number of active latents nothing fixes: their sparse pass must ask for it.
GATHERING = [name for name in NAMES if sae_of(name).num_active is None]
# Those, and those that have none: `auto` in place of `sparse`.
NOT_SPARSE = [name for name in NAMES if name in GATHERING or not sae_of(name).trains_sparse]


@pytest.fixture(autouse=True)
def ahead(monkeypatch):
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: True)


def take(learner, optimizer, values, step):
    """A step in which nothing is logged."""
    learner.loss(values, step, measure=False).backward()
    learner.before_update(optimizer, measure=False)
    for group in optimizer.param_groups:
        group["lr"] = learner.course.learning_rate_at(step)
    optimizer.step()
    optimizer.zero_grad()
    learner.after_update(ROWS, step, optimizer)


def begun(name, *, kernels="auto", settings=None, device="cpu", **changes):
    """A learner after its first step, with latents that have long been dead; its optimizer and its rows."""
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, kernels=KernelSettings(kernels=kernels), **changes)
    learner.to(device)
    values = {point: torch.randn(ROWS, width, device=device) for point, width in widths_of(name, D_IN).items()}
    learner.start_from(values)
    learner.dead.rows_since_fired[::5] = 10**6
    optimizer = build_optimizer(learner, settings)
    take(learner, optimizer, values, 0)
    return learner, optimizer, values


@every_node
@pytest.mark.parametrize("kernels", ["dense", "sparse"])
def test_no_step_waits(name, kernels):
    if kernels == "sparse" and name in NOT_SPARSE:
        kernels = "auto"
    learner, optimizer, values = begun(name, kernels=kernels, clip_norm=1.0, average_half_life=0.1)
    with NoWaiting():
        take(learner, optimizer, values, 1)


def step_without_values(name, kernels, monkeypatch, *, kernels_as_operators=False):
    """A step on `meta` tensors, which have no values to wait for, and which no operation mixes with those of a CPU."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())  # knows no such device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    learner, _, values = begun(name, kernels=kernels, clip_norm=1.0, average_half_life=0.1)
    learner.to("meta")
    some = torch.zeros(3, dtype=torch.int64, device="meta")
    monkeypatch.setattr(learner._candidates, "at", lambda step: some)
    optimizer = build_optimizer(learner)
    with monkeypatch.context() as patch:
        if kernels_as_operators:
            patch.setattr(triton_kernels, "runs_on", lambda tensor: True)
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
        learner.loss({point: rows.to("meta") for point, rows in values.items()}, 1, measure=True).backward()
    learner.before_update(optimizer, measure=True)
    optimizer.step()
    learner.after_update(ROWS, 1, optimizer)


@every_node
@pytest.mark.parametrize("kernels", ["dense", "sparse"])
def test_a_step_keeps_to_the_device_of_its_weights(name, kernels, monkeypatch):
    step_without_values(name, "auto" if kernels == "sparse" and name in NOT_SPARSE else kernels, monkeypatch)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_SPARSE])
def test_a_step_with_kernels_keeps_to_the_device_of_its_weights(name, monkeypatch):
    """Of a kernel it is known what a traced graph knows: type, shape and device of its results."""
    step_without_values(name, "sparse", monkeypatch, kernels_as_operators=True)


def test_a_start_keeps_to_the_device_of_its_weights(monkeypatch):
    """Weights may be on a GPU before they are drawn. A `meta` tensor takes a mask of the CPU, a GPU's does not."""
    learner = learner_of("gated", d_in=D_IN, d_sae=D_SAE, budget=BUDGET).to("meta")
    recipe = replace(learner.recipe, b_dec_init="zero")  # a median of no values is none
    masks = []
    monkeypatch.setattr(learner.sae, "reset_latents_", masks.append)
    draw_(learner.sae, recipe, learner.spaces, {POINT: torch.zeros(ROWS, D_IN, device="meta")}, learner.generator)
    assert [mask.device.type for mask in masks] == ["meta"]


@pytest.mark.gpu
@every_node
@pytest.mark.parametrize("kernels", ["dense", "sparse"])
def test_no_step_waits_on_a_gpu(name, kernels):
    if kernels == "sparse" and name in NOT_SPARSE:
        kernels = "auto"
    learner, optimizer, values = begun(name, kernels=kernels, clip_norm=1.0, average_half_life=0.1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        take(learner, optimizer, values, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["relu", "gated", "crosscoder"])
def test_steering_to_an_l0_does_not_wait(name):
    learner, optimizer, values = begun(name, l0_target=4)
    step, control = BUDGET.step_at(0.5), learner.objective.control
    assert control is not None
    take(learner, optimizer, values, step)
    before = float(control.integral)
    with NoWaiting():
        take(learner, optimizer, values, step + 1)
    assert float(control.integral) != before


@pytest.mark.parametrize("settings", [{"name": "signum"}, {"name": "muon"}, {"name": "adamw", "weight_decay": 0.1}], ids=str)
def test_no_optimizer_waits(settings):
    learner, optimizer, values = begun("topk", kernels="sparse", settings=OptimizerSettings(**settings))
    with NoWaiting():
        take(learner, optimizer, values, 1)


@pytest.mark.parametrize("name", GATHERING)
def test_passes_that_gather_what_is_active_wait_and_are_not_chosen(name, monkeypatch):
    learner, optimizer, values = begun(name, kernels="sparse")
    with NoWaiting(), pytest.raises(WaitedError, match="nonzero"):
        take(learner, optimizer, values, 1)
    monkeypatch.setattr(triton_kernels, "available", lambda: True)
    learner.passes.settings = KernelSettings()
    assert not learner.passes.takes_sparse(torch.device("cuda"), None, rows=10**5)


def made(case):
    """The SAE and the term of a line of `TERM_CASES`."""
    (own,) = (one for one in CASES if one.name == case.case)
    return build(own), TERMS[case.term](**case.settings)


def passes():
    """Each term in each pass that serves it and need not gather."""
    for case in TERM_CASES:
        sae, term = made(case)
        name = f"{case.term}-{case.case}-{'-'.join(map(str, case.settings.values()))}"
        yield pytest.param(case, False, id=f"{name}-dense")
        if sae.num_active is not None and not Objective({case.term: term}).needs_dense(sae):
            yield pytest.param(case, True, id=f"{name}-sparse")


@pytest.mark.parametrize(("case", "sparse"), list(passes()))
def test_no_term_waits(case, sparse):
    sae, term = made(case)
    objective, x = Objective({case.term: term}), rows_for(sae)
    target, dead = target_for(sae, x), torch.arange(sae.d_sae) % 3 == 0
    candidates = (torch.arange(sae.d_sae) % 3 < 2).nonzero().squeeze(1)
    info = StepInfo(progress=0.5, dead=dead, candidates=lambda: candidates, downstream=downstream)
    with NoWaiting():
        output = sae.forward_train_sparse(x) if sparse else sae.forward_train(x)
        objective(sae, output, target, {case.term: 1.0}, info).total.backward()
        if isinstance(term, Anneals):
            term.advance(output, info)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: x.unique(),
        lambda x: torch.tensor([1.0, 2.0]),
        lambda x: x.repeat_interleave((x > 0).long()),
        lambda x: x.masked_fill_(x > 0, 0).cpu(),
        lambda x: x.index_put((x > 0,), torch.zeros(())),
    ],
)
def test_the_watch_sees(waits):
    with NoWaiting(), pytest.raises(WaitedError):
        waits(torch.randn(5))


def test_candidates_hold_every_dead_latent_and_not_all_others():
    rates, generator = torch.linspace(0, 0.05, 60), torch.Generator().manual_seed(0)
    dead, sizes = DeadLatents(60), []
    candidates = DeadCandidates(dead, window=800, batch_rows=10)
    assert candidates.every == 10
    for step in range(400):
        found, now = set(candidates.at(step).tolist()), set(dead.silent_for(800).nonzero().squeeze(1).tolist())
        assert now <= found
        sizes.append((len(now), len(found)))
        with NoWaiting():
            dead.update(torch.rand(60, generator=generator) < rates, 10)
            if (step + 1) % candidates.every:
                candidates.at(step + 1)
    assert any(0 < few < some < 60 for few, some in sizes)


def test_auto_takes_the_sparse_pass_where_it_pays(monkeypatch):
    learner = learner_of("topk", d_in=D_IN, d_sae=D_SAE, budget=BUDGET)
    learner.passes.d_in, learner.passes.d_sae, gpu = 4096, 131072, torch.device("cuda")
    assert not learner.passes.takes_sparse(gpu, 32, rows=4096)  # no kernels
    monkeypatch.setattr(triton_kernels, "available", lambda: True)
    assert learner.passes.takes_sparse(gpu, 32, rows=4096)
    assert not learner.passes.takes_sparse(gpu, 8192, rows=4096)  # k is being annealed
    assert not learner.passes.takes_sparse(gpu, 32, rows=1)  # launching takes longer
    sizes = {"rows": 4096, "d_in": 768, "d_sae": 16384}
    assert sparse_pays(0.01, **sizes, precision="float32")
    assert not sparse_pays(0.01, **sizes, precision="bfloat16")


def watched_steps(monkeypatch, every):
    """Lets each step of a run that logs nothing be watched; gives the steps that were."""
    watched, step = [], SAEModule.training_step

    def training_step(self, batch, batch_idx):
        number = self.global_step
        if number == 0 or self.logs_after(number + 1) or number + 1 in (STEPS, *every):
            return step(self, batch, batch_idx)
        watched.append(number)
        with NoWaiting():
            return step(self, batch, batch_idx)

    monkeypatch.setattr(SAEModule, "training_step", training_step)
    return watched


def test_no_step_of_a_whole_run_waits_between_its_logs(tmp_path, monkeypatch):
    watched = watched_steps(monkeypatch, every=(20, 28))  # those that resample
    assert Run(tmp_path, log_every_steps=10).go().finished
    assert len(watched) > STEPS / 2


def test_a_loss_that_is_not_finite_is_told_at_the_next_look_and_no_step_is_taken_after_it(tmp_path, monkeypatch):
    """It comes in step 13, and is looked for in step 20; the checkpoint of step 12 stays the last."""
    forward, weights = Learner.loss, []

    def loss(self, values, step, **kwargs):
        weights.append(self.sae.W_enc.detach().clone())
        found = forward(self, values, step, **kwargs)
        if step != 13:
            return found
        self.last = self.last._replace(
            total=self.last.total * torch.inf, parts=self.last.parts | {"mse": found.detach() * torch.inf}
        )
        return found * torch.inf

    monkeypatch.setattr(Learner, "loss", loss)
    run = Run(tmp_path, every_tokens=12 * BATCH, log_every_steps=20)
    with pytest.raises(UserError, match=r"not finite at step 13: mse = inf of SAE 'relu' at hook point"):
        run.go()
    assert len(weights) == 20
    assert torch.equal(weights[13], weights[19])
    assert not torch.equal(weights[12], weights[13])
    assert run.last()["steps"] == 12


def test_no_checkpoint_is_written_after_a_loss_that_was_not_finite(tmp_path, monkeypatch):
    forward = Learner.loss
    monkeypatch.setattr(
        Learner, "loss", lambda self, values, step, **kw: forward(self, values, step, **kw) * (torch.nan if step == 10 else 1)
    )
    run = Run(tmp_path, every_tokens=12 * BATCH, log_every_steps=100)
    with pytest.raises(UserError, match="not finite at step 10"):
        run.go()
    assert not (tmp_path / "checkpoints").exists()
