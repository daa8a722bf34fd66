"""Evaluation by the sparse form is evaluation by dense products, for every file in `conf/sae`; and how rows are cut."""

import pytest
import torch

from sae.architectures.output import SparseSAEOutput
from sae.architectures.relu import ReLUSAE
from sae.architectures.topk import TopKSAE
from sae.evaluation import passes
from sae.evaluation.cross_entropy import CleanRun, evaluate_splice
from sae.evaluation.passes import RowPasses
from sae.evaluation.reconstruction import evaluate_reconstruction
from sae.functional.pass_choice import rows_at_once
from sae.training.recipe import Budget
from tests.training.nodes import every_node, learner_of, rows_of, widths_of

D_IN, D_SAE, ROWS = 6, 40, 211


def exported(name):
    generator = torch.Generator().manual_seed(4)
    values = {
        point: 5 * torch.randn(ROWS, width, generator=generator, dtype=torch.float64) + 9
        for point, width in widths_of(name, D_IN).items()
    }
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=Budget(train_tokens=640, batch_tokens=64)).double()
    learner.start_from(values)
    learner.finish(values)
    return learner.export(), rows_of(name, values)


def by(monkeypatch, *, sparse):
    monkeypatch.setattr(passes, "sparse_is_quicker", lambda active, device, **sizes: sparse)


@every_node
def test_the_sparse_form_gives_the_numbers_of_dense_products(name, monkeypatch):
    sae, pair = exported(name)
    batches = list(zip(*(values.split(50) for values in pair), strict=True))
    parts = {"crosscoder": list(widths_of(name, D_IN).values()), "cross_layer_transcoder": [D_IN + 2, D_IN - 1]}.get(name, [])
    by(monkeypatch, sparse=False)
    dense = evaluate_reconstruction(sae, batches, parts=parts)
    monkeypatch.setattr(passes, "FIRST_ROWS", 7)
    by(monkeypatch, sparse=True)
    sparse = evaluate_reconstruction(sae, batches, parts=parts)
    assert dense.numbers["l0"]
    assert sparse.numbers == pytest.approx(dense.numbers, rel=1e-11)
    assert sparse.density_histogram == dense.density_histogram
    assert torch.equal(sparse.fired, dense.fired)
    torch.testing.assert_close(sparse.mean, dense.mean, rtol=1e-12, atol=0)
    for one, other in zip(sparse.parts, dense.parts, strict=True):
        assert (one.fvu, one.deviation) == pytest.approx((other.fvu, other.deviation), rel=1e-11)


@pytest.mark.parametrize("sae", ["random", "zero"])
def test_put_into_a_model_both_forms_give_the_same_predictions(sae, known, model, hook_point, blocks, monkeypatch):
    clean = CleanRun(model, blocks, max_tokens=1000, forward_blocks=3)
    monkeypatch.setattr(passes, "FIRST_ROWS", 4)
    found = []
    for sparse in (False, True):
        by(monkeypatch, sparse=sparse)
        found.append(evaluate_splice(known[sae](), clean, hook_point, mean=torch.ones(12, dtype=torch.float64)))
    dense, sparse = ({key: value for key, value in numbers.items() if value is not None} for numbers in found)
    assert dense["ce_sae"] > dense["ce_clean"]
    assert sparse == pytest.approx(dense, rel=1e-4, abs=1e-6)


def slices(sae, rows, **made):
    """Of each pass whether it was sparse, and its rows."""
    return [(isinstance(one, SparseSAEOutput), len(one.recon)) for one in RowPasses(sae, **made)(torch.ones(rows, sae.d_in))]


def always_on(active, *, d_sae=1000):
    """So many latents fire on every row of ones, whatever it is."""
    sae = ReLUSAE(d_in=2, d_sae=d_sae)
    sae.b_enc.data[:active] = 1
    return sae


def test_k_or_what_was_active_before_decides_which_form():
    assert slices(TopKSAE(d_in=2, d_sae=1000, k=8), 700) == [(True, 700)]
    assert slices(TopKSAE(d_in=2, d_sae=1000, k=500), 700) == [(False, 700)]
    assert slices(always_on(30), 700) == [(False, 512), (True, 188)]
    assert slices(always_on(300), 700) == [(False, 512), (False, 188)]
    again = RowPasses(always_on(30))
    shapes = [isinstance(one, SparseSAEOutput) for _ in range(2) for one in again(torch.ones(10, 2))]
    assert shapes == [False, True]


def test_so_many_rows_at_a_time_that_memory_is_bounded(monkeypatch):
    assert [rows_at_once(latents) for latents in (1024, 131072, 10**9)] == [65536, 512, 1]
    monkeypatch.setattr(passes, "rows_at_once", lambda latents, elements=64_000: int(elements / latents))
    monkeypatch.setattr(passes, "SPARSE_ENTRIES", 1500)
    assert slices(always_on(300), 150) == [(False, 64), (False, 64), (False, 22)]
    assert slices(always_on(30), 150) == [(False, 64), (True, 50), (True, 36)]


def test_no_rows_have_no_reconstruction():
    assert RowPasses(always_on(3)).recon(torch.ones(0, 2)).shape == (0, 2)
