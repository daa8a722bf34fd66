"""Metrics against two-pass float64 references, over batch sizes, and merged as two processes would."""

import doctest
import importlib

import numpy as np
import pytest
import torch

from sae.functional.sparse import sparse_from_dense
from sae.metrics.density import LatentDensity, density_histogram, silent_fraction
from sae.metrics.fvu import FVU
from sae.metrics.relative_bias import RelativeBias
from sae.metrics.row_mean import L0, L1, Cosine, NormRatio

ROWS, D_IN, D_SAE = 503, 7, 11


def offset_rows():
    """Rows whose mean is a thousand times their spread, with one dimension that holds most of the variance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, D_IN, generator=generator)
    x[:, 2] *= 30
    x += 3000 * torch.linspace(-1, 2, D_IN)
    recon = x + 0.3 * torch.randn(ROWS, D_IN, generator=generator)
    latents = torch.relu(torch.randn(ROWS, D_SAE, generator=generator) - torch.linspace(0, 6, D_SAE))
    return x, recon, latents


def two_pass(x, recon):
    x, recon = x.double().numpy(), recon.double().numpy()
    return ((x - recon) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()


def streamed(metric, *tensors, batch):
    for part in zip(*(tensor.split(batch) for tensor in tensors), strict=True):
        metric.update(*part)
    return metric


@pytest.mark.parametrize("make", [L0, L1, lambda: LatentDensity(D_SAE)], ids=["l0", "l1", "density"])
def test_latents_without_their_zeros_give_the_same_numbers(make):
    _, _, latents = offset_rows()
    latents[5] = 0
    dense, sparse = make(), make()
    for part in latents.split(100):
        dense.update(part)
        sparse.update(sparse_from_dense(part, also=torch.ones_like(part) > 0 if len(part) == 3 else None))
    torch.testing.assert_close(sparse.compute(), dense.compute(), rtol=1e-7, atol=0)
    assert bool(dense.compute().max() > 0)


@pytest.mark.parametrize("batch", [1, 4, 100, ROWS])
def test_fvu_is_the_two_pass_number_at_every_batch_size(batch):
    x, recon, _ = offset_rows()
    fvu = streamed(FVU(D_IN), x, recon, batch=batch)
    assert float(fvu.compute()) == pytest.approx(two_pass(x, recon), rel=1e-9)
    assert fvu.count == ROWS
    torch.testing.assert_close(fvu.mean, x.double().mean(dim=0), rtol=1e-12, atol=0)


def test_fvu_does_not_depend_on_the_batch_size():
    x, recon, _ = offset_rows()
    values = [float(streamed(FVU(D_IN), x, recon, batch=batch).compute()) for batch in (3, 64, ROWS)]
    assert max(values) - min(values) <= 1e-13 * max(values)


def test_fvu_of_perfect_and_of_mean():
    x, _, _ = offset_rows()
    assert float(streamed(FVU(D_IN), x, x, batch=50).compute()) == 0
    mean = x.double().mean(dim=0).expand(ROWS, D_IN)
    assert float(streamed(FVU(D_IN), x, mean, batch=50).compute()) == pytest.approx(1, abs=1e-12)


def test_fvu_of_nothing_and_of_constant_rows_is_nan():
    fvu = FVU(2)
    fvu.update(torch.zeros(0, 2), torch.zeros(0, 2))
    assert fvu.count == 0
    fvu.update(torch.ones(3, 2), torch.zeros(3, 2))
    fvu.update(torch.ones(3, 2), torch.ones(3, 2))
    assert not torch.isfinite(fvu.compute())


def both_kinds():
    x, recon, latents = offset_rows()
    return {
        "fvu": (lambda: FVU(D_IN), (x, recon)),
        "cosine": (Cosine, (x, recon)),
        "norm_ratio": (NormRatio, (x, recon)),
        "relative_bias": (RelativeBias, (x, recon)),
        "l0": (L0, (latents,)),
        "l1": (L1, (latents,)),
        "density": (lambda: LatentDensity(D_SAE), (latents,)),
    }


@pytest.mark.parametrize("name", list(both_kinds()))
@pytest.mark.parametrize("cut", [0, 1, 170])
def test_states_of_two_processes_merge_to_the_number_of_one(name, cut):
    make, tensors = both_kinds()[name]
    whole = streamed(make(), *tensors, batch=40).compute()
    first, second = make(), make()
    if cut:
        streamed(first, *(tensor[:cut] for tensor in tensors), batch=40)
    streamed(second, *(tensor[cut:] for tensor in tensors), batch=40)
    # What torchmetrics does with the states that it gathered from each process.
    gathered = make()
    for state, reduce in gathered._reductions.items():
        setattr(gathered, state, reduce(torch.stack([getattr(first, state), getattr(second, state)])))
    gathered._update_count = 1
    torch.testing.assert_close(gathered.compute(), whole, rtol=1e-13, atol=0)
    if cut:
        first.merge_state(second)
        torch.testing.assert_close(first.compute(), whole, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", list(both_kinds()))
def test_reset_forgets_and_states_stay_in_double_precision(name):
    make, tensors = both_kinds()[name]
    metric = streamed(make(), *(tensor + 1 for tensor in tensors), batch=40)
    metric.reset()
    metric.float()
    streamed(metric, *tensors, batch=40)
    assert all(getattr(metric, state).dtype in (torch.float64, torch.int64) for state in metric._reductions)
    torch.testing.assert_close(metric.compute(), streamed(make(), *tensors, batch=40).compute(), rtol=0, atol=0)


def test_row_means_against_numpy():
    x, recon, latents = offset_rows()
    nx, nr, nl = (tensor.double().numpy() for tensor in (x, recon, latents))
    lengths, shrunk = np.linalg.norm(nx, axis=1), np.linalg.norm(nr, axis=1)
    expected = {
        "cosine": ((nx * nr).sum(axis=1) / lengths / shrunk).mean(),
        "norm_ratio": (shrunk / lengths).mean(),
        "relative_bias": (nr**2).sum() / (nx * nr).sum(),
        "l0": (nl != 0).sum(axis=1).mean(),
        "l1": np.abs(nl).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        make, tensors = both_kinds()[name]
        assert float(streamed(make(), *tensors, batch=60).compute()) == pytest.approx(
            value, rel=1e-7 if name == "l1" else 1e-12
        ), name


def test_a_reconstruction_of_zero_has_no_direction():
    cosine, ratio, gamma = Cosine(), NormRatio(), RelativeBias()
    for metric in (cosine, ratio, gamma):
        metric.update(torch.ones(4, 3), torch.zeros(4, 3))
    assert float(cosine.compute()) == 0
    assert float(ratio.compute()) == 0
    assert torch.isnan(gamma.compute())


def test_half_precision_rows_lose_nothing_on_the_way():
    x = torch.full((4096, 1), 0.1, dtype=torch.bfloat16)
    l1 = L1()
    l1.update(x)
    assert float(l1.compute()) == float(x[0, 0])
    density = LatentDensity(1)
    density.update(x)
    assert float(density.compute()) == 1


def test_density_histogram_places_every_latent_once():
    densities = torch.tensor([0.0, 1e-9, 1e-8, 1.1e-4, 10**-0.26, 1.0, 1.0], dtype=torch.float64)
    histogram = density_histogram(densities)
    edges, counts = histogram["edges"], histogram["counts"]
    assert len(edges) == len(counts) + 1
    assert (edges[0], edges[-1]) == (-8, 0)
    assert histogram["never_fired"] == 1
    assert sum(counts) + histogram["never_fired"] == len(densities)
    assert counts[0] == 2  # 1e-9 lies below the scale
    assert counts[edges.index(-4.0)] == 1
    assert counts[edges.index(-0.5)] == 1
    assert counts[-1] == 2
    assert silent_fraction(densities) == pytest.approx(1 / 7)


@pytest.mark.parametrize("module", ["fvu", "row_mean", "relative_bias", "density"])
def test_examples_in_the_docstrings(module):
    found = importlib.import_module(f"sae.metrics.{module}")
    result = doctest.testmod(found, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0
