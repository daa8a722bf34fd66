import numpy as np
import pytest
import torch

from sae.architectures.directions import active_subspace
from sae.architectures.initialise import initialise_
from sae.architectures.initialise_biases import (
    b_dec_start,
    b_enc_start,
    initialise_b_dec_,
    initialise_b_enc_,
    starting_firing_rate,
)
from sae.architectures.matching_pursuit import MatchingPursuitSAE
from sae.architectures.relu import ReLUSAE
from sae.architectures.transcoder import TranscoderSAE
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


# -- more ways to start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "factor"), [(0.25, 0.25), (3, 3.0), ("d_in/d_sae", 0.5)])
def test_a_tied_start_can_be_scaled(scale, factor):
    sae = started(encoder_scale=scale, decoder_norm=0.3)
    torch.testing.assert_close(sae.W_enc.detach(), factor * sae.W_dec.detach().T, rtol=1e-6, atol=0)


def test_uniform_entries_of_january_2025():
    sae = started(decoder_norm=None, directions="uniform", encoder_scale="d_in/d_sae")
    W_dec, bound = sae.W_dec.detach(), 48**-0.5
    assert 0.99 * bound < W_dec.abs().max() <= bound
    assert W_dec.std() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert W_dec.mean().abs() < 0.005
    assert W_dec.norm(dim=1).mean() == pytest.approx(3**-0.5, rel=0.02)
    assert torch.equal(sae.W_enc, sae.W_dec.T * 0.5)


def test_directions_are_rows_less_their_mean_each_once():
    rows = ramp(200, 48, dtype=torch.float32) + 3
    sae = started(directions="data", rows=rows, decoder_norm=0.5)
    centred = torch.nn.functional.normalize(rows.double() - rows.double().mean(dim=0), dim=1)
    cosines = sae.W_dec.detach().double() / 0.5 @ centred.T
    best, row = cosines.max(dim=1)
    assert (best - 1).abs().max() < 1e-6
    assert len(row.unique()) == 96
    assert not torch.equal(row, row.sort().values)
    assert torch.equal(sae.W_enc, sae.W_dec.T)


def test_too_few_different_rows_are_mixed():
    """30 different rows, each thrice, and the mean itself, which has no direction: 96 latents, none like another."""
    base = ramp(30, 48, dtype=torch.float32)
    base[:, 0] = torch.arange(30) - 14.5  # so that the mean is exact
    base[:, 1:] = torch.cat([base[:15, 1:], -base[:15, 1:].flip(0)])
    rows = torch.cat([base, base, base, torch.zeros(1, 48)])
    sae = started(directions="data", rows=rows)
    centred = torch.nn.functional.normalize(base.double() - base.double().mean(dim=0), dim=1)
    W_dec = sae.W_dec.detach().double()
    close = (W_dec @ centred.T).max(dim=1).values > 1 - 1e-6
    assert close.sum() >= 30
    assert (W_dec.norm(dim=1) - 1).abs().max() < 1e-6
    cosines = (W_dec @ W_dec.T).fill_diagonal_(0)
    assert cosines.max() < 1 - 1e-4
    span = torch.linalg.svd(centred, full_matrices=False).Vh[:30]
    outside = W_dec - W_dec @ span.T @ span
    assert outside.norm(dim=1)[~close].max() < 1e-5


def low_rank(rank=7, noise=0.0):
    """Rows in a plane of 7 dimensions away from the origin, with variances that fall by 4 from one direction to the next."""
    basis = torch.linalg.qr(ramp(48, 48, phase=1.0)).Q[:rank]
    weights = torch.randn(4000, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = (weights * 2.0 ** -torch.arange(rank)) @ basis + 5
    return basis, rows + noise * torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_the_active_subspace_is_the_span_of_the_leading_directions():
    basis, rows = low_rank()
    for share, count in ((1.0, 7), (0.99, 4), (0.9, 2), (0.5, 1)):  # shares held: 0.750, 0.938, 0.985, 0.996, ...
        found = active_subspace(rows, share)
        assert found.shape == (count, 48)
        torch.testing.assert_close(found @ found.T, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-10)
        centred = rows - rows.mean(dim=0)
        held = (centred @ found.T).square().sum() / centred.square().sum()
        assert held >= share - 1e-9
        fewer = (centred @ found[:-1].T).square().sum() / centred.square().sum()
        assert fewer < share
        assert (found - found @ basis.T @ basis).norm() < 1e-9
        _, _, right = torch.linalg.svd(centred, full_matrices=False)
        torch.testing.assert_close(found.T @ found, right[:count].T @ right[:count], rtol=0, atol=1e-9)


def test_directions_lie_in_the_active_subspace_and_fill_it():
    _, rows = low_rank(noise=1e-3)
    sae = started(directions="active_subspace", rows=rows.float(), variance_share=0.99, decoder_norm=0.1)
    W_dec, plane = sae.W_dec.detach().double(), active_subspace(rows, 0.99)
    assert (W_dec - W_dec @ plane.T @ plane).norm(dim=1).max() < 1e-5
    assert (W_dec.norm(dim=1) - 0.1).abs().max() < 1e-6
    spread = torch.linalg.svdvals(W_dec @ plane.T)  # no direction of the plane is preferred
    assert spread[-1] > 0.6 * spread[0]
    assert len(spread) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tied": False},
        {"directions": "uniform", "decoder_norm": None},
        {"directions": "data", "rows": ramp(150, 48)},
        {"directions": "data", "rows": ramp(50, 48)},
        {"directions": "active_subspace", "rows": ramp(150, 48)},
    ],
    ids=["random", "untied", "uniform", "data", "few_data", "active_subspace"],
)
def test_the_generator_alone_decides(settings):
    first, same, other = (started(seed, **settings) for seed in (1, 1, 2))
    assert torch.equal(first.W_dec, same.W_dec)
    assert torch.equal(first.W_enc, same.W_enc)
    assert not torch.equal(first.W_dec, other.W_dec)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"decoder_norm": None}, "decoder_norm must be positive"),
        ({"directions": "uniform"}, "decoder_norm must be null where directions=uniform"),
        ({"encoder_scale": 0.0}, "encoder_scale must be positive and finite, got 0.0"),
        ({"encoder_scale": 0.5, "tied": False}, "encoder_scale belongs to a tied start"),
        ({"directions": "data"}, "directions=data needs activations to start from, got none"),
        ({"directions": "data", "rows": torch.zeros(0, 48)}, "directions=data needs activations to start from, got none"),
        ({"directions": "data", "rows": torch.ones(9, 47)}, "of the target's width 48, got 47"),
        ({"directions": "data", "rows": torch.ones(9, 48)}, "all 9 activations are equal"),
        ({"directions": "active_subspace", "rows": torch.ones(9, 48)}, "all 9 activations are equal"),
        ({"variance_share": 0.0}, "variance_share must be above 0 and at most 1, got 0.0"),
    ],
)
def test_starts_that_cannot_be_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        started(**settings)


