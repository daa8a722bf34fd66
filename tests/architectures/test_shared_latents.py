"""Latents of a crosscoder with one decoder direction for all parts: trained as one parameter would be, at a smaller penalty."""

import numpy as np
import pytest
import torch

from sae.architectures.crosscoder import CrosscoderSAE
from sae.losses.sparsity import L1
from sae.training.kernels import KernelSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from tests.cases import ramp
from tests.reference import saes as twin
from tests.training.nodes import OTHER, POINT, learner_of, one_step

WIDTH, D_SAE, SHARED = 5, 20, 6
ROWS, STEPS = 30, 8
PLAIN = {"scaling": "none", "centring": "none", "clip_norm": None, "lr": 0.01, "l1_coefficient": 0.5, "l1_warmup": 0.0}


def started(*, kernels="dense", **changes):
    """A learner of six shared latents in float64, begun on rows of two parts."""
    settings = {**PLAIN, "shared_fraction": SHARED / D_SAE, "l1_shared_ratio": 0.15, **changes}
    learner = learner_of(
        "crosscoder",
        d_in=WIDTH,
        d_sae=D_SAE,
        budget=Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS),
        kernels=KernelSettings(kernels=kernels),
        **settings,
    ).to(torch.float64)
    learner.start_from(rows(400))
    return learner


def rows(count, phase=0.0):
    return {point: 3 * ramp(count, WIDTH, phase=phase + number) for number, point in enumerate((POINT, OTHER))}


def parts(sae):
    return sae.W_dec.detach()[:SHARED].split(WIDTH, dim=1)


def test_they_start_with_one_direction_and_the_norm_that_all_have():
    sae = started(decoder_norm=0.3).sae
    assert isinstance(sae, CrosscoderSAE)
    assert sae.shared_latents == SHARED
    assert torch.equal(*parts(sae))
    assert not torch.allclose(*sae.W_dec.detach()[SHARED:].split(WIDTH, dim=1))
    np.testing.assert_allclose(sae.W_dec.detach().norm(dim=1), 0.3, rtol=1e-6)
    assert torch.equal(sae.W_enc, sae.W_dec.T)


