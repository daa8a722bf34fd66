"""What every term of the loss promises. Run for each line of `TERM_CASES`."""

from functools import partial
from typing import get_args

import pytest
import torch

from sae.losses.objective import Objective
from sae.losses.registry import TERMS, squared_errors, terms_for
from sae.losses.term import NeedsDense, Particular, Role, StepInfo, Term
from tests.cases import CASES, D_SAE, ROWS, TERM_CASES, build, rows_for, target_for

DEAD = torch.zeros(D_SAE, dtype=torch.bool)
DEAD[[0, 3, 4, 7, 11]] = True

every_term = pytest.mark.parametrize(
    "term_case", TERM_CASES, ids=lambda one: "-".join([one.term, one.case, *(f"{value}" for value in one.settings.values())])
)


def downstream(recon):
    """Stands for the rest of the model: two numbers of each row's reconstruction."""
    return {"kl": (1 + recon.square()).log().sum(dim=1), "squared_error": (recon - 1).square().sum(dim=1)}


INFO = StepInfo(progress=0.4, dead=DEAD, downstream=downstream)


def made(term_case, dtype=torch.float64):
    """The term, its SAE, rows and targets."""
    term = TERMS[term_case.term](**term_case.settings)
    sae = build(next(case for case in CASES if case.name == term_case.case), dtype=dtype)
    wide = build(next(case for case in CASES if case.name == term_case.case))
    x = rows_for(wide)
    return term, sae, x.to(dtype), (target_for(wide, x) + 0.25).to(dtype)


def passes(term, sae):
    """Training's passes that the term can be given, the dense one first."""
    dense_alone = isinstance(term, NeedsDense) and term.needs_dense(sae)
    return [sae.forward_train] if dense_alone or not sae.trains_sparse else [sae.forward_train, sae.forward_train_sparse]


def with_gradients(sae, values):
    """The mean over rows, and its gradient by each parameter."""
    found = torch.autograd.grad(values.mean(), list(sae.parameters()), allow_unused=True, materialize_grads=True)
    return {"mean": values.mean(), **dict(zip(dict(sae.named_parameters()), found, strict=True))}


def test_every_term_has_a_case():
    missing = sorted(set(TERMS) - {one.term for one in TERM_CASES})
    assert not missing, f"no case of the terms {missing}: add a line for each to TERM_CASES in tests/cases.py"
    assert {one.term for one in TERM_CASES} == set(TERMS)


def test_every_term_says_what_it_is_for():
    """From this follows what an objective may lack, and what needs a whole model: no other list names the terms."""
    assert terms_for("reconstruction", "end_to_end") == ("mse", "nested", "kl", "downstream")
    assert terms_for("end_to_end") == ("kl", "downstream")
    assert terms_for("sparsity") == ("l0", "l1", "lp", "tanh")
    assert len(terms_for(*get_args(Role))) == len(TERMS)


def test_every_squared_error_says_so():
    assert squared_errors() == ("mse", "nested", "multi_topk", "gate", "auxk", "ghost", "downstream")


