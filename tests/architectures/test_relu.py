"""The ReLU SAE against its twin, worked examples, and a dictionary that was planted."""

import numpy as np
import pytest
import torch

from sae.architectures.initialise import initialise_
from sae.architectures.output import SAEOutput
from sae.architectures.relu import ReLUSAE
from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.matching import matched_cosine, mean_max_cosine
from sae.functional.streaming import fraction_of_variance_unexplained, moments, squared_residual
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from tests.cases import D_IN, D_SAE, Case, build, rows_for
from tests.reference.dictionaries import planted_atoms, planted_rows
from tests.reference.relu_sae import Weights, forward_and_gradients
from tests.reference.worked_examples import (
    AUTOENCODER_ACTIVATIONS,
    AUTOENCODER_GRADIENT,
    AUTOENCODER_LAYERS,
    AUTOENCODER_MEAN_SQUARED_ERROR,
    AUTOENCODER_SQUARED_ERROR,
    AUTOENCODER_X,
    SAE_EXERCISES,
)

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


def column_matrix(values):
    """Paper's columns as the package's rows."""
    return torch.tensor(values, dtype=torch.float64).T.contiguous()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighting", ["none", "decoder_norm"])
@pytest.mark.parametrize("input_bias", [True, False])
def test_values_and_gradients_equal_the_twin(input_bias, weighting, sparse):
    sae = build(Case("", "relu", {"apply_b_dec_to_input": input_bias}))
    x = rows_for(sae)
    weights = Weights(*(getattr(sae, name).detach().numpy() for name in NAMES))
    expected = forward_and_gradients(x.numpy(), weights, input_bias=input_bias, coefficient=0.37, weighting=weighting)
    output = sae.forward_sparse(x) if sparse else sae(x)
    objective = Objective({"reconstruction": SquaredError(), "sparsity": L1(weighting=weighting)})
    loss = objective(sae, output, x, {"reconstruction": 1.0, "sparsity": 0.37})
    loss.total.backward()
    np.testing.assert_allclose(output.recon.detach().numpy(), expected.recon, rtol=0, atol=1e-10)
    np.testing.assert_allclose(sae.encode(x).detach().numpy(), expected.latent_acts, rtol=0, atol=1e-10)
    assert float(loss.parts["reconstruction"]) == pytest.approx(expected.squared_error, abs=1e-10)
    assert float(loss.parts["sparsity"]) == pytest.approx(expected.l1, abs=1e-10)
    assert float(loss.total.detach()) == pytest.approx(expected.squared_error + 0.37 * expected.l1, abs=1e-10)
    for name in NAMES:
        found = getattr(sae, name).grad.numpy()
        np.testing.assert_allclose(found, getattr(expected.gradients, name), rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("input_bias", [True, False])
def test_scaling_equivariance(input_bias):
    """Biases and inputs times s: everything times s, and a unit-norm decoder's squared error times s squared."""
    sae = build(Case("", "relu", {"apply_b_dec_to_input": input_bias}))
    x = rows_for(sae)
    before = sae(x)
    with torch.no_grad():
        sae.b_enc.mul_(7)
        sae.b_dec.mul_(7)
    after = sae(7 * x)
    torch.testing.assert_close(after.latent_acts, 7 * before.latent_acts, rtol=1e-12, atol=1e-12)
    error = SquaredError()
    torch.testing.assert_close(error(sae, after, 7 * x), 49 * error(sae, before, x), rtol=1e-12, atol=1e-12)


def test_fresh_parameters_are_zero_and_reconstruct_the_bias():
    sae = ReLUSAE(d_in=D_IN, d_sae=D_SAE)
    assert all(parameter.count_nonzero() == 0 for parameter in sae.parameters())
    assert sae.apply_b_dec_to_input, "the recipe of Towards Monosemanticity is the default"


def test_yeh_autoencoder_is_exact():
    x = column_matrix(AUTOENCODER_X)
    activations = x
    for (weight, bias), expected in zip(AUTOENCODER_LAYERS, AUTOENCODER_ACTIVATIONS, strict=True):
        weight, bias = torch.tensor(weight, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64)
        layer = ReLUSAE(d_in=weight.shape[1], d_sae=weight.shape[0], apply_b_dec_to_input=False).double()
        layer.load_state_dict({**layer.state_dict(), "W_enc": weight.T, "b_enc": bias})
        activations = layer.encode(activations)
        assert torch.equal(activations, column_matrix(expected))
    recon = activations.detach().requires_grad_()
    output = SAEOutput(recon, recon, recon)  # only the reconstruction matters
    assert float(SquaredError()(layer, output, x).sum().detach()) == AUTOENCODER_SQUARED_ERROR
    mean = Objective({"mse": SquaredError()}, reduction="mean")(layer, output, x, {"mse": 1.0})
    assert float(mean.total.detach()) == AUTOENCODER_MEAN_SQUARED_ERROR
    (gradient,) = torch.autograd.grad(SquaredError()(layer, output, x).sum(), recon)
    assert torch.equal(gradient, column_matrix(AUTOENCODER_GRADIENT))


@pytest.mark.parametrize("exercise", SAE_EXERCISES)
def test_sae_exercise_is_exact(exercise):
    x = column_matrix(exercise.X)
    rows = len(x)
    sae = ReLUSAE(d_in=3, d_sae=6, apply_b_dec_to_input=False).double()
    sae.load_state_dict(
        {
            "W_enc": column_matrix(exercise.W_e),
            "b_enc": torch.tensor(exercise.b_e, dtype=torch.float64),
            "W_dec": column_matrix(exercise.W_d),
            "b_dec": torch.tensor(exercise.b_d, dtype=torch.float64),
        }
    )
    output = sae(x)
    output.latent_acts.retain_grad()
    output.recon.retain_grad()
    assert torch.equal(output.pre_acts, column_matrix(exercise.pre_acts))
    assert torch.equal(output.recon, column_matrix(exercise.recon))
    assert torch.equal(torch.linalg.vector_norm(sae.W_dec, dim=1), torch.tensor(exercise.decoder_norms, dtype=torch.float64))
    assert float(L1()(sae, output, x).sum().detach()) == exercise.l1
    assert float((output.latent_acts > 0).sum(dim=1).double().mean()) == exercise.l0
    fvu = fraction_of_variance_unexplained(squared_residual(x, output.recon), moments(x))
    assert float(fvu) == pytest.approx(exercise.fvu[0] / exercise.fvu[1], rel=1e-15)

    objective = Objective({"reconstruction": SquaredError(), "sparsity": L1(weighting="decoder_norm")})
    loss = objective(sae, output, x, {"reconstruction": 1.0, "sparsity": 1.0})
    assert float(loss.parts["reconstruction"]) * rows == exercise.squared_error
    assert float(loss.parts["sparsity"]) * rows == pytest.approx(exercise.weighted_l1, rel=1e-15)

    # The exercise sums over examples where the objective averages.
    (sparsity,) = torch.autograd.grad(L1(weighting="decoder_norm")(sae, output, x).sum(), output.latent_acts, retain_graph=True)
    active = output.latent_acts > 0
    assert torch.equal(torch.where(active, -sparsity, 0), column_matrix(exercise.sparsity_update)), "update = -derivative"
    (loss.total * rows).backward()
    assert torch.equal(output.recon.grad, column_matrix(exercise.recon_gradient))
    for name, expected in (("W_enc", exercise.by_W_e), ("W_dec", exercise.by_W_d)):
        torch.testing.assert_close(getattr(sae, name).grad, column_matrix(expected), rtol=0, atol=1e-12)
    for name, expected in (("b_enc", exercise.by_b_e), ("b_dec", exercise.by_b_d)):
        torch.testing.assert_close(getattr(sae, name).grad, torch.tensor(expected).double(), rtol=0, atol=1e-12)


def test_a_planted_dictionary_is_recovered():
    """Twice as many atoms as dimensions, each in 2 % of rows at unit strength: the plain recipe finds all of them."""
    generator = torch.Generator().manual_seed(0)
    atoms = planted_atoms(64, 32, generator)
    sae = ReLUSAE(d_in=32, d_sae=64)
    initialise_(sae, decoder_norm=1.0, tied=True, generator=generator)
    objective = Objective({"reconstruction": SquaredError(), "sparsity": L1()})
    steps = 2000
    optimizer = torch.optim.Adam(sae.parameters(), lr=3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 5 * (1 - step / steps)))
    for _ in range(steps):
        x = planted_rows(atoms, 512, 0.02, generator)
        optimizer.zero_grad()
        objective(sae, sae(x), x, {"reconstruction": 1.0, "sparsity": 0.2}).total.backward()
        remove_parallel_(sae.W_dec.grad, sae.W_dec)
        optimizer.step()
        unit_rows_(sae.W_dec)
        schedule.step()
    found = sae.W_dec.detach()
    assert mean_max_cosine(found, atoms) >= 0.95
    assert mean_max_cosine(atoms, found) >= 0.95
    assert matched_cosine(found, atoms) >= 0.95
