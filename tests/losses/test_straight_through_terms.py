"""Terms of SAEs with learnt thresholds: value and gradient by every parameter, with pseudo-gradients carried through the twin.

`test_twins.py` writes the two basic ones out; here they run through whole objectives, as the published recipes have them.
"""

import inspect
import itertools

import numpy as np
import pytest
import torch

from sae.formats.registry import ARCHITECTURES
from sae.losses.dead_latents import AuxK, PreActivation
from sae.losses.l0 import L0
from sae.losses.lp import Lp
from sae.losses.objective import Objective
from sae.losses.reconstruction import NestedSquaredError, SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import StepInfo
from tests import cases
from tests.cases import Case, build, learns_threshold, rows_for, target_for
from tests.reference import saes as twin

ROWS, EPS, GROUPS = 9, 0.7, (4, 9)
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
START = {"threshold_start": 0.3, "bandwidth": EPS}

# What makes thresholds learnt where an architecture has a choice, and what has a gradient of its own to it.
SETTINGS = {"activation": "jumprelu", "k": None, "group_sizes": GROUPS, "skip": True}


def cases_of(architecture):
    """In each form, with gradients to pre-activations or not, and without the input's bias where that can be."""
    taken = inspect.signature(ARCHITECTURES[architecture]).parameters
    base = START | {name: value for name, value in SETTINGS.items() if name in taken}
    for form, through in itertools.product(("raw", "log"), (False, True)):
        name = f"{architecture}_{form}_{'through' if through else 'thresholds_alone'}"
        yield Case(name, architecture, {**base, "threshold_form": form, "through_pre_acts": through})
    if "apply_b_dec_to_input" in taken:
        plain = {"threshold_form": "log", "through_pre_acts": True, "apply_b_dec_to_input": False}
        yield Case(f"{architecture}_without_input_bias", architecture, base | plain)


WITH_THRESHOLDS = [name for name, made in ARCHITECTURES.items() if "threshold_start" in inspect.signature(made).parameters]
CASES = [case for name in WITH_THRESHOLDS for case in cases_of(name)]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def dead_of(latents):
    dead = torch.zeros(latents, dtype=torch.bool)
    dead[[0, 3, 4, 7, 11]] = True
    return dead


def test_no_architecture_with_learnt_thresholds_is_left_out():
    known = {case.architecture for case in cases.CASES if learns_threshold(build(case))}
    assert known <= set(WITH_THRESHOLDS), "a learnt threshold that does not start at `threshold_start`: write its cases here"
    assert all(learns_threshold(build(case)) for case in CASES)
    assert {"jumprelu", "matryoshka", "transcoder", "crosscoder"} <= set(WITH_THRESHOLDS)


def passes(case, sae, p, x):
    """Pre-activations, latent activations, firings, thresholds and reconstructions from parameters that may be complex."""
    through, log = case.settings["through_pre_acts"], case.settings["threshold_form"] == "log"
    theta = np.exp(p["threshold_parameter"]) if log else p["threshold_parameter"]
    pre = np.array([twin.pre_activations(p, row, sae.apply_b_dec_to_input) for row in x])
    acts = np.array([twin.jump(z, theta, EPS, through=through) for z in pre])
    fired = np.array([twin.fires(z, theta, EPS, through=through) for z in pre])
    recon = np.array([twin.decode(p, a, row, getattr(sae, "target_widths", None)) for a, row in zip(acts, x, strict=True)])
    return pre, acts, fired, theta, recon


