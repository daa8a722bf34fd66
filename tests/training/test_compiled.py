"""The compiled pass: equal to the one that is not, compiled once, and no trace of it in what is saved.

By `aot_eager` unless said: torch traces, makes the backward graph and runs both, without building kernels.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch._dynamo.utils import counters

from sae.errors import UserError
from sae.losses.objective import Objective
from sae.losses.registry import TERMS
from sae.losses.term import START, Compiles, StepInfo
from sae.training import compiled
from sae.training.compiled import CompiledPass, check_compile
from sae.training.kernels import KernelSettings
from sae.training.recipe import Budget
from tests.cases import CASES, TERM_CASES, every_architecture_that, rows_for, target_for
from tests.cases import build as build_sae
from tests.losses.test_contract import DEAD, downstream
from tests.training.nodes import build_optimizer, every_node, learner_of, one_step, widths_of
from tests.training.test_resume_every_architecture import stop_in_step
from tests.training.tiny import Run, same

# Of torch 2.13 itself, while it traces a `torch.autograd.Function`; ends with the torch that does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
CPU = torch.device("cpu")
BUDGET = Budget(train_tokens=400 * 32, batch_tokens=32)  # ramps over a twentieth of it change with each of 20 steps
COMPILED, SPARSE = KernelSettings(kernels="dense", compile=True), KernelSettings(kernels="sparse", compile=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing compiled before, no shape checks to trace through, and no kernels to build."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch._dynamo.reset()


def graphs():
    """How many graphs were compiled; none was broken off."""
    assert not counters["graph_break"], dict(counters["graph_break"])
    return counters["stats"]["unique_graphs"]


def gradients(sae, loss):
    found = torch.autograd.grad(loss, list(sae.parameters()), allow_unused=True, materialize_grads=True)
    return dict(zip(dict(sae.named_parameters()), found, strict=True))


def assert_close(ours, theirs, tolerance=1e-10):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def both(sae, terms, info=START, *, reduction="sum"):
    """Losses, parts and gradients of the compiled pass and of the one that is not."""
    objective, x = Objective(terms, reduction=reduction), rows_for(sae)
    target = target_for(sae, x)
    coefficients = {name: 0.3 + number for number, name in enumerate(terms)}
    one = objective(sae, sae.forward_train(x, k=sae.num_active), target, coefficients, info)
    output, means = CompiledPass()(sae, objective, x, target, k=sae.num_active, info=info)
    assert list(means) == list(terms)
    for ours, theirs in zip(output, sae.forward_train(x, k=sae.num_active), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    other = objective.weigh(means, coefficients)
    return [{"total": found.total, **found.parts, **gradients(sae, found.total)} for found in (other, one)]


@every_architecture_that(lambda sae: sae.trains_sparse)
def test_a_compiled_pass_equals_the_other(case):
    assert_close(*both(build_sae(case), {"mse": TERMS["mse"](), "l1": TERMS["l1"]()}))
    assert graphs() == 1


@pytest.mark.parametrize("one", TERM_CASES, ids=lambda one: "-".join([one.term, one.case, *map(str, one.settings.values())]))
def test_every_term_is_what_it_is_without(one):
    """Those that do not compile too, beside one that does; latents are dead and there is a model to go on through.

    Squared errors are means over dimensions, in the graph and outside of it.
    """
    (case,) = (case for case in CASES if case.name == one.case)
    term = TERMS[one.term](**one.settings)
    info = StepInfo(progress=0.5, dead=DEAD, downstream=downstream)
    assert_close(*both(build_sae(case), {"own": term, "mse": TERMS["mse"]()}, info, reduction="mean"))
    assert graphs() == 1


def test_these_terms_are_compiled():
    """A new one is not, until it says so."""
    made = {one.term: TERMS[one.term](**one.settings) for one in TERM_CASES if one.settings.get("dead_only") is None}
    found = {name for name, term in made.items() if isinstance(term, Compiles) and term.compiles}
    assert found == set(TERMS) - {"auxk", "ghost", "kl", "downstream"}
    assert not TERMS["lp"](p=1.0, p_end=0.5).compiles
    assert not TERMS["pre_act"](dead_only=True).compiles


def learner(name, *, kernels=COMPILED, d_sae=40, **changes):
    torch.manual_seed(3)
    one = learner_of(name, d_in=6, d_sae=d_sae, budget=BUDGET, kernels=kernels, **changes)
    values = {point: torch.randn(32, width, dtype=torch.float64) for point, width in widths_of(name, 6).items()}
    one.double()
    one.start_from(values)
    return one, build_optimizer(one), values


def check_steps(name, kernels, *, steps, dead=slice(0)):
    """One graph serves all steps, and each loses what it loses without compile; the weights are the same in the end.

    Args:
        name: of the file in `conf/sae`.
        kernels: compiled ones.
        steps: how many.
        dead: latents that have long been dead at the start.
    """
    found = []
    for own in (kernels, replace(kernels, compile=False)):
        one, optimizer, values = learner(name, kernels=own)
        one.dead.rows_since_fired[dead] = 10**6
        found.append([one_step(one, optimizer, values, step) for step in range(steps)])
        found[-1] += [float(part.detach().abs().sum()) for part in one.sae.parameters()]
    assert found[0] == pytest.approx(found[1], rel=1e-8)
    assert graphs() == 1


def check_annealed_k(kernels):
    """A graph for the first k, and one for all others."""
    one, optimizer, values = learner("topk", kernels=kernels, k_anneal=0.05, k_anneal_from=20)
    for step in range(20):
        one_step(one, optimizer, values, step)
    assert len({one.course.k_at(step, one.sae) for step in range(20)}) > 3
    assert graphs() == 2


@every_node
def test_twenty_steps_take_one_graph_and_lose_nothing(name):
    """Over all of a run's ramps; each recipe as its file has it."""
    check_steps(name, COMPILED, steps=20)
    course = learner(name)[0].course
    coefficients = {tuple(course.coefficients_at(step).values()) for step in range(20)}
    ramps = any(warmup for _, warmup in course.coefficients.values())
    assert len(coefficients) == (20 if ramps else 1)


