"""Picked pre-activations against the whole product: values and every gradient, over shapes that divide by nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.functional import devices, encoder_product, encoder_tiles
from sae.functional.encoder_product import EncoderProduct
from sae.functional.selection import batch_top_k, row_top_k, top_k_entries
from tests.cases import ramp

TOLERANCES = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {"rtol": 2e-5, "atol": 2e-5}}

shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 23),
        "d_in": st.integers(1, 11),
        "d_sae": st.integers(1, 70),
        "seed": st.integers(0, 2**16),
        "tile": st.sampled_from([1, 40, 400, 1 << 24]),
        "buffer": st.sampled_from([1, 300, 1 << 24]),
        "dtype": st.sampled_from([torch.float64, torch.float32]),
        "shifted": st.booleans(),
        "layers": st.sampled_from([1, 1, 2, 3]),
    }
).map(lambda shape: shape | {name: shape["layers"] * shape[name] for name in ("d_in", "d_sae")})


def problem(shape, *, quantised=False):
    """x, weight, bias and shift with gradients; x a view with strides of its own, the weight stored latent by latent."""
    generator = torch.Generator().manual_seed(shape["seed"])

    def draw(*size):
        drawn = torch.randn(*size, generator=generator, dtype=torch.float64)
        return (drawn.round() if quantised else drawn).to(shape["dtype"])

    x = draw(shape["d_in"], shape["rows"]).T.requires_grad_()
    weight = draw(shape["d_sae"], shape["d_in"] // shape["layers"]).T.requires_grad_()
    shift = draw(shape["d_in"]).requires_grad_() if shape["shifted"] else None
    return x, weight, draw(shape["d_sae"]).requires_grad_(), shift


def whole(weight, layers):
    """The matrix with its zeros: latents of one layer read no other."""
    return torch.block_diag(*weight.chunk(layers, dim=1))


def compare(shape, dense_of, sparse_of):
    """The two functions give the same activations and, for one upstream gradient, the same gradients."""
    x, weight, bias, shift = problem(shape)
    inputs = [part for part in (x, weight, bias, shift) if part is not None]
    dense = dense_of((x if shift is None else x - shift) @ whole(weight, shape["layers"]) + bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_tiles, "TILE_ELEMENTS", shape["tile"])
        patch.setattr(encoder_product, "BUFFER_ELEMENTS", shape["buffer"])
        sparse = sparse_of(EncoderProduct(x, weight, bias, shift=shift, layers=shape["layers"])).to_dense()
    tolerance = TOLERANCES[shape["dtype"]]
    torch.testing.assert_close(sparse, dense, **tolerance)
    upstream = ramp(*dense.shape, dtype=dense.dtype)
    by_dense = torch.autograd.grad(dense, inputs, upstream)
    by_sparse = torch.autograd.grad(sparse, inputs, upstream)
    for found, expected in zip(by_sparse, by_dense, strict=True):
        scale = {key: value * max(1.0, float(expected.abs().max())) for key, value in tolerance.items() if key == "atol"}
        torch.testing.assert_close(found, expected, rtol=tolerance["rtol"], **scale)
    return sparse


@settings(max_examples=60, deadline=None)
@given(shape=shapes)
def test_positive_entries(shape):
    compare(shape, torch.relu, lambda product: product.above(0.0))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, level=st.floats(-1, 3), ahead=st.booleans())
def test_entries_above_a_bound_of_each_latent(shape, level, ahead):
    bound = level + 0.1 * ramp(shape["d_sae"], dtype=shape["dtype"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "host_runs_ahead", lambda device: ahead)
        compare(shape, lambda z: torch.where(z > bound, z, 0), lambda product: product.above(bound))


@settings(max_examples=80, deadline=None)
@given(shape=shapes, share=st.floats(0, 1))
def test_the_largest_of_each_row(shape, share):
    k = max(1, round(share * shape["d_sae"]))
    sparse = compare(shape, lambda z: row_top_k(z, k), lambda product: product.top_k(k).map(torch.relu))
    assert int((sparse > 0).sum(dim=1).max()) <= k


@settings(max_examples=80, deadline=None)
@given(shape=shapes, share=st.floats(0, 1))
def test_the_largest_of_the_batch(shape, share):
    k = max(1, round(share * shape["d_sae"]))
    sparse = compare(shape, lambda z: batch_top_k(z, k), lambda product: product.batch_top_k(k))
    assert int((sparse > 0).sum()) <= k * shape["rows"]


@settings(max_examples=60, deadline=None)
@given(shape=shapes, share=st.floats(0, 1))
def test_the_largest_of_the_batch_where_their_number_must_be_known(shape, share):
    k = max(1, round(share * shape["d_sae"]))
    counts = []

    def chosen(product):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(devices, "host_runs_ahead", lambda device: True)
            picked = product.batch_top_k(k)
        counts.append(picked.values.numel())
        return picked.map(torch.relu)

    compare(shape, lambda z: batch_top_k(z, k), chosen)
    assert counts == [k * shape["rows"]]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 700), k=st.integers(1, 700), seed=st.integers(0, 2**16), ties=st.booleans())
def test_top_k_entries_against_a_full_sort(rows, width, k, seed, ties):
    """With ties any choice among equals is right: the values say so."""
    k = min(k, width)
    values = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    values = (2 * values).round() if ties else values
    found, indices = top_k_entries(values, k)
    expected = np.sort(values.numpy(), axis=1)[:, ::-1][:, :k]
    np.testing.assert_array_equal(np.sort(found.numpy(), axis=1)[:, ::-1], expected)
    assert torch.equal(values.gather(1, indices), found)
    assert all(len(row.unique()) == k for row in indices)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, k=st.integers(1, 9))
def test_ties_keep_as_many_as_were_asked_for(shape, k):
    x, weight, bias, _ = problem(shape | {"shifted": False}, quantised=True)
    k = min(k, shape["d_sae"])
    dense, layers = x @ whole(weight, shape["layers"]) + bias, shape["layers"]
    by_row = EncoderProduct(x, weight, bias, layers=layers).top_k(k)
    expected = dense.detach().sort(dim=1, descending=True).values[:, :k]
    assert torch.equal(by_row.values.detach().view(-1, k).sort(dim=1, descending=True).values, expected)
    of_batch = EncoderProduct(x, weight, bias, layers=layers).batch_top_k(k)
    wanted = torch.relu(dense.detach()).flatten().sort(descending=True).values[: k * shape["rows"]]
    wanted = wanted[wanted > 0]
    assert torch.equal(of_batch.values.detach().sort(descending=True).values, wanted)


def test_a_guess_that_was_too_high_is_proved_wrong_and_everything_is_gathered(monkeypatch):
    x, weight, bias = ramp(40, 6), ramp(6, 90, phase=1), ramp(90, phase=2)
    monkeypatch.setattr(encoder_product, "_rough_bound", lambda values, count: 1e9)
    found = EncoderProduct(x, weight, bias).batch_top_k(5)
    assert torch.equal(found.to_dense() > 0, batch_top_k(x @ weight + bias, 5) > 0)


@pytest.mark.parametrize("pick", [lambda p: p.above(0.0), lambda p: p.batch_top_k(3)])
def test_nothing_is_positive(pick):
    x, weight, bias = ramp(4, 3), ramp(3, 9), torch.full((9,), -1e3, dtype=torch.float64, requires_grad=True)
    found = pick(EncoderProduct(x, weight, bias))
    assert found.values.numel() == 0
    assert found.offsets.tolist() == [0] * 5
    (gradient,) = torch.autograd.grad(found.values.sum(), bias)
    assert not gradient.any()


@pytest.mark.parametrize("layers", [1, 3])
def test_columns_and_entries_of_a_pattern(layers):
    sizes = [(8, 6), (12, 6 // layers), (12,), (6,)]
    x, weight, bias, shift = inputs = [ramp(*size, phase=number).requires_grad_() for number, size in enumerate(sizes)]
    product = EncoderProduct(x, weight.T, bias, shift=shift, layers=layers)
    bare = (x - shift) @ whole(weight.T, layers)
    dense, latents = bare + bias, torch.tensor([7, 0, 11, 3])
    pattern = product.top_k(7).pattern  # in no order of latents
    where = (pattern.rows.long(), pattern.indices.long())
    few = product.top_k_among(latents, 2)
    for found, expected in (
        (product.dense(), dense),
        (product.of(latents).dense(), dense[:, latents]),
        (product.at(pattern).values, dense[where]),
        (product.at(pattern, bias=False).values, bare[where]),
        (few.values.view(8, 2).sort(dim=1).values, dense[:, latents].sort(dim=1).values[:, 2:]),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        upstream = ramp(*found.shape, phase=9)
        gradients = (
            torch.autograd.grad(one, inputs, upstream, retain_graph=True, materialize_grads=True) for one in (found, expected)
        )
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_weighted_sums_of_all_pre_activations(shifted, layers):
    sizes = [(8, 6), (12, 6 // layers), (12,), (6,)]
    x, weight, bias, shift = (ramp(*size, phase=number).requires_grad_() for number, size in enumerate(sizes))
    weights = ramp(12, phase=4).requires_grad_()
    product = EncoderProduct(x, weight.T, bias, shift=shift if shifted else None, layers=layers)
    found = product.weighted_sums(weights)
    expected = ((x - shift if shifted else x) @ whole(weight.T, layers) + bias) @ weights
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs = [x, weight, bias, weights, *([shift] if shifted else [])]
    gradients = [torch.autograd.grad(one.square().sum(), inputs) for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_bfloat16_chooses_and_float32_tells():
    """Entries chosen by a bfloat16 product are within its rounding of the border; their values are those of float32."""
    x, weight, bias = ramp(64, 48).float(), ramp(48, 300, phase=1).float(), ramp(300, phase=2).float()
    dense = x @ weight + bias
    found = EncoderProduct(x, weight, bias, dtype=torch.bfloat16).top_k(10)
    places = (found.pattern.rows.long(), found.indices.long())
    torch.testing.assert_close(found.values, dense[places], rtol=1e-5, atol=1e-5)
    tenth = dense.topk(10, dim=1).values[:, -1]
    slack = 2.0**-7 * dense.abs().amax(dim=1)
    assert bool((found.values >= (tenth - slack)[places[0]]).all())
    assert not torch.equal(found.values, found.values.bfloat16().float())


@pytest.mark.parametrize("latent", [3, 69])  # in a block of 16, and left over beside the blocks
def test_what_is_not_a_number_is_picked_and_hides_nothing(latent):
    x, weight, bias = ramp(30, 6), ramp(6, 70, phase=1), ramp(70, phase=2)
    whole = EncoderProduct(x, weight, bias).above(0.0).to_dense()
    weight[0, latent] = torch.nan
    found = EncoderProduct(x, weight, bias).above(0.0).to_dense()
    assert found[:, latent].isnan().all()
    others = torch.arange(70) != latent
    assert torch.equal(found[:, others], whole[:, others])
    assert EncoderProduct(x, weight, bias).batch_top_k(4).values.isnan().sum() == 30
    assert EncoderProduct(x, weight, bias).top_k(4).values.isnan().sum() == 30


def test_a_bias_s_gradient_is_summed_in_float32():
    x, weight = torch.zeros(4000, 2, dtype=torch.bfloat16), torch.zeros(2, 20, dtype=torch.bfloat16)
    bias = torch.ones(20, dtype=torch.bfloat16, requires_grad=True)
    (gradient,) = torch.autograd.grad(EncoderProduct(x, weight, bias).above(0.0).values.sum(), bias)
    assert gradient.tolist() == [4000] * 20


def test_the_buffer_of_inference_mode_serves_training(monkeypatch):
    monkeypatch.setattr(encoder_tiles, "_buffers", encoder_tiles._Buffers())
    x, weight, bias = ramp(4, 3), ramp(3, 9).requires_grad_(), torch.zeros(9, dtype=torch.float64)
    with torch.inference_mode():
        EncoderProduct(x, weight, bias).above(0.0)
    EncoderProduct(x, weight, bias).above(0.0).values.sum().backward()
    expected = x.T @ (x @ weight.detach() > 0).double()
    torch.testing.assert_close(weight.grad, expected)


def test_few_positive_entries_take_one_pass(monkeypatch):
    x, weight, bias = ramp(40, 6), ramp(6, 90, phase=1), torch.full((90,), -1e3, dtype=torch.float64)
    passes = []
    above = EncoderProduct._above
    monkeypatch.setattr(EncoderProduct, "_above", lambda self, bound: passes.append(bound) or above(self, bound))
    EncoderProduct(x, weight, bias).batch_top_k(5)
    assert passes == [0.0]


def test_autocast_chooses_in_its_own_type():
    x, weight, bias = ramp(16, 8).float(), ramp(8, 40, phase=1).float(), torch.zeros(40)
    with torch.autocast("cpu", torch.bfloat16):
        cast = EncoderProduct(x, weight, bias).top_k(3)
    chosen = EncoderProduct(x, weight, bias, dtype=torch.bfloat16).top_k(3)
    assert torch.equal(cast.indices, chosen.indices)
    assert cast.values.dtype == torch.float32


@pytest.mark.parametrize(("tile", "buffer"), [(1, 1 << 24), (1 << 22, 1 << 24), (1, 300)])
def test_a_second_search_takes_the_product_that_is_there_and_no_other(tile, buffer, monkeypatch):
    """MultiTopK searches where TopK did. What was written over meanwhile, or is of other rows, is made anew."""
    monkeypatch.setattr(encoder_tiles, "TILE_ELEMENTS", tile)
    monkeypatch.setattr(encoder_product, "BUFFER_ELEMENTS", buffer)
    x, weight, bias = ramp(10, 6), ramp(6, 90, phase=1), ramp(90, phase=2)
    made = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *args, **kwargs: made.append(1) or mm(*args, **kwargs))
    product, other = EncoderProduct(x, weight, bias), EncoderProduct(-x, weight, bias)
    first = product.top_k(3)
    count = len(made)
    assert torch.equal(product.top_k(7).map(torch.relu).to_dense() > 0, row_top_k(x @ weight + bias, 7) > 0)
    assert (len(made) == count) == (buffer > 300)
    for lent_again in (lambda: other.top_k(4), lambda: other.above(0.0)):
        lent_again()
        again = product.top_k(3)
        assert torch.equal(again.indices, first.indices)
        assert torch.equal(again.values, first.values)
