"""Forward passes and terms, value and gradient, against `tests/reference/saes.py`: to 1e-10 in float64."""

from functools import partial

import numpy as np
import pytest
import torch

from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.l0 import L0
from sae.losses.lp import Lp
from sae.losses.objective import Objective
from sae.losses.reconstruction import GateReconstruction, MultiTopK, NestedSquaredError, SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import StepInfo
from tests.cases import (
    CASES,
    D_IN,
    D_SAE,
    Case,
    build,
    every_architecture,
    every_architecture_that,
    learns_threshold,
    rows_for,
    target_for,
)
from tests.reference import saes as twin

ROWS = 9
DEAD = torch.zeros(D_SAE, dtype=torch.bool)
DEAD[[0, 3, 4, 7, 11]] = True
INFO = StepInfo(progress=0.4, dead=DEAD)
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


def case_named(name):
    return next(case for case in CASES if case.name == name)


def targets_of(sae):
    """Widths of the targets of a cross-layer transcoder, else None."""
    return getattr(sae, "target_widths", None)


def numpy_of(sae) -> twin.Params:
    found = {name.removeprefix("activation_function."): value.detach().numpy().copy() for name, value in sae.named_parameters()}
    if "threshold_parameter" in found:
        found["theta"] = sae.activation_function.threshold.detach().numpy().copy()
        del found["threshold_parameter"]
    return found


def encode(case, sae, p, x, *, selecting=False):
    """(pre_acts, latent_acts) of all rows by the twin, from possibly complex parameters; `selecting` over the batch or not."""
    subtract = sae.apply_b_dec_to_input
    if case.architecture == "gated":
        pairs = [twin.gated(p, row, subtract) for row in x]
    elif case.architecture == "matching_pursuit":
        pairs = [twin.matching_pursuit(p, row, sae.k) for row in x]
    elif case.architecture == "sparse_coding":
        pairs = [twin.sparse_coding(p, row, sae.l1_coefficient) for row in x]
    else:
        kind = getattr(sae, "activation", case.architecture)
        pre = [twin.pre_activations(p, row, subtract) for row in x]
        if kind == "topk":
            acts = [twin.keep_largest(z, sae.num_active) for z in pre]
        elif kind == "batch_topk" and selecting:
            acts = list(twin.keep_largest_of_batch(np.array(pre), sae.num_active))
        elif kind == "batch_topk":
            acts = [twin.above(z, sae.batch_threshold.numpy()) for z in pre]
        elif kind == "jumprelu":
            acts = [twin.above(z, p["theta"]) for z in pre]
        elif kind == "relu":
            acts = [twin.relu(z) for z in pre]
        else:
            pytest.fail(f"no numpy twin of {kind}: write one in tests/reference/saes.py and call it here")
        pairs = list(zip(pre, acts, strict=True))
    return np.array([one for one, _ in pairs]), np.array([other for _, other in pairs])


@every_architecture
def test_forward_passes(case):
    sae = build(case)
    x = rows_for(sae, ROWS)
    p, rows, undo = numpy_of(sae), x.numpy(), [(0.0, 1.0)] * ROWS
    if sae.layer_norm:
        normal = [twin.layer_norm(row) for row in rows]
        rows, undo = np.array([one for one, _, _ in normal]), [(mean, deviation) for _, mean, deviation in normal]
    pre, acts = encode(case, sae, p, rows)
    recon = [twin.decode(p, a, row, targets_of(sae)) * s + m for a, row, (m, s) in zip(acts, rows, undo, strict=True)]
    output = sae(x)
    np.testing.assert_allclose(output.pre_acts.detach().numpy(), pre, **TOLERANCE)
    np.testing.assert_allclose(output.latent_acts.detach().numpy(), acts, **TOLERANCE)
    np.testing.assert_allclose(output.recon.detach().numpy(), np.array(recon), **TOLERANCE)