@pytest.mark.parametrize("kernels", ["dense", "sparse"])
def test_steps_are_those_of_one_parameter_for_all_parts(kernels):
    """In plain autograd and torch's Adam, whose eps is so small that it is blind to the gradient's size."""
    learner = started(kernels=kernels)
    settings = OptimizerSettings(betas=(0.9, 0.99), eps=1e-25)
    optimizer = learner.build_optimizer(settings)
    own = {name: value.detach().clone() for name, value in learner.sae.named_parameters()}
    shared, others = own["W_dec"][:SHARED, :WIDTH].clone(), own["W_dec"][SHARED:].clone()
    W_enc, b_enc, b_dec = own["W_enc"], own["b_enc"], own["b_dec"]
    theirs = [tensor.requires_grad_() for tensor in (shared, others, W_enc, b_enc, b_dec)]
    adam = torch.optim.Adam(theirs, lr=0.01, betas=(0.9, 0.99), eps=1e-25)
    for step in range(STEPS):
        values = rows(ROWS, phase=7.0 * step)
        x = torch.cat([values[POINT], values[OTHER]], dim=1)
        acts = torch.relu(x @ W_enc + b_enc)
        recon = acts @ torch.cat([torch.cat([shared, shared], dim=1), others]) + b_dec
        lengths = sum(part.norm(dim=1) for part in others.split(WIDTH, dim=1))
        penalty = acts @ torch.cat([0.15 * shared.norm(dim=1), lengths])
        loss = ((recon - x).square().sum(dim=1) + 0.5 * penalty).mean()
        found = one_step(learner, optimizer, values, step)
        assert found == pytest.approx(float(loss.detach()), rel=1e-10)
        loss.backward()
        adam.param_groups[0]["lr"] = learner.course.learning_rate_at(step)
        adam.step()
        adam.zero_grad()
        assert torch.equal(*parts(learner.sae))
    np.testing.assert_allclose(parts(learner.sae)[0], shared.detach(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(learner.sae.W_dec.detach()[SHARED:], others.detach(), rtol=1e-8, atol=1e-10)
    assert not torch.allclose(parts(learner.sae)[0], own["W_dec"].detach()[:SHARED, :WIDTH], atol=1e-3)


def test_the_penalty_and_its_gradient_are_those_of_the_twin():
    sae = CrosscoderSAE(widths=(WIDTH, WIDTH), d_sae=D_SAE, shared_fraction=SHARED / D_SAE).double()
    with torch.no_grad():
        for number, parameter in enumerate(sae.parameters()):
            parameter.copy_(ramp(*parameter.shape, phase=number))
    sae.tie_decoder_()
    x = 2 * ramp(9, 2 * WIDTH, phase=0.3)
    term = L1(weighting="part_norms", shared_ratio=0.15)
    term.check(sae)
    found = term(sae, sae(x), x)

    def whole(p):
        acts = [twin.relu(twin.pre_activations(p, row, subtract=False)) for row in x.numpy()]
        return twin.l1(acts, twin.weights(p, "part_norms", (WIDTH, WIDTH), shared=SHARED, ratio=0.15))

    p = {name: value.detach().numpy().copy() for name, value in sae.named_parameters()}
    np.testing.assert_allclose(found.detach().numpy(), np.real(whole(p)), rtol=1e-10)
    expected = twin.complex_step(lambda q: whole(q).mean(), p)
    gradients = torch.autograd.grad(found.mean(), list(sae.parameters()), allow_unused=True, materialize_grads=True)
    for (name, _), gradient in zip(sae.named_parameters(), gradients, strict=True):
        np.testing.assert_allclose(gradient.numpy(), expected[name], rtol=1e-10, atol=1e-10, err_msg=name)
    assert gradients[0].any()


def test_an_optimizer_that_tells_parts_apart_moves_them_by_its_mean():
    """Muon, on the update as it leaves the optimizer; in what order the parts lie says nothing."""
    learner = started(scaling="variance", centring="mean")
    optimizer = learner.build_optimizer(OptimizerSettings(name="muon"))
    learner.loss(rows(ROWS), 0, measure=False).backward()
    learner.before_update(optimizer, measure=False)
    optimizer.step()
    updated = [part.clone() for part in parts(learner.sae)]
    assert not torch.allclose(*updated, atol=1e-3)
    learner.after_update(ROWS, 0, optimizer)
    for part in parts(learner.sae):
        torch.testing.assert_close(part, (updated[0] + updated[1]) / 2, rtol=1e-12, atol=1e-12)


def test_parts_that_are_equal_stay_what_they_are():
    """To the bit, of three too, of which a sum is rounded."""
    sae = CrosscoderSAE(widths=(WIDTH,) * 3, d_sae=D_SAE, shared_fraction=SHARED / D_SAE)
    with torch.no_grad():
        sae.W_dec.copy_(ramp(D_SAE, WIDTH, dtype=torch.float32).repeat(1, 3))
    before = sae.W_dec.detach().clone()
    sae.tie_decoder_()
    assert torch.equal(sae.W_dec, before)


def test_resampled_they_point_to_the_mean_of_a_row_s_parts():
    """Of unit length, and read where they write."""
    learner = started(resample_at=(0.5,), resample_pool_rows=50)
    optimizer = learner.build_optimizer(OptimizerSettings())
    one_step(learner, optimizer, rows(ROWS), 0)
    learner.dead.rows_since_fired.fill_(10**9)
    assert learner.resample(rows(200), optimizer, 1) == D_SAE
    sae = learner.sae
    assert torch.equal(*parts(sae))
    W_dec, W_enc = sae.W_dec.detach(), torch.nn.functional.normalize(sae.W_enc.detach(), dim=0)
    torch.testing.assert_close(W_dec.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))
    torch.testing.assert_close(W_enc.T, W_dec)
    x = learner.input_space(rows(200)) - sae.b_dec.detach()
    means = torch.nn.functional.normalize(sum(x.split(WIDTH, dim=1)), dim=1)
    cosines = 2**0.5 * parts(sae)[0] @ means.T
    torch.testing.assert_close(cosines.max(dim=1).values, torch.ones(SHARED, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"widths": (4, 5), "shared_fraction": 0.5}, r"need parts of one width, got \[4, 5\]"),
        ({"shared_fraction": 1.0}, "at least 0 and below 1, got 1.0"),
        ({"shared_fraction": 0.05}, r"shared_fraction=0.05 of 8 latents is none: set it to 0.12 or more, or to 0"),
        ({"shared_fraction": -0.1}, "at least 0 and below 1, got -0.1"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        CrosscoderSAE(**{"widths": (4, 4), "d_sae": 8, **settings})


def test_a_ratio_for_shared_latents_needs_some():
    apart, shared = (CrosscoderSAE(widths=(4, 4), d_sae=8, shared_fraction=fraction) for fraction in (0.0, 0.5))
    with pytest.raises(ValueError, match="is for a crosscoder with shared latents"):
        L1(weighting="part_norms", shared_ratio=0.1).check(apart)
    with pytest.raises(ValueError, match="is for a crosscoder with shared latents"):
        L1(weighting="decoder_norm", shared_ratio=0.1).check(shared)
    with pytest.raises(ValueError, match="l1_shared_ratio must be positive"):
        L1(weighting="part_norms", shared_ratio=0.0)
    L1(weighting="part_norms", shared_ratio=0.1).check(shared)