@pytest.mark.skipif(not compiled.OWN, reason="this torch counts all SAEs of a run together")
def test_each_of_ten_saes_has_a_graph():
    """Torch compiles a function eight times, and then takes the next SAE without a graph."""
    for d_sae in range(40, 50):
        one, optimizer, values = learner("relu", d_sae=d_sae)
        one_step(one, optimizer, values, 0)
    assert graphs() == 10


def test_k_that_is_annealed_takes_two_graphs():
    check_annealed_k(COMPILED)


def test_a_stopped_run_goes_on_compiled(tmp_path, monkeypatch):
    """Bit for bit as if it had not been stopped, resampling before and after the stop."""
    whole, stopped = (Run(tmp_path / name, kernels=COMPILED) for name in ("whole", "stopped"))
    assert whole.go().finished
    with monkeypatch.context() as patch:
        stop_in_step(patch, 24)
        assert not stopped.go().finished
    assert stopped.last()["steps"] == 24
    assert stopped.go(resume=True).finished
    assert same(stopped.last(), whole.last())
    assert stopped.metrics == whole.metrics


def test_a_checkpoint_knows_nothing_of_it(tmp_path, monkeypatch):
    """A run that was compiled goes on without, and ends where one that never was does, but for rounding."""
    plain, mixed = Run(tmp_path / "plain", kernels=KernelSettings(kernels="dense")), Run(tmp_path / "mixed", kernels=COMPILED)
    plain.go()
    with monkeypatch.context() as patch:
        stop_in_step(patch, 15)
        mixed.go()
    assert graphs() >= 1
    mixed.kernels = plain.kernels
    assert mixed.go(resume=True).finished
    found, expected = mixed.last()["weights"], plain.last()["weights"]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor imports what torch itself deprecates
@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu", "topk"])
def test_built_kernels_give_the_same_numbers(name, monkeypatch):
    """By `inductor`, which builds them for this machine."""
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    check_steps(name, COMPILED, steps=6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu", "crosscoder"])
def test_no_compiled_step_waits_on_a_gpu(name, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    one, _, values = learner(name)
    one.to("cuda")
    optimizer, values = build_optimizer(one), {point: rows.cuda() for point, rows in values.items()}
    one_step(one, optimizer, values, 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        one.loss(values, 1, measure=False).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.parametrize("marks", ["not gpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_sparse_passes_of_a_gpu(marks):
    """In a process of their own: see `compiled_sparse_cases.py`."""
    cases = str(Path(__file__).with_name("compiled_sparse_cases.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", marks, cases]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_a_missing_compiler_is_told(device, variable, monkeypatch):
    monkeypatch.setenv(variable, "no-such-compiler -O2")
    with pytest.raises(UserError, match=rf"no-such-compiler was not found.*{variable}.*trainer\.compile=false"):
        check_compile(torch.device(device), "auto")
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"trainer\.compile=true needs a C"):
        check_compile(torch.device(device), "auto")
    check_compile(torch.device("mps"), "auto")


def test_a_compiler_that_is_there_is_found(tmp_path, monkeypatch):
    (tmp_path / "mine").touch(mode=0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "mine"))
    monkeypatch.setenv("PATH", "")
    check_compile(CPU, "auto")


def test_sparse_passes_alone_are_refused_on_a_cpu_and_without_k(monkeypatch):
    with pytest.raises(UserError, match=r"compiles no sparse pass on a CPU.*trainer\.kernels=auto or dense"):
        check_compile(CPU, "sparse")
    monkeypatch.setenv("CC", str(sys.executable))
    check_compile(torch.device("cuda"), "sparse")
    with pytest.raises(UserError, match=r"how many latents of JumpReLUSAE are active.*trainer\.compile=false"):
        learner("jumprelu", kernels=SPARSE)


def test_a_sparse_pass_of_a_cpu_is_not_compiled():
    one, optimizer, values = learner("topk", kernels=KernelSettings(compile=True), d_sae=100)
    for step in range(3):
        one_step(one, optimizer, values, step)
    assert one.passes.takes_sparse(CPU, 4, rows=32)
    assert graphs() == 0
