"""Quantiles that are collected a bucket at a time are those of all activations at once."""

import numpy as np
import pytest

from sae.dashboards.pages.quantiles import collected_quantiles
from tests.dashboards.latents.synthetic import some_codes


@pytest.mark.parametrize("memory", [1, 2000, 10**9])
def test_every_share_is_right(memory):
    codes = some_codes()
    dense = np.concatenate([codes.chunk(number).acts.to_dense().numpy() for number in range(len(codes))])
    fired = (dense > 0).sum(axis=0)
    quantiles = collected_quantiles(codes, fired, memory_bytes=memory)
    np.testing.assert_array_equal(quantiles.fired, fired)
    for latent in range(codes.num_latents):
        own = dense[dense[:, latent] > 0, latent]
        some = own[:20] if len(own) else np.array([1.0])
        shares = quantiles.shares_weaker(np.full(len(some), latent), some)
        expected = [(own < value).mean() if len(own) else np.nan for value in some]
        np.testing.assert_allclose(shares, expected, rtol=0, atol=1 / 99 + 1e-6)