def test_a_start_for_a_target_of_another_width():
    sae, rows = TranscoderSAE(d_in=6, d_out=10, d_sae=40, activation="relu", k=None), ramp(60, 10, dtype=torch.float32)
    start = {"decoder_norm": 1.0, "generator": torch.Generator().manual_seed(0)}
    with pytest.raises(UserError, match=r"d_in 6, d_out 10\): set tied_init=false"):
        initialise_(sae, tied=True, **start)
    initialise_(sae, tied=False, directions="data", rows=rows, **start)
    assert (sae.W_dec.norm(dim=1) - 1).abs().max() < 1e-6
    assert 0.9 < sae.W_enc.abs().max() <= 1.0


def test_an_encoder_that_follows_the_decoder_is_left_to_it():
    sae = MatchingPursuitSAE(d_in=6, d_sae=20, k=2)
    initialise_(sae, decoder_norm=1.0, tied=True, generator=torch.Generator().manual_seed(0))
    assert (sae.W_dec.norm(dim=1) - 1).abs().max() < 1e-6
    initialise_b_enc_(sae, ramp(30, 6, dtype=torch.float32), "zero")
    with pytest.raises(UserError, match="a MatchingPursuitSAE has no encoder bias; set b_enc_init=zero"):
        initialise_b_enc_(sae, ramp(30, 6, dtype=torch.float32), "firing_rate")


# -- the encoder's bias ------------------------------------------------------------------------------------------------


def test_the_share_of_tokens_of_january_2025():
    assert [starting_firing_rate(width) for width in (2048, 200_000, 1_000_000)] == [0.05, 0.05, 0.01]


@pytest.mark.parametrize("input_bias", [True, False])
@pytest.mark.parametrize(("rate", "fire"), [(None, 10), (0.1, 20), (1e-6, 1), (0.999, 199)])
def test_each_latent_fires_on_its_share_of_the_rows(rate, fire, input_bias):
    """200 rows; 5 % are 10 of them. At least one row and not all. With a threshold of its own for each latent."""
    rows = 3 * ramp(200, 48, dtype=torch.float32) + 1
    sae = ReLUSAE(d_in=48, d_sae=96, apply_b_dec_to_input=input_bias)
    initialise_(sae, decoder_norm=1.0, tied=True, generator=torch.Generator().manual_seed(0))
    initialise_b_dec_(sae, rows, "mean")
    for threshold in (0.0, 0.7, torch.linspace(0.1, 2, 96)):
        initialise_b_enc_(sae, rows, "firing_rate", threshold=threshold, rate=rate)
        fires = sae.encode_with_pre_acts(rows)[1] > threshold
        assert set(fires.sum(dim=0).tolist()) == {fire}
    initialise_b_enc_(sae, rows, "zero")
    assert sae.b_enc.count_nonzero() == 0


def test_the_bias_is_half_way_between_two_rows(monkeypatch):
    """Against sorting each column, and in pieces of a few latents at a time."""
    inputs, W_enc, threshold = ramp(41, 6), ramp(6, 13, phase=1.0), torch.linspace(0.1, 2, 13, dtype=torch.float64)
    values = np.sort(inputs.numpy() @ W_enc.numpy(), axis=0)[::-1]
    expected = threshold.numpy() - (values[3] + values[4]) / 2  # a tenth of 41 rows are 4: between the fourth and the fifth
    for held in (2**25, 3 * 41, 1):
        monkeypatch.setattr("sae.architectures.initialise_biases._CHUNK_PRE_ACTS", held)
        found = b_enc_start(inputs, W_enc, threshold=threshold, rate=0.1)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "rate", "says"), [(1, 0.1, "at least two"), (9, 0.0, "between 0 and 1"), (9, 1, "between")])
def test_rates_that_cannot_be_are_refused(rows, rate, says):
    with pytest.raises(UserError, match=says):
        b_enc_start(ramp(rows, 6), ramp(6, 13), threshold=0.0, rate=rate)
