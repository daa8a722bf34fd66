"""What the contract does not ask of sparse coding: its coefficient, its tolerance, and rows that do not see each other."""

import pytest
import torch

import sae as library
from sae.architectures.sparse_coding import SparseCodingSAE
from sae.functional.code_gradient import with_gradient
from sae.functional.lasso import code_certificate
from sae.functional.sparse_coding import CodingSettings, sparse_code
from tests.cases import ramp
from tests.reference.sparse_coding import objective


def dictionary(d_sae=60, d_in=24, *, dtype=torch.float32, **settings):
    generator = torch.Generator().manual_seed(1)
    built = SparseCodingSAE(d_in=d_in, d_sae=d_sae, **{"l1_coefficient": 0.3, **settings}).to(dtype)
    with torch.no_grad():
        built.W_dec.copy_(torch.randn(d_sae, d_in, generator=generator))
        built.b_dec.copy_(torch.randn(d_in, generator=generator))
    return built, 2 * torch.randn(50, d_in, generator=generator).to(dtype)


def test_the_objective_counts_what_a_latent_adds_and_no_code_nearby_is_better():
    """The class's formula, by the twin, beside single activations moved up and down."""
    built, rows = dictionary(dtype=torch.float64, tolerance=1e-12)
    norms = built.W_dec.norm(dim=1).detach()
    unit = (built.W_dec / norms[:, None]).detach().numpy()

    def cost(row, code):
        return objective((row - built.b_dec).detach().numpy(), unit, (code * norms).numpy(), 0.3)

    for row in rows[:3]:
        code = built.encode(row).detach()
        least = cost(row, code)
        for latent in range(60):
            for step in (1e-3, -1e-3):
                moved = code.clone()
                moved[latent] = (moved[latent] + step).clamp(min=0)
                assert cost(row, moved) >= least - 1e-12


def test_rows_in_other_company_are_as_good_to_the_tolerance():
    """In float32 the last bits depend on the batch, the certificate does not."""
    built, rows = dictionary(tolerance=1e-5)
    unit = (built.W_dec / built.W_dec.norm(dim=1, keepdim=True)).detach()
    together = built.encode(rows).detach()
    alone = torch.cat([built.encode(row[None]) for row in rows]).detach()
    for codes in (together, alone):
        reached = code_certificate(rows - built.b_dec, unit, codes * built.W_dec.norm(dim=1).detach(), 0.3)
        assert bool(reached.within(2e-5).all())  # half of it is float32's own
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-3)
    assert torch.equal(built.encode(rows), built.encode(rows))


def test_gradients_are_there_where_they_are_asked_for_and_change_no_value():
    built, rows = dictionary()
    with torch.no_grad():
        plain = built.encode(rows)
    assert not plain.requires_grad
    assert torch.equal(built.encode(rows), plain)
    built.requires_grad_(False)
    assert not built.encode(rows).requires_grad
    moving = rows.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(built.encode(moving)[:, 7].sum(), moving)
    assert gradient[(plain[:, 7] > 0)].abs().sum(dim=1).min() > 0
    assert not gradient[plain[:, 7] == 0].any()


def test_the_gradient_of_a_code_is_its_finite_difference():
    """Of rows and atoms that are not of unit norm too, which `with_gradient` allows."""
    atoms, rows = ramp(11, 6), 2 * ramp(5, 6, phase=1.0)
    settings = CodingSettings(tolerance=1e-13)

    def codes(x, d):
        return with_gradient(sparse_code(x, d, 0.1, settings=settings).acts, x, d).to_dense()

    assert 5 < int((codes(rows, atoms) > 0).sum()) < 40
    assert torch.autograd.gradcheck(codes, (rows.requires_grad_(), atoms.requires_grad_()), eps=1e-7, atol=1e-5)


def test_twins_among_the_atoms_have_a_finite_gradient():
    atoms, rows = ramp(4, 6), ramp(3, 6, phase=1.0).requires_grad_()
    doubled = torch.cat([atoms, atoms])
    (gradient,) = torch.autograd.grad(with_gradient(sparse_code(rows, doubled, 0.01).acts, rows, doubled).values.sum(), rows)
    assert bool(gradient.isfinite().all())


def test_codes_of_rows_near_others_begin_at_those(monkeypatch):
    """Within the tolerance those of the rows alone, in units of unequal atoms; from a row's own code little is left to do."""
    sae, x = dictionary(tolerance=1e-6)
    codes = sae.encode_sparse(x).map(torch.detach)
    asked = []

    def noted(*given, **named):
        asked.append(sparse_code(*given, **named))
        return asked[-1]

    monkeypatch.setattr("sae.architectures.sparse_coding.sparse_code", noted)
    near = sae.encode_sparse_near(x + 0.01, codes, torch.arange(50))
    torch.testing.assert_close(near.to_dense(), sae.encode_sparse(x + 0.01).to_dense().detach(), rtol=0, atol=2e-2)
    sae.encode_sparse_near(x, codes, torch.arange(50))
    near_rounds, cold_rounds, own_rounds = (int(one.iterations.sum()) for one in asked)
    assert own_rounds < near_rounds < cold_rounds


def test_no_rows_and_rows_without_code():
    built, rows = dictionary(l1_coefficient=1e4)
    assert built(rows[:0]).recon.shape == (0, 24)
    silent = rows.clone().requires_grad_()
    output = built.forward_sparse(silent)
    assert output.latent_acts.values.numel() == 0
    assert torch.equal(output.recon, built.b_dec.expand(50, -1))
    (gradient,) = torch.autograd.grad(output.recon.sum(), silent)
    assert not gradient.any()


def test_the_coefficient_follows_the_units_and_is_saved(tmp_path):
    built, _ = dictionary()
    built.fold_scale_(4.0)
    assert built.l1_coefficient == 0.3 / 4
    library.save(built, tmp_path / "one")
    assert library.load(tmp_path / "one").l1_coefficient == 0.3 / 4


@pytest.mark.parametrize("wrong", [{"l1_coefficient": 0.0}, {"l1_coefficient": float("nan")}, {"tolerance": -1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be above 0 and finite"):
        SparseCodingSAE(d_in=3, d_sae=4, **{"l1_coefficient": 0.1, **wrong})


def test_a_shortlist_s_codes_are_those_of_atoms_of_unit_norm_in_other_units():
    """Near codes are brought to the units of unit atoms before they say what is left of a row."""
    sae, x = dictionary(dtype=torch.float64, tolerance=1e-10)
    norms = sae.W_dec.detach().norm(dim=1)
    unit, _ = dictionary(dtype=torch.float64, tolerance=1e-10)
    unit.scale_latents_(norms)
    moved, of = x + 0.5 * x.roll(1, dims=0), torch.arange(50)
    own, others = (
        one.encode_sparse_near(moved, one.encode_sparse(x).map(torch.detach), of, shortlist=20).to_dense()
        for one in (sae, unit)
    )
    assert not torch.allclose(others, unit.encode_sparse(moved).to_dense(), atol=1e-3), "the shortlists hold all that is used"
    torch.testing.assert_close(own * norms, others, rtol=0, atol=1e-9)