def test_an_architecture_without_a_twin_is_compared_with_none():
    """And whoever adds it is told where to write one."""
    sae = build(case_named("relu"))
    with pytest.raises(pytest.fail.Exception, match=r"no numpy twin of new: write one in tests/reference/saes\.py"):
        encode(Case("new", "new", {}), sae, numpy_of(sae), rows_for(sae).numpy())


def check(case_name, term, expected, *, forward="forward", info=INFO, skip=()):
    """A term's rows and the gradient of their mean by every parameter.

    Args:
        case_name: the architecture.
        term: ours.
        expected: (p, acts, pre, recon, target) -> one value a row.
        forward: or `forward_train`.
        info: of the step.
        skip: parameters whose gradient is compared elsewhere.
    """
    case = case_named(case_name)
    sae = build(case)
    x = rows_for(sae, ROWS)
    target = target_for(sae, x) + 0.25
    found = term(sae, getattr(sae, forward)(x), target, info)

    def whole(p):
        pre, acts = encode(case, sae, p, x.numpy(), selecting=forward == "forward_train")
        recon = np.array([twin.decode(p, a, row, targets_of(sae)) for a, row in zip(acts, x.numpy(), strict=True)])
        return expected(p, acts, pre, recon, target.numpy())

    params = numpy_of(sae)
    np.testing.assert_allclose(found.detach().numpy(), np.real(whole(params)), **TOLERANCE)
    assert found.detach().abs().max() > 1e-3
    expected_gradients = twin.complex_step(lambda p: whole(p).mean(), params)
    gradients = torch.autograd.grad(found.mean(), list(sae.parameters()), allow_unused=True, materialize_grads=True)
    moved = 0
    for (name, _), gradient in zip(sae.named_parameters(), gradients, strict=True):
        short = name.removeprefix("activation_function.")
        if short in skip:
            continue
        twin_name = "theta" if short == "threshold_parameter" else short
        hint = "" if case.smooth else ": the twin carries a straight-through gradient in its imaginary part, as `jump` does"
        np.testing.assert_allclose(gradient.numpy(), expected_gradients[twin_name], **TOLERANCE, err_msg=name + hint)
        moved += bool(gradient.any())
    assert moved
    return {name: gradient for (name, _), gradient in zip(sae.named_parameters(), gradients, strict=True)}


def check_squared_error(name):
    check(name, SquaredError(), lambda p, acts, pre, recon, target: twin.squared_error(recon, target))


@every_architecture_that(lambda sae: not sae.layer_norm and not learns_threshold(sae))
def test_squared_error(case):
    """Straight-through gradients too; those of learnt thresholds are in `test_straight_through_terms.py`."""
    check_squared_error(case.name)


def test_a_straight_through_gradient_that_the_twin_lacks_is_seen():
    """And whoever adds one is told where it goes: `twin.above` gives a threshold none."""
    with pytest.raises(AssertionError, match="threshold_parameter: the twin carries a straight-through gradient"):
        check_squared_error("jumprelu_raw")


@every_architecture_that(lambda sae: sae.batch_threshold is not None)
def test_squared_error_where_training_selects_over_the_batch(case):
    check(
        case.name,
        SquaredError(),
        lambda p, acts, pre, recon, target: twin.squared_error(recon, target),
        forward="forward_train",
    )


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("name", "sizes"), [("matryoshka", (2, 4, 7)), ("matryoshka_topk", (3, 10))])
def test_nested(name, sizes, reduction, empty):
    check(
        name,
        NestedSquaredError(reduction=reduction, empty_prefix=empty),
        lambda p, acts, pre, recon, target: twin.nested(p, acts, target, sizes, empty=empty, average=reduction == "mean"),
        forward="forward_train",
    )


def test_multi_topk():
    """At twice k = 6 it keeps 12 of 13."""
    check("topk", MultiTopK(multiple=2), lambda p, acts, pre, recon, target: twin.multi_topk(p, pre, target, 12))