@every_term
def test_a_mean_over_dimensions_divides_squared_errors_and_nothing_else(term_case):
    """Values of rows, and means with gradients."""
    term, sae, x, target = made(term_case)
    for forward in passes(term, sae):
        output, found = forward(x), []
        for reduction in ("sum", "mean"):
            objective = Objective({term_case.term: term}, reduction=reduction)
            rows = objective.per_row(sae, output, target, {term_case.term: 1.0}, INFO)
            loss = objective(sae, output, target, {term_case.term: 1.0}, INFO)
            gradients = torch.autograd.grad(
                loss.total, list(sae.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            found.append([rows, loss.total, loss.parts[term_case.term], *gradients])
        factor = sae.d_out if term_case.term in squared_errors() else 1
        for summed, averaged in zip(*found, strict=True):
            torch.testing.assert_close(averaged * factor, summed, rtol=1e-12, atol=1e-12)


@every_term
def test_one_value_a_row_and_a_gradient(term_case):
    term, sae, x, target = made(term_case)
    assert isinstance(term, Term)
    if isinstance(term, Particular):
        term.check(sae)
    for forward in passes(term, sae):
        values = term(sae, forward(x), target, INFO)
        assert values.shape == (ROWS,)
        assert values.isfinite().all()
        assert values.dtype == torch.float64
        found = with_gradients(sae, values)
        assert all(value.isfinite().all() for value in found.values())
        assert any(gradient.any() for name, gradient in found.items() if name != "mean")


@every_term
def test_the_sparse_pass_gives_the_dense_one_s_values_and_gradients_or_the_term_says_that_it_cannot(term_case):
    term, sae, x, target = made(term_case)
    dense, *sparse = (term(sae, forward(x), target, INFO) for forward in passes(term, sae))
    if not sparse:
        with pytest.raises(ValueError, match="the dense"):
            term(sae, sae.forward_train_sparse(x), target, INFO)
        return
    torch.testing.assert_close(sparse[0], dense, rtol=1e-10, atol=1e-10)
    found, expected = with_gradients(sae, sparse[0]), with_gradients(sae, dense)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize("sizes", [[1] * ROWS, [5, 12], [16, 1]], ids=["one by one", "in two", "all but one"])
@every_term
def test_a_batch_s_term_is_the_mean_of_its_parts_if_it_is_row_wise(term_case, sizes):
    """By the pass of training, with its gradients; where that selects over the batch, by the pass that does not."""
    term, sae, x, target = made(term_case)
    forward = sae.forward_train if sae.batch_threshold is None else sae
    values = term(sae, forward(x), target, INFO)
    split = [term(sae, forward(rows), wanted, INFO) for rows, wanted in zip(x.split(sizes), target.split(sizes), strict=True)]
    if not term_case.row_wise:
        assert not torch.allclose(torch.cat(split), values), "it is row-wise, so say so"
        return
    torch.testing.assert_close(torch.cat(split), values, rtol=1e-11, atol=1e-11)
    whole, parts = with_gradients(sae, values), [with_gradients(sae, part) for part in split]
    means = {name: sum(size * part[name] for size, part in zip(sizes, parts, strict=True)) / ROWS for name in whole}
    for name, value in whole.items():
        torch.testing.assert_close(means[name], value, rtol=1e-11, atol=1e-11, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@every_term
def test_silent_latents_give_a_finite_value_and_gradient(term_case, dtype):
    """All of them on every row: what a run that collapsed goes on from."""
    term, sae, x, target = made(term_case, dtype)
    with torch.no_grad():
        if "b_enc" in dict(sae.named_parameters()):
            sae.get_parameter("b_enc").fill_(-100)
        else:  # a row at the decoder's bias leaves nothing to pursue
            x = sae.b_dec.expand(ROWS, -1)
    for forward in passes(term, sae):
        output = forward(x)
        assert not (output.latent_acts if forward == sae.forward_train else output.latent_acts.values).any()
        for name, value in with_gradients(sae, term(sae, output, target, INFO)).items():
            assert value.isfinite().all(), name


@every_term
def test_values_under_autocast_are_float32(term_case):
    """A row's value has more digits than the bfloat16 that its latents may be in, and is near what float32 gives."""
    term, sae, x, target = made(term_case, torch.float32)
    for forward in passes(term, sae):
        expected = term(sae, forward(x), target, INFO)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = term(sae, forward(x), target, INFO)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.mean(), expected.mean(), rtol=0.08, atol=0)
        assert all(gradient.isfinite().all() for gradient in with_gradients(sae, values).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_term
def test_terms_in_narrow_types(term_case, dtype):
    """The mean over rows, with weights and rows rounded: float32 to 1e-5, bfloat16 to 8 per cent; gradients finite."""
    means = []
    for one in (dtype, torch.float64):
        term, sae, x, target = made(term_case, one)
        found = with_gradients(sae, term(sae, sae.forward_train(x), target, INFO))
        assert all(value.isfinite().all() for value in found.values())
        means.append(float(found["mean"].detach()))
    assert means[0] == pytest.approx(means[1], rel=1e-5 if dtype == torch.float32 else 0.08)
