"""Shares of weaker firings against counting them one by one."""

import numpy as np
import pytest

from sae.dashboards.live.quantiles import MOST_POINTS, QUANTILES, ActivationQuantiles, order_statistics
from sae.errors import UserError

FIRED = (0, 1, 2, 99, 100, 101, 1, 1000, 0)


def firings(seed: int = 0) -> list[np.ndarray]:
    """Activations of each latent, some of them equal."""
    generator = np.random.default_rng(seed)
    return [generator.gamma(2, size=count).astype(np.float32).round(2) for count in FIRED]


def quantiles_of(values: list[np.ndarray]) -> ActivationQuantiles:
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in values])])
    fired, points = order_statistics(offsets, np.concatenate(values))
    return ActivationQuantiles(fired=fired, points=points)


def test_the_points_are_numpys_order_statistics():
    values = firings()
    quantiles = quantiles_of(values)
    assert quantiles.fired.tolist() == list(FIRED)
    for latent, own in enumerate(values):
        points = quantiles.points[quantiles.offsets[latent] : quantiles.offsets[latent + 1]]
        if len(own) <= MOST_POINTS:
            assert points.tolist() == sorted(own.tolist())
        else:
            ranks = [place * (len(own) - 1) // 99 for place in range(100)]
            assert points.tolist() == np.sort(own)[ranks].tolist()
            between = np.quantile(own, np.linspace(0, 1, 100), method="lower")
            np.testing.assert_allclose(points, between, atol=0.011)


def test_shares_are_exact_where_all_firings_are_points():
    values = firings()
    quantiles = quantiles_of(values)
    for latent, own in enumerate(values):
        if 0 < len(own) <= MOST_POINTS:
            asked = np.array([*own.tolist(), 0.0, 1e9])
            shares = quantiles.shares_weaker(np.full(len(asked), latent), asked)
            np.testing.assert_allclose(shares, [(own < np.float32(activation)).mean() for activation in asked])


def test_shares_of_many_firings_are_within_a_step():
    own = np.random.default_rng(1).gamma(2, size=4321).astype(np.float32)
    quantiles = quantiles_of([own])
    asked = np.linspace(-0.5, own.max() + 1, 500)
    shares = quantiles.shares_weaker(np.zeros(500, dtype=np.int64), asked)
    np.testing.assert_allclose(shares, (own[None] < asked[:, None]).mean(axis=1), rtol=0, atol=(4321 / 99 + 1) / 4321)
    ends = quantiles.shares_weaker(np.zeros(2, dtype=np.int64), np.array([own.min(), own.max()]))
    assert ends.tolist() == [0, pytest.approx(4320 / 4321)]


def test_each_share_is_of_its_own_latent():
    values = firings()
    quantiles, latents = quantiles_of(values), np.array([4, 0, 2, 8, 7, 1])
    asked = np.array([2.0, 2.0, values[2].max(), 2.0, values[7].min(), 1e9])
    expected = [(values[4] < 2).mean(), np.nan, (values[2] < values[2].max()).mean(), np.nan, 0.0, 1.0]
    np.testing.assert_allclose(quantiles.shares_weaker(latents, asked), expected)
    for latent, activation, share in zip(latents, asked, expected, strict=True):
        np.testing.assert_allclose(quantiles.shares_weaker(np.array([latent]), np.array([activation])), [share])


def test_a_latent_that_never_fired_has_no_share():
    for quantiles in (quantiles_of(firings()), quantiles_of([np.zeros(0, dtype=np.float32)])):
        assert np.isnan(quantiles.shares_weaker(np.array([0]), np.array([1.0]))).all()


def test_written_and_read_again_it_is_the_same(tmp_path):
    quantiles = quantiles_of(firings())
    assert quantiles.write(tmp_path) == tmp_path / QUANTILES
    again = ActivationQuantiles.read(tmp_path, num_latents=len(FIRED))
    assert again.fired.tolist() == quantiles.fired.tolist()
    assert again.points.tolist() == quantiles.points.tolist()
    with pytest.raises(UserError, match=r"is of 9 latents, the SAE has 8"):
        ActivationQuantiles.read(tmp_path, num_latents=8)


@pytest.mark.parametrize("content", [None, b"", b"{}", "cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = quantiles_of(firings()).write(tmp_path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-4] if content == "cut" else content)
    with pytest.raises(UserError, match=r"quantiles\.safetensors cannot be read .*: build the dashboard again"):
        ActivationQuantiles.read(tmp_path, num_latents=len(FIRED))


def test_points_must_fit_the_firings():
    with pytest.raises(ValueError, match=r"expected 3 points for 2 latents, got 2"):
        ActivationQuantiles(fired=np.array([1, 2]), points=np.zeros(2))
