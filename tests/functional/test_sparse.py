"""Sparse products against dense ones: values and every gradient, in float64."""

import pytest
import torch

from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import gathered_dots, grouped_decode, sparse_decode, sparse_from_dense
from sae.functional.sparse_pattern import SparsePattern
from tests.cases import ramp


def dense_acts(rows=9, latents=7):
    """About half zeros; row 2 and latent 4 are empty."""
    acts = ramp(rows, latents).clamp(min=0)
    acts[2], acts[:, 4] = 0, 0
    return acts


def test_pattern_of_a_mask():
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    pattern = SparsePattern.of(mask)
    assert pattern.indices.tolist() == [0, 2, 1, 2]
    assert pattern.offsets.tolist() == [0, 2, 2, 4]
    assert pattern.rows.tolist() == [0, 0, 2, 2]
    assert (pattern.num_rows, pattern.num_latents) == (3, 3)
    order = pattern.by_latent
    assert order.offsets.tolist() == [0, 1, 2, 4]
    assert order.rows.tolist() == [0, 2, 0, 2]
    assert order.entries.tolist() == [0, 2, 1, 3]


def test_from_dense_and_back():
    acts = dense_acts()
    sparse = sparse_from_dense(acts)
    assert sparse.values.numel() == int((acts > 0).sum())
    assert torch.equal(sparse.to_dense(), acts)
    assert sparse.indices is sparse.pattern.indices
    assert sparse.offsets is sparse.pattern.offsets
    assert torch.equal(sparse.fired(), (acts > 0).any(dim=0))
    assert not sparse.fired()[4]


def test_gradients_pass_through_the_conversions():
    acts, weights = dense_acts().requires_grad_(), ramp(9, 7, phase=1)
    (gradient,) = torch.autograd.grad((sparse_from_dense(acts).to_dense() * weights).sum(), acts)
    assert torch.equal(gradient, torch.where(acts > 0, weights, 0))


@pytest.mark.parametrize("weighted", [False, True])
def test_row_sums(weighted):
    acts = dense_acts().requires_grad_()
    weights = ramp(7, phase=2).requires_grad_() if weighted else None
    expected = acts @ weights if weighted else acts.sum(dim=1)
    found = sparse_from_dense(acts).row_sums(weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs = [acts, weights] if weighted else [acts]
    upstream = ramp(9, phase=3)
    by_found = torch.autograd.grad(found, inputs, upstream)
    by_expected = torch.autograd.grad(expected, inputs, upstream)
    torch.testing.assert_close(by_found[0], torch.where(acts > 0, by_expected[0], 0), rtol=1e-12, atol=1e-12)
    if weighted:
        torch.testing.assert_close(by_found[1], by_expected[1], rtol=1e-12, atol=1e-12)


def test_sums_of_bfloat16_are_float32():
    assert sparse_from_dense(dense_acts().bfloat16()).row_sums().dtype == torch.float32


@pytest.mark.parametrize("acts", [dense_acts(), torch.zeros(3, 7, dtype=torch.float64), torch.zeros(0, 7, dtype=torch.float64)])
def test_decode_equals_the_dense_product(acts):
    acts, weight = acts.clone().requires_grad_(), ramp(7, 5, phase=1).requires_grad_()
    upstream = ramp(len(acts), 5, phase=2)
    dense, sparse = acts @ weight, sparse_decode(sparse_from_dense(acts), weight)
    torch.testing.assert_close(sparse, dense, rtol=1e-10, atol=1e-10)
    by_dense, by_sparse = (torch.autograd.grad(out, (acts, weight), upstream) for out in (dense, sparse))
    torch.testing.assert_close(by_sparse[0], torch.where(acts > 0, by_dense[0], 0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(by_sparse[1], by_dense[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("acts", [dense_acts(), torch.zeros(3, 7, dtype=torch.float64)])
def test_dots_are_alike_with_and_without_the_private_operator(acts, dtype, monkeypatch):
    """And no row is decoded on the way where it is there."""
    pattern = sparse_from_dense(acts).pattern
    rows, table = ramp(len(acts), 5, phase=2).to(dtype), ramp(7, 5, phase=1).to(dtype)
    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.functional.embedding_bag", lambda *args, **settings: pytest.fail("rows were decoded"))
        found = gathered_dots(rows, table, pattern)
    monkeypatch.setattr("sae.functional.sparse._DOTS", None)
    assert torch.equal(gathered_dots(rows, table, pattern), found)
    expected = (rows.double() @ table.double().T)[pattern.rows.long(), pattern.indices.long()]
    torch.testing.assert_close(found.double(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)


def test_decode_gradcheck():
    sparse, weight = sparse_from_dense(dense_acts()), ramp(7, 5).requires_grad_()
    values = sparse.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values, weight: sparse_decode(type(sparse)(values=values, pattern=sparse.pattern), weight), (values, weight)
    )


def test_gradients_do_not_depend_on_threads():
    x, weight, bias = ramp(200, 16).float(), ramp(16, 64, phase=1).float(), torch.zeros(64)
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            leaf, decoder = weight.clone().requires_grad_(), weight.T.contiguous().requires_grad_()
            recon = sparse_decode(EncoderProduct(x, leaf, bias).above(0.0), decoder)
            results.append(torch.autograd.grad((recon - x).square().sum(), (leaf, decoder)))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_groups_are_decoded_each_by_itself():
    acts, weight, sizes = dense_acts().requires_grad_(), ramp(7, 5, phase=1).requires_grad_(), (2, 1, 4)
    parts = zip(acts.split(sizes, dim=1), weight.split(sizes), strict=True)
    dense = torch.stack([part @ rows for part, rows in parts])
    sparse = grouped_decode(sparse_from_dense(acts), weight, sizes)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    upstream = ramp(3, 9, 5, phase=4)
    by_dense, by_sparse = (torch.autograd.grad(out, (acts, weight), upstream) for out in (dense, sparse))
    torch.testing.assert_close(by_sparse[0], torch.where(acts > 0, by_dense[0], 0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_sparse[1], by_dense[1], rtol=1e-12, atol=1e-12)


def test_a_second_derivative_is_refused_rather_than_wrong():
    weight = ramp(7, 5).requires_grad_()
    recon = sparse_decode(sparse_from_dense(dense_acts()), weight)
    (first,) = torch.autograd.grad(recon.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