def check(case, terms, expected):
    """The mean of (term, coefficient) pairs, and its gradient.

    Args:
        case: an SAE with thresholds.
        terms: ours, by coefficient.
        expected: (p, pre, acts, fired, theta, recon, target) -> one value a row.
    """
    sae = build(case)
    x = rows_for(sae, ROWS)
    target = target_for(sae, x) + 0.25
    objective = Objective({str(number): term for number, (term, _) in enumerate(terms)})
    weights = {str(number): weight for number, (_, weight) in enumerate(terms)}
    info = StepInfo(progress=0.4, dead=dead_of(sae.d_sae))
    total = objective(sae, sae.forward_train(x), target, weights, info).total
    params = {name.removeprefix("activation_function."): value.detach().numpy() for name, value in sae.named_parameters()}

    def whole(p):
        return expected(p, *passes(case, sae, p, x.numpy()), target.numpy()).mean()

    assert float(total.detach()) == pytest.approx(float(np.real(whole(params))), rel=1e-10)
    wanted = twin.complex_step(whole, params)
    gradients = torch.autograd.grad(total, list(sae.parameters()), allow_unused=True, materialize_grads=True)
    for (name, _), gradient in zip(sae.named_parameters(), gradients, strict=True):
        short = name.removeprefix("activation_function.")
        np.testing.assert_allclose(gradient.numpy(), wanted[short], **TOLERANCE, err_msg=name)
    return {name.removeprefix("activation_function."): value for name, value in wanted.items()}


@every_case
def test_squared_error(case):
    moved = check(
        case, [(SquaredError(), 1.0)], lambda p, pre, acts, fired, theta, recon, target: twin.squared_error(recon, target)
    )
    assert all(gradient.any() for gradient in moved.values())


@pytest.mark.parametrize("aim", [None, 3.0])
@every_case
def test_gemma_scope_s_objective(case, aim):
    """Squared error and L0, by a price for each latent or to a target."""

    def expected(p, pre, acts, fired, theta, recon, target):
        count = fired.sum(axis=1)
        if aim is not None:
            count = np.full(ROWS, (count.mean() / aim - 1) ** 2)
        return twin.squared_error(recon, target) + 0.6 * count

    check(case, [(SquaredError(), 1.0), (L0(target=aim), 0.6)], expected)


@every_case
def test_l0_alone_moves_only_what_it_may(case):
    moved = check(case, [(L0(), 1.0)], lambda p, pre, acts, fired, theta, recon, target: fired.sum(axis=1))
    assert moved["threshold_parameter"].any()
    through = case.settings["through_pre_acts"]
    for name in ("W_enc", "b_enc"):
        assert bool(moved[name].any()) == through, name
    assert not moved["W_dec"].any()


@pytest.mark.parametrize("dead_only", [False, True])
@every_case
def test_the_january_2025_objective(case, dead_only):
    """Squared error + tanh(c f ||d||) + the pre-activation loss, which reaches thresholds and pre-activations by itself."""

    def expected(p, pre, acts, fired, theta, recon, target):
        who = dead_of(len(theta)).numpy() if dead_only else np.ones(len(theta), dtype=bool)
        sparsity = twin.tanh(acts, twin.weights(p, "decoder_norm"), 4.0)
        return twin.squared_error(recon, target) + 0.4 * sparsity + 0.03 * twin.pre_activation(p, pre, theta, who)

    check(case, [(SquaredError(), 1.0), (Tanh(scale=4.0), 0.4), (PreActivation(dead_only=dead_only), 0.03)], expected)


@every_case
def test_powers_sums_and_dead_latents(case):
    target_widths = getattr(build(case), "target_widths", None)

    def expected(p, pre, acts, fired, theta, recon, target):
        w = twin.weights(p, "decoder_norm")
        revived = twin.auxk(p, pre, recon, target, dead_of(len(theta)).numpy(), 2, normalised=True, target_widths=target_widths)
        return twin.l1(acts, w) + 0.5 * twin.lp(acts, w, 0.6) + 0.25 * revived

    terms = [(L1(weighting="decoder_norm"), 1.0), (Lp(p=0.6, weighting="decoder_norm"), 0.5), (AuxK(k_aux=2), 0.25)]
    check(case, terms, expected)


@pytest.mark.parametrize("case", [case for case in CASES if "group_sizes" in case.settings], ids=lambda case: case.name)
def test_nested_prefixes(case):
    check(
        case,
        [(NestedSquaredError(empty_prefix=True), 1.0)],
        lambda p, pre, acts, fired, theta, recon, target: twin.nested(p, acts, target, GROUPS, empty=True, average=True),
    )
