import pytest
import torch

from sae.architectures.initialise import b_dec_start, initialise_, initialise_b_dec_
from sae.architectures.relu import ReLUSAE
from sae.errors import UserError
from sae.functional.geometry import geometric_median
from tests.cases import ramp


def started(seed=0, dtype=torch.float32, **settings):
    sae = ReLUSAE(d_in=48, d_sae=96).to(dtype)
    for parameter in sae.parameters():
        torch.nn.init.constant_(parameter, 7)
    initialise_(sae, **({"decoder_norm": 1.0, "tied": True} | settings), generator=torch.Generator().manual_seed(seed))
    return sae


@pytest.mark.parametrize("norm", [1.0, 0.1])
def test_decoder_rows_have_the_norm_and_no_preferred_direction(norm):
    sae = started(decoder_norm=norm)
    assert (sae.W_dec.norm(dim=1) - norm).abs().max() < 1e-6
    cosines = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    cosines = (cosines @ cosines.T)[~torch.eye(96, dtype=torch.bool)]
    assert cosines.mean().abs() < 0.01
    assert cosines.std() == pytest.approx(48**-0.5, rel=0.1)


def test_tied_start_is_the_transpose_but_not_the_same_memory():
    sae = started(decoder_norm=0.1)
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    with torch.no_grad():
        sae.W_dec.zero_()
    assert sae.W_enc.count_nonzero() == sae.W_enc.numel()


def test_untied_start_is_kaiming_uniform():
    sae = started(tied=False)
    bound = (6 / 48) ** 0.5
    W_enc = sae.W_enc.detach()
    assert 0.99 * bound < W_enc.abs().max() <= bound
    assert W_enc.std() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert W_enc.mean().abs() < 0.01


def test_biases_are_zero_and_seeds_decide():
    first, same, other = started(1), started(1), started(2)
    assert first.b_enc.count_nonzero() == first.b_dec.count_nonzero() == 0
    assert torch.equal(first.W_dec, same.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)


def test_the_start_is_the_same_in_any_type():
    torch.testing.assert_close(started(dtype=torch.float64).W_dec.float(), started().W_dec, rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_norms_are_refused(norm):
    with pytest.raises(ValueError, match="decoder_norm"):
        started(decoder_norm=norm)


def test_b_dec_from_rows():
    sae, rows = started(), ramp(30, 48, dtype=torch.float32) + 3
    for mode, expected in (("zero", torch.zeros(48)), ("mean", rows.mean(dim=0)), ("geometric_median", geometric_median(rows))):
        initialise_b_dec_(sae, rows, mode)
        torch.testing.assert_close(sae.b_dec.detach(), expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(geometric_median(rows), rows.mean(dim=0), atol=1e-3)


@pytest.mark.parametrize("mode", ["mean", "geometric_median"])
def test_b_dec_of_no_rows(mode):
    with pytest.raises(UserError, match="at least one row"):
        b_dec_start(torch.zeros(0, 4), mode)
    assert torch.equal(b_dec_start(torch.zeros(0, 4), "zero"), torch.zeros(4))