def test_multi_topk_keeps_the_skip_connection():
    """From twice k latents, whatever k the pass was annealed to."""
    case = Case("transcoder_topk_skip", "transcoder", {"k": 6, "skip": True})
    sae = build(case)
    x = rows_for(sae, ROWS)
    target = target_for(sae, x)
    p, W_skip = numpy_of(sae), sae.get_parameter("W_skip")
    pre = np.array([twin.pre_activations(p, row, subtract=False) for row in x.numpy()])
    found = MultiTopK(multiple=2)(sae, sae.forward_train(x, k=3), target, INFO)
    skipped = x.numpy() @ W_skip.detach().numpy()
    np.testing.assert_allclose(found.detach().numpy(), twin.multi_topk(p, pre, target.numpy() - skipped, 12), **TOLERANCE)
    assert torch.autograd.grad(found.mean(), W_skip)[0].any()
    sparse = MultiTopK(multiple=2)(sae, sae.forward_train_sparse(x, k=3), target, INFO)
    torch.testing.assert_close(sparse, found, rtol=1e-10, atol=1e-10)


def test_multi_topk_chooses_from_each_row_where_training_chooses_from_the_batch():
    check(
        "batch_topk",
        MultiTopK(multiple=2),
        lambda p, acts, pre, recon, target: twin.multi_topk(p, pre, target, 8),
        forward="forward_train",
    )


@pytest.mark.parametrize("through", [False, True])
def test_gate(through):
    found = check(
        "gated",
        GateReconstruction(through_decoder=through),
        lambda p, acts, pre, recon, target: twin.gate_reconstruction(p, pre, target, through_decoder=through),
    )
    assert bool(found["W_dec"].any()) == through
    assert found["b_enc"].any(), "the gate's bias learns from this term"


@pytest.mark.parametrize("weighting", ["none", "decoder_norm", "frozen_decoder_norm"])
@pytest.mark.parametrize("name", ["relu", "gated", "matching_pursuit"])
def test_l1(name, weighting):
    check(name, L1(weighting=weighting), lambda p, acts, pre, recon, target: twin.l1(acts, twin.weights(p, weighting)))


@pytest.mark.parametrize("make", [L1, partial(Lp, p=0.5), Tanh])
def test_frozen_norms_weigh_as_much_and_leave_the_decoder_alone(make):
    sae = build(case_named("relu"))
    x = rows_for(sae, ROWS)
    one, other = (make(weighting=weighting)(sae, sae(x), x, INFO) for weighting in ("decoder_norm", "frozen_decoder_norm"))
    assert torch.equal(one, other)
    moved = [torch.autograd.grad(term.mean(), sae.W_dec, allow_unused=True)[0] for term in (one, other)]
    assert moved[0] is not None
    assert moved[1] is None


