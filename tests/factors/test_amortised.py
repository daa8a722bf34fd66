"""An encoder trained to sparse codes: exact where one product can be, nearer with every step where it cannot."""

import torch

from sae.architectures.sparse_coding import SparseCodingSAE
from sae.factors.amortised import RATE, STEP_ROWS, AmortisedEncoder


def dictionary(atoms, l1=0.4):
    built = SparseCodingSAE(d_in=atoms.shape[1], d_sae=len(atoms), l1_coefficient=l1).to(atoms.dtype)
    built.W_dec.data.copy_(atoms)
    return built


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_orthogonal_atoms_its_start_is_the_solution():
    atoms = torch.linalg.qr(normal(7, 7)).Q[:5]
    encoder, rows = AmortisedEncoder(dictionary(atoms), total_rows=1000), 2 * normal(100, 7, seed=1)
    codes = dictionary(atoms).encode(rows).detach()
    torch.testing.assert_close(encoder.sae.encode(rows).detach(), codes, rtol=0, atol=1e-6)
    assert encoder.step(rows) < 1e-12


def test_it_comes_nearer_to_the_codes_of_rows_that_it_has_not_seen_and_the_decoder_stays():
    atoms = torch.nn.functional.normalize(normal(40, 12), dim=1)
    exact, rows = dictionary(atoms), 2 * normal(300 * STEP_ROWS + 200, 12, seed=1)
    codes, held_out = exact.encode(rows[-200:]).detach(), rows[-200:]
    encoder = AmortisedEncoder(exact, total_rows=len(rows) - 200)

    def error():
        return float((encoder.sae.encode(held_out).detach() - codes).square().sum(dim=1).mean())

    before = error()
    for batch in rows[:-200].split(1000):
        encoder.step(batch)
    assert error() < 0.5 * before
    assert torch.equal(encoder.sae.W_dec, exact.W_dec)
    assert not encoder.sae.b_dec.any()


def test_a_step_is_adam_s_on_the_mean_squared_error_of_codes():
    """Its first step moves each number by the rate against the gradient's sign, the gradient written out."""
    atoms = torch.nn.functional.normalize(normal(9, 6), dim=1)
    exact, rows = dictionary(atoms), 2 * normal(STEP_ROWS, 6, seed=1)
    encoder = AmortisedEncoder(exact, total_rows=10 * STEP_ROWS)
    W_enc, b_enc = encoder.sae.W_enc.detach().clone(), encoder.sae.b_enc.detach().clone()
    codes = exact.encode(rows).detach()
    acts = (rows @ atoms.T - 0.4).clamp(min=0)
    slope = 2 * (acts - codes) * (acts > 0) / len(rows)
    assert abs(encoder.step(rows) - float((acts - codes).square().sum() / len(rows))) < 1e-9
    for moved, start, gradient in (
        (encoder.sae.W_enc, W_enc, rows.T @ slope),
        (encoder.sae.b_enc, b_enc, slope.sum(dim=0)),
    ):
        torch.testing.assert_close(moved.detach() - start, -RATE * gradient.sign(), rtol=1e-3, atol=1e-9)
