import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae.losses.dead_latents import PreActivation
from sae.losses.lp import Lp
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import StepInfo
from tests.cases import CASES, D_IN, build, ramp, rows_for

TERMS = {"reconstruction": SquaredError(), "sparsity": L1()}


def prepared(dtype=torch.float64):
    sae = build(CASES[0], dtype=dtype)
    x = rows_for(sae)
    return sae, x, sae(x)


def test_squared_error_is_a_sum_over_dimensions_for_each_row():
    sae, x, output = prepared()
    expected = [sum(float(value) ** 2 for value in row) for row in (output.recon - x).detach()]
    assert SquaredError()(sae, output, x).tolist() == pytest.approx(expected, rel=1e-12)
    assert Objective({"mse": SquaredError()}, reduction="mean").per_row(sae, output, x, {"mse": 1.0}).tolist() == pytest.approx(
        [value / D_IN for value in expected], rel=1e-12
    )


def test_target_and_input_are_two_things():
    sae, x, output = prepared()
    target = ramp(*x.shape, phase=5)
    assert torch.equal(SquaredError()(sae, output, target), (output.recon - target).square().sum(dim=1))


def test_l1_sums_latents_and_weighs_by_decoder_norms():
    sae, x, output = prepared()
    norms = [sum(float(v) ** 2 for v in row) ** 0.5 for row in sae.W_dec.detach()]
    acts = output.latent_acts.detach().tolist()
    assert L1()(sae, output, x).tolist() == pytest.approx([sum(row) for row in acts], rel=1e-12)
    weighted = [sum(value * norm for value, norm in zip(row, norms, strict=True)) for row in acts]
    assert L1(weighting="decoder_norm")(sae, output, x).tolist() == pytest.approx(weighted, rel=1e-12)


def test_printed_and_default_convention_are_one_loss_after_conversion():
    """d_in * (mean squared error + c * L1) = summed squared error + (d_in * c) * L1, gradients too."""
    sae, x, output = prepared()
    printed = Objective(TERMS, reduction="mean")
    small = printed(sae, output, x, {"reconstruction": 1.0, "sparsity": 0.04}).total
    large = Objective(TERMS)(sae, output, x, {"reconstruction": 1.0, "sparsity": D_IN * 0.04}).total
    torch.testing.assert_close(large, D_IN * small, rtol=1e-12, atol=0)
    by_small, by_large = (torch.autograd.grad(t, list(sae.parameters()), retain_graph=True) for t in (small, large))
    for one, other in zip(by_small, by_large, strict=True):
        torch.testing.assert_close(other, D_IN * one, rtol=1e-10, atol=1e-12)


def test_weighted_l1_does_not_see_how_a_latents_scale_is_shared_out():
    sae, x, output = prepared()
    before = L1(weighting="decoder_norm")(sae, output, x)
    sae.fold_decoder_norms_()
    torch.testing.assert_close(L1(weighting="decoder_norm")(sae, sae(x), x), before, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(L1()(sae, sae(x), x), before, rtol=1e-12, atol=1e-12)


def test_objective_averages_rows_and_keeps_parts_before_coefficients():
    sae, x, output = prepared()
    loss = Objective(TERMS)(sae, output, x, {"reconstruction": 2.0, "sparsity": torch.tensor(0.5).double()})
    error, penalty = SquaredError()(sae, output, x).mean(), L1()(sae, output, x).mean()
    torch.testing.assert_close(loss.parts["reconstruction"], error.detach())
    torch.testing.assert_close(loss.parts["sparsity"], penalty.detach())
    torch.testing.assert_close(loss.total, 2 * error + 0.5 * penalty)
    assert loss.total.requires_grad
    assert not any(part.requires_grad for part in loss.parts.values())


def test_loss_per_row_averages_to_the_loss():
    sae, x, output = prepared()
    coefficients = {"reconstruction": 1.0, "sparsity": 0.3}
    rows = Objective(TERMS).per_row(sae, output, x, coefficients)
    assert rows.shape == (len(x),)
    torch.testing.assert_close(rows.mean(), Objective(TERMS)(sae, output, x, coefficients).total)
    alone = Objective(TERMS)(sae, sae(x[3:4]), x[3:4], coefficients).total
    torch.testing.assert_close(rows[3], alone)


@pytest.mark.parametrize("weighting", ["none", "decoder_norm"])
def test_sums_of_bfloat16_activations_are_float32(weighting):
    """Also where the weights are narrow, not only the activations (`test_contract.py`)."""
    sae, x, output = prepared(torch.bfloat16)
    assert L1(weighting=weighting)(sae, output, x).dtype == torch.float32


@pytest.mark.parametrize("coefficients", [{"reconstruction": 1.0}, {"reconstruction": 1.0, "sparsity": 1.0, "sparcity": 1.0}])
def test_coefficients_and_terms_must_agree(coefficients):
    sae, x, output = prepared()
    with pytest.raises(ValueError, match="one coefficient for each term"):
        Objective(TERMS)(sae, output, x, coefficients)
    with pytest.raises(ValueError, match="one coefficient for each term"):
        Objective(TERMS).per_row(sae, output, x, coefficients)


def test_an_objective_needs_a_term():
    with pytest.raises(ValueError, match="at least one term"):
        Objective({})


@pytest.mark.parametrize("forward", ["forward_train", "forward_train_sparse"])
def test_the_decoder_s_norms_are_computed_once_for_all_terms(forward):
    sae, x, _ = prepared()
    terms = {"mse": SquaredError(), "tanh": Tanh(), "l1": L1(weighting="frozen_decoder_norm"), "pre_act": PreActivation()}
    dead = torch.arange(sae.d_sae) % 2 == 0
    objective = Objective(terms | {"of_dead": PreActivation(dead_only=True), "lp": Lp(p=0.5, weighting="decoder_norm")})
    output = getattr(sae, forward)(x)
    with Norms() as norms:
        objective(sae, output, x, dict.fromkeys(objective.terms, 1.0), StepInfo(dead=dead))
    assert norms.shapes.count((sae.d_sae, sae.d_out)) == 1


class Norms(TorchDispatchMode):
    """Notes what norms are taken of."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.linalg_vector_norm.default:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))
