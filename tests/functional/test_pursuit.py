"""Matching pursuit through the Gram matrix against rounds written out in numpy."""

import numpy as np
import pytest
import torch

from sae.functional import devices, pursuit
from sae.functional.pursuit import pursue
from tests.cases import ramp


def rounds(rows, dictionary, k):
    """Latent activations, round by round."""
    acts = np.zeros((len(rows), len(dictionary)))
    norms = np.linalg.norm(dictionary, axis=1)
    for number, row in enumerate(rows):
        residual = row.copy()
        for _ in range(k):
            fits = dictionary @ residual / np.where(norms == 0, 1, norms)
            best = int(np.argmax(fits))
            if fits[best] <= 0:
                break
            share = residual @ dictionary[best] / norms[best] ** 2
            acts[number, best] += share
            residual = residual - share * dictionary[best]
    return acts


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("with_gram", [True, False], ids=["gram", "products"])
@pytest.mark.parametrize(("rows", "latents", "width", "k"), [(9, 13, 5, 8), (6, 4, 7, 12), (1, 1, 1, 3), (0, 5, 3, 2)])
def test_equal_to_rounds_written_out(with_gram, rows, latents, width, k, ahead, monkeypatch):
    """Where the host runs ahead, with as many entries as rounds, of which each latent has one that is not zero."""
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: ahead)
    monkeypatch.setattr(pursuit, "GRAM_ELEMENTS", 1 << 20 if with_gram else 0)
    monkeypatch.setattr(pursuit, "TILE_ELEMENTS", 3 * latents)  # parts of three rows
    x, dictionary = ramp(rows, width), 3 * ramp(latents, width, phase=1)
    if latents > 4:
        dictionary[2] = 0
    acts = pursue(x, dictionary, k)
    found = acts.to_dense()
    assert int((acts.values > 0).sum()) == int((found > 0).sum())
    assert not ahead or len(acts.values) == rows * k
    np.testing.assert_allclose(found.numpy(), rounds(x.numpy(), dictionary.numpy(), k), rtol=1e-9, atol=1e-11)


def test_a_direction_that_is_chosen_again_counts_once():
    dictionary = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    found = pursue(torch.tensor([[1.0, 1.0]], dtype=torch.float64), dictionary, 4)
    assert found.indices.tolist() == [0, 1]
    assert found.offsets.tolist() == [0, 2]
    assert bool((found.values > 0).all())


def test_a_row_that_no_direction_fits_stays_empty():
    found = pursue(torch.tensor([[-1.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 3)
    assert found.to_dense().tolist() == [[0, 0], [2, 0]]
    assert found.offsets.tolist() == [0, 0, 1]


@pytest.mark.parametrize("ahead", [False, True])
def test_gradcheck(ahead, monkeypatch):
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: ahead)
    rows, dictionary = ramp(3, 5).requires_grad_(), ramp(7, 5, phase=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, d: pursue(x, d, 4).to_dense(), (rows, dictionary))