def test_l1_of_a_crosscoder_weighs_by_the_norms_of_the_parts():
    check(
        "crosscoder",
        L1(weighting="part_norms"),
        lambda p, acts, pre, recon, target: twin.l1(acts, twin.weights(p, "part_norms", (D_IN - D_IN // 2, D_IN // 2))),
    )


def test_l1_of_the_gate():
    found = check("gated", L1(on="pre_acts"), lambda p, acts, pre, recon, target: twin.l1(twin.relu(pre), np.ones(D_SAE)))
    assert not found["r_mag"].any()


@pytest.mark.parametrize("power", [1.0, 0.5, 0.2])
def test_lp(power):
    check(
        "relu",
        Lp(p=power, weighting="decoder_norm"),
        lambda p, acts, pre, recon, target: twin.lp(acts, twin.weights(p, "decoder_norm"), power),
    )


@pytest.mark.parametrize("weighting", ["none", "decoder_norm"])
def test_tanh(weighting):
    check(
        "relu",
        Tanh(scale=1.7, weighting=weighting),
        lambda p, acts, pre, recon, target: twin.tanh(acts, twin.weights(p, weighting), 1.7),
    )


@pytest.mark.parametrize("k_aux", [2, 5, 100])
@pytest.mark.parametrize("normalisation", ["residual", "none"])
def test_auxk(normalisation, k_aux):
    found = check(
        "topk",
        AuxK(k_aux=k_aux, normalisation=normalisation),
        lambda p, acts, pre, recon, target: twin.auxk(
            p, pre, recon, target, DEAD.numpy(), k_aux, normalised=normalisation == "residual"
        ),
    )
    assert found["W_enc"][:, DEAD].any(dim=0).sum() >= 4, "the gradient reaches the encoder of the dead"
    assert not found["W_enc"][:, ~DEAD].any()
    assert not found["W_dec"][~DEAD].any()


def test_auxk_moves_nothing_but_the_dead():
    """Encoder column, encoder bias and decoder row of each of them; b_dec not, where it is not in their encoder's input."""
    term = AuxK(k_aux=100)
    for name in ("relu_without_input_bias", "batch_topk_without_input_bias", "transcoder", "transcoder_skip", "crosscoder"):
        sae = build(case_named(name))
        x = rows_for(sae)
        total = term(sae, sae.forward_train(x), target_for(sae, x), INFO).mean()
        gradients = torch.autograd.grad(total, list(sae.parameters()), allow_unused=True, materialize_grads=True)
        axes = {id(parameter): axis for parameter, axis in sae.latent_parameters()}
        for (key, parameter), gradient in zip(sae.named_parameters(), gradients, strict=True):
            if id(parameter) not in axes:
                assert not gradient.any(), (name, key)
                continue
            moved = gradient.transpose(0, axes[id(parameter)]).reshape(D_SAE, -1).any(dim=1)
            assert torch.equal(moved, DEAD), (name, key)


def test_auxk_takes_half_of_d_out_by_itself():
    check(
        "topk", AuxK(), lambda p, acts, pre, recon, target: twin.auxk(p, pre, recon, target, DEAD.numpy(), 2, normalised=True)
    )


def test_ghost_gradients():
    found = check("relu", GhostGradients(), lambda p, acts, pre, recon, target: twin.ghost(p, pre, recon, target, DEAD.numpy()))
    assert not found["W_enc"][:, ~DEAD].any()


def test_ghost_gradients_of_huge_pre_activations_stay_finite():
    sae = build(case_named("relu"))
    with torch.no_grad():
        sae.get_parameter("b_enc").add_(2000.0)
    x = rows_for(sae, ROWS)
    value = GhostGradients()(sae, sae(x), x, INFO).mean()
    assert torch.isfinite(value)
    assert all(torch.isfinite(one).all() for one in torch.autograd.grad(value, list(sae.parameters())))


@pytest.mark.parametrize("dead_only", [False, True])
@pytest.mark.parametrize("name", ["relu", "jumprelu_raw"])
def test_pre_activation(name, dead_only):
    who = DEAD.numpy() if dead_only else np.ones(D_SAE, dtype=bool)

    def expected(p, acts, pre, recon, target):
        return twin.pre_activation(p, pre, p.get("theta", np.zeros(D_SAE)), who)

    check(name, PreActivation(dead_only=dead_only), expected)


@pytest.mark.parametrize("term", [AuxK(), GhostGradients()])
def test_terms_for_the_dead_are_zero_while_none_is(term):
    sae = build(case_named("topk"))
    x = rows_for(sae, ROWS)
    for info in (StepInfo(), StepInfo(dead=torch.zeros(D_SAE, dtype=torch.bool))):
        assert term(sae, sae(x), x, info).tolist() == [0.0] * ROWS


# -- straight-through gradients ------------------------------------------------------------------------------------------


def jump_parts(name):
    case = case_named(name)
    sae = build(case)
    x = rows_for(sae, ROWS)
    p = numpy_of(sae)
    pre, acts = encode(case, sae, p, x.numpy())
    inside = twin.window(pre, p["theta"], sae.bandwidth)
    assert 0.05 < inside.mean() < 0.9
    return case, sae, x, p, pre, acts, inside


def compare(sae, total, expected):
    gradients = torch.autograd.grad(total, list(sae.parameters()), allow_unused=True, materialize_grads=True)
    for (name, _), gradient in zip(sae.named_parameters(), gradients, strict=True):
        short = name.removeprefix("activation_function.")
        wanted = expected["theta" if short == "threshold_parameter" else short]
        np.testing.assert_allclose(gradient.numpy(), wanted, **TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", ["jumprelu_raw", "jumprelu_log"])
def test_the_squared_error_s_straight_through_gradient(name):
    """d f / d theta = -(theta / eps) K((z - theta) / eps); and to z with the other sign where it goes through."""
    case, sae, x, p, _, acts, inside = jump_parts(name)
    target = x.numpy() + 0.25
    recon = acts @ p["W_dec"] + p["b_dec"]
    by_acts = 2 * (recon - target) @ p["W_dec"].T / ROWS
    pseudo = by_acts * inside * p["theta"] / sae.bandwidth
    through = pseudo if case.settings["through_pre_acts"] else np.zeros_like(pseudo)

    def smooth(q):
        _, found = encode(case, sae, q, x.numpy())
        return twin.squared_error(found @ q["W_dec"] + q["b_dec"], target).mean()

    expected = twin.complex_step(smooth, p)
    extra = twin.pseudo_gradients(
        p, x.numpy(), subtract=True, by_threshold=-pseudo, by_pre_acts=through, log=case.settings["threshold_form"] == "log"
    )
    assert not expected["theta"].any(), "the true derivative by a threshold is zero"
    assert extra["theta"].any()
    total = SquaredError()(sae, sae(x), x + 0.25, INFO).mean()
    compare(sae, total, {key: expected[key] + extra[key] for key in expected})


@pytest.mark.parametrize("aim", [None, 3.0])
@pytest.mark.parametrize("name", ["jumprelu_raw", "jumprelu_log"])
def test_the_l0_penalty_s_straight_through_gradient(name, aim):
    """d H(z - theta) / d theta = -(1 / eps) K; nothing else moves unless it goes through. With a target, the chain rule."""
    case, sae, x, p, pre, _, inside = jump_parts(name)
    count = (pre > p["theta"]).sum(axis=1)
    value = count if aim is None else np.full(ROWS, (count.mean() / aim - 1) ** 2)
    outer = 1.0 if aim is None else 2 * (count.mean() / aim - 1) / aim
    pseudo = outer * inside / sae.bandwidth / ROWS
    through = pseudo if case.settings["through_pre_acts"] else np.zeros_like(pseudo)
    found = L0(target=aim)(sae, sae(x), x, INFO)
    np.testing.assert_allclose(found.detach().numpy(), value, **TOLERANCE)
    expected = twin.pseudo_gradients(
        p, x.numpy(), subtract=True, by_threshold=-pseudo, by_pre_acts=through, log=case.settings["threshold_form"] == "log"
    )
    assert expected["theta"].any()
    compare(sae, found.mean(), expected)


def test_a_price_steers_to_a_target():
    """Value, pseudo-gradient and course of the price, over batches with too many latents, too few, and none."""
    case, sae, *_ = jump_parts("jumprelu_log")
    term, price = L0(target=3.0, steering="price", speed=0.3), 1.0
    bias = sae.get_parameter("b_enc")
    for step, shift in enumerate((0.0, 0.0, -2.0, -1e3, 0.3)):
        with torch.no_grad():
            bias.add_(shift)
        x, p = rows_for(sae, ROWS, phase=0.3 + step), numpy_of(sae)
        output, (pre, _) = sae(x), encode(case, sae, p, x.numpy())
        count = (pre > p["theta"]).sum(axis=1)
        found = term(sae, output, x, INFO)
        np.testing.assert_allclose(found.detach().numpy(), price * count, **TOLERANCE)
        pseudo = price * twin.window(pre, p["theta"], sae.bandwidth) / sae.bandwidth / ROWS
        expected = twin.pseudo_gradients(p, x.numpy(), subtract=True, by_threshold=-pseudo, by_pre_acts=pseudo, log=True)
        compare(sae, found.mean(), expected)
        term.advance(output, INFO)
        price = twin.price_after(price, count.mean(), 3.0, 0.3)
        assert float(term.price) == pytest.approx(price, rel=1e-6)  # the mean is a float32
        price = float(term.price)
        with torch.no_grad():
            bias.sub_(shift)
    again = L0(target=3.0, steering="price", speed=0.3)
    again.load_state_dict(term.state_dict())
    assert torch.equal(again.price, term.price)


# -- p-annealing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["none", "decoder_norm", "part_norms"])
def test_p_annealing_follows_its_schedule_and_keeps_the_size(weighting):
    """Ten steps, two moves from p = 1 to 0.4 and memory 3, on paper; the size is that of the penalty as it is weighted."""
    sae = build(case_named("crosscoder" if weighting == "part_norms" else "relu"))
    weights = twin.weights(numpy_of(sae), weighting, (D_IN - D_IN // 2, D_IN // 2))
    term = Lp(p=1.0, p_end=0.4, start=0.3, updates=2, memory=3, weighting=weighting)
    powers, factor, p, moves = [], 1.0, 1.0, 0
    for step in range(10):
        x = rows_for(sae, ROWS, phase=0.3 + step)
        acts = sae.encode(x).detach().numpy()
        expected = factor * twin.lp(acts, weights, p)
        np.testing.assert_allclose(term(sae, sae(x), x, INFO).detach().numpy(), expected, **TOLERANCE)
        term.advance(sae(x), StepInfo(progress=(step + 1) / 10))
        if moves == 2:
            continue
        upcoming = (0.7, 0.4)[moves]
        powers.append((twin.lp(acts, weights, p).mean(), twin.lp(acts, weights, upcoming).mean()))
        if (step + 1) / 10 >= (0.3, 0.65)[moves]:
            recent = powers[-3:]
            factor *= sum(one for one, _ in recent) / sum(other for _, other in recent)
            p, moves, powers = upcoming, moves + 1, []
    assert (moves, p) == (2, 0.4)
    assert float(term.p_now) == pytest.approx(0.4)
    assert float(term.factor) == pytest.approx(factor, rel=1e-12)
    one, other = (Lp(p=1.0, p_end=0.4, weighting=weighting) for _ in range(2))
    for mine, output in ((one, sae.forward_train(x)), (other, sae.forward_train_sparse(x))):
        mine(sae, output, x, INFO)
        mine.advance(output, StepInfo(progress=0.5))
    assert float(other.factor) == pytest.approx(float(one.factor), rel=1e-10)
    again = Lp(p=1.0, p_end=0.4, start=0.3, updates=2, memory=3, weighting=weighting)
    again.load_state_dict(term.state_dict())
    x = rows_for(sae, ROWS)
    assert torch.equal(again(sae, sae(x), x, INFO), term(sae, sae(x), x, INFO))


# -- what cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Objective({"mse": SquaredError()}, reduction="max"), "sum"),
        (lambda: NestedSquaredError(reduction="max"), "mean"),
        (lambda: MultiTopK(multiple=1), "multi_topk_multiple"),
        (lambda: L1(weighting="norm"), "weighting"),
        (lambda: L1(on="acts"), "on"),
        (lambda: Lp(p=0.0), "lp_p"),
        (lambda: Lp(p=1.0, p_end=1.5), "lp_p_end"),
        (lambda: Lp(start=1.0), "lp_start"),
        (lambda: Tanh(scale=0.0), "tanh_scale"),
        (lambda: L0(target=0.0), "l0_target"),
        (lambda: AuxK(k_aux=0), "auxk_k_aux"),
        (lambda: AuxK(normalisation="batch"), "normalisation"),
    ],
)
def test_impossible_settings_are_refused(make, said):
    with pytest.raises(Exception, match=said):
        make()


@pytest.mark.parametrize(
    ("name", "term"),
    [("relu", NestedSquaredError()), ("relu", MultiTopK()), ("relu", L0()), ("relu", L1(weighting="part_norms"))],
)
def test_a_term_that_the_architecture_cannot_have_says_so(name, term):
    sae = build(case_named(name))
    x = rows_for(sae)
    with pytest.raises(ValueError, match="needs"):
        term(sae, sae(x), x, INFO)
