"""The compiled sparse pass of a GPU, on a CPU that takes the GPU's way: one graph, equal to the dense pass, that does not wait.

The graph calls the kernels' entry points as operators. Where there are no kernels those are the plain versions, in float64;
`tests/functional/test_operators.py` holds the operators to their kernels.

No test file by its name: `test_compiled.py` runs it in a process of its own without the checks of shapes, whose wrappers around
dataclasses cannot be traced. By hand:

    python -m pytest -o addopts= tests/training/compiled_sparse_cases.py
"""

import pytest
import torch
from torch._dynamo.utils import counters

from sae.functional import devices
from sae.losses.objective import Objective
from sae.losses.registry import TERMS
from sae.losses.term import StepInfo
from sae.training import compiled
from sae.training.compiled import CompiledPass
from sae.training.kernels import KernelSettings
from tests.cases import CASES, TERM_CASES, every_architecture_that, rows_for, target_for
from tests.cases import build as build_sae
from tests.losses.test_contract import DEAD, downstream
from tests.no_waiting import NoWaiting
from tests.training.nodes import build_optimizer, every_node_that, learner_of, names_of_those_that, one_step
from tests.training.test_compiled import BUDGET, SPARSE, assert_close, check_annealed_k, check_steps, gradients, graphs, learner

# Of torch 2.13 itself, while it traces a `torch.autograd.Function`; ends with the torch that does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
HELD = names_of_those_that(lambda sae: sae.trains_sparse and sae.num_active is not None)
every_held = pytest.mark.parametrize("name", HELD)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing compiled before, no C++ to build, and a device that the host runs ahead of."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: True)
    yield
    torch._dynamo.reset()


def both(sae, terms, info):
    """Losses, parts and gradients of the compiled sparse pass and of the dense one; the output of the first."""
    objective, x, k = Objective(terms), rows_for(sae), sae.num_active
    target = target_for(sae, x)
    coefficients = {name: 0.3 + number for number, name in enumerate(terms)}
    dense = sae.forward_train(x, k=k)
    one = objective(sae, dense, target, coefficients, info)
    output, means = CompiledPass()(sae, objective, x, target, k=k, info=info, sparse=True)
    assert list(means) == list(terms)
    torch.testing.assert_close(output.recon, dense.recon, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.latent_acts.to_dense(), dense.latent_acts, rtol=1e-10, atol=1e-10)
    other = objective.weigh(means, coefficients)
    return [{"total": found.total, **found.parts, **gradients(sae, found.total)} for found in (other, one)]


@every_architecture_that(lambda sae: sae.trains_sparse and sae.num_active is not None)
def test_a_compiled_sparse_pass_equals_the_dense_one(case):
    assert_close(*both(build_sae(case), {"mse": TERMS["mse"](), "l1": TERMS["l1"]()}, StepInfo()))
    assert graphs() == 1


def sparse_terms():
    """Terms of architectures that hold k latents, where their sparse pass can serve them."""
    for one in TERM_CASES:
        (case,) = (case for case in CASES if case.name == one.case)
        sae, term = build_sae(case), TERMS[one.term](**one.settings)
        if sae.trains_sparse and sae.num_active is not None and not Objective({one.term: term}).needs_dense(sae):
            yield pytest.param(
                one.term, case, one.settings, id="-".join([one.term, case.name, *map(str, one.settings.values())])
            )


@pytest.mark.parametrize(("name", "case", "settings"), [*sparse_terms()])
def test_every_term_is_that_of_the_dense_pass(name, case, settings):
    """Those that do not compile too, beside one that does; latents are dead and there is a model to go on through."""
    every = torch.arange(len(DEAD))
    info = StepInfo(progress=0.5, dead=DEAD, candidates=lambda: every, downstream=downstream)
    assert_close(*both(build_sae(case), {"own": TERMS[name](**settings), "mse": TERMS["mse"]()}, info))
    assert graphs() == 1


@every_held
def test_twenty_sparse_steps_take_one_graph_and_lose_nothing(name):
    """Over all of a run's ramps, with latents that have long been dead."""
    check_steps(name, SPARSE, steps=20, dead=slice(None, None, 5))


def test_k_that_is_annealed_takes_two_sparse_graphs():
    check_annealed_k(SPARSE)


def test_autocast_narrows_no_more_than_without_compile():
    """A backward graph is traced under the forward pass's autocast, where a backward pass otherwise runs without."""
    found = []
    for kernels in (SPARSE, KernelSettings(kernels="sparse")):
        one, _, values = learner("topk", kernels=kernels)
        one.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = one.loss({point: rows.float() for point, rows in values.items()}, 0, measure=False)
        found.append(gradients(one.sae, loss))
    assert_close(*found, tolerance=1e-5)


@every_held
def test_no_compiled_step_waits(name):
    """Both graphs are watched operation by operation; the kernels' operators are opaque, and wait for nothing."""
    one, optimizer, values = learner(name, kernels=SPARSE)
    one_step(one, optimizer, values, 0)
    with NoWaiting():
        loss = one.loss(values, 1, measure=True)
        loss.backward()
        one.before_update(optimizer, measure=True)
        optimizer.step()
        optimizer.zero_grad()
        one.after_update(32, 1, optimizer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor imports what torch itself deprecates
@every_node_that(lambda sae: type(sae).__name__ in ("TopKSAE", "MatryoshkaSAE"))
def test_built_kernels_give_the_same_numbers(name, monkeypatch):
    """By `inductor`, which builds what lies between the operators for this machine."""
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    check_steps(name, SPARSE, steps=6)


@pytest.mark.gpu
@every_held
def test_compiled_steps_of_a_gpu_equal_the_others_and_do_not_wait(name, monkeypatch):
    """In float32, the type of the search's kernel."""
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    losses = []
    for kernels in (SPARSE, KernelSettings(kernels="sparse")):
        one = learner_of(name, d_in=6, d_sae=40, budget=BUDGET, kernels=kernels).to("cuda")
        _, _, values = learner(name, kernels=kernels)
        values = {point: rows.float().cuda() for point, rows in values.items()}
        one.start_from(values)
        optimizer = build_optimizer(one)
        losses.append([one_step(one, optimizer, values, step) for step in range(3)])
        torch.cuda.set_sync_debug_mode("error")
        try:
            one.loss(values, 3, measure=False).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert graphs() == 1
