"""Gradients of rows against the dense ones that they stand for."""

import pytest
import torch

from sae.functional.lazy_rows import LazyRows
from sae.functional.row_gradients import (
    accept_row_gradients,
    accepts_row_gradients,
    picked_rows,
    row_blocks,
    row_gradient,
    rows_of,
)
from sae.functional.sparse import SparseActs, grouped_decode, sparse_decode
from sae.functional.sparse_pattern import SparsePattern
from tests.cases import ramp

LATENTS, WIDTH = 23, 5


def acts_of(latents):
    """Rows with those latents, one of them with none."""
    mask = torch.zeros(4, LATENTS, dtype=torch.bool)
    for number, latent in enumerate(latents):
        mask[number % 3, latent] = True
    pattern = SparsePattern.of(mask)
    return SparseActs(values=ramp(len(pattern.indices)), pattern=pattern)


def gradient_by(decode, kind):
    weight = kind(ramp(LATENTS, WIDTH, phase=1))
    if kind is not plain:
        accept_row_gradients(weight)
    (decode(weight) * ramp(4, WIDTH, phase=2)).sum().backward()
    return weight.grad


def plain(values):
    return torch.nn.Parameter(values)


def taken(values):
    return torch.nn.Parameter(values)


SEVERAL = acts_of([2, 3, 7, 11, 22, 2, 4])
DECODES = {
    "one": lambda weight: sparse_decode(SEVERAL, weight),
    "groups": lambda weight: grouped_decode(SEVERAL, weight, [3, 8, 12]).cumsum(dim=0),
    "two readers": lambda weight: sparse_decode(SEVERAL, weight) - sparse_decode(acts_of([22, 2, 9]), weight).square(),
    "picked": lambda weight: ramp(4, 3, phase=3) @ picked_rows(weight, torch.tensor([9, 1, 22])),
    "picked too": lambda weight: sparse_decode(SEVERAL, weight) + ramp(4, 2) @ picked_rows(weight, torch.tensor([7, 0])),
    "nothing": lambda weight: sparse_decode(acts_of([]), weight),
}


@pytest.mark.parametrize("kind", [taken, LazyRows])
@pytest.mark.parametrize("decode", DECODES.values(), ids=DECODES.keys())
def test_equal_to_the_dense_gradient(decode, kind):
    found, expected = gradient_by(decode, kind), gradient_by(decode, plain)
    assert found.is_sparse
    assert not expected.is_sparse
    rows, values = rows_of(found)
    assert (rows.diff() > 0).all()
    torch.testing.assert_close(found.to_dense(), expected, rtol=0, atol=1e-6)
    assert values.shape == (len(rows), WIDTH)


@pytest.mark.parametrize("decode", [lambda weight: sparse_decode(SEVERAL, weight) + weight[:4], lambda weight: weight[3:7]])
def test_a_dense_reader_makes_it_dense(decode):
    found, expected = gradient_by(decode, taken), gradient_by(decode, plain)
    assert not found.is_sparse
    torch.testing.assert_close(found, expected)


def test_dense_where_most_latents_are_active():
    assert not gradient_by(lambda weight: sparse_decode(acts_of(range(12)), weight), taken).is_sparse
    assert gradient_by(lambda weight: sparse_decode(acts_of(range(11)), weight), taken).is_sparse


@pytest.mark.parametrize("size", [1, 4, LATENTS, 100])
def test_blocks_are_the_gradient_with_its_zeros(size):
    gradient = row_gradient(torch.tensor([19, 0, 7, 8]), ramp(4, WIDTH), num_rows=LATENTS, sorted_rows=False)
    blocks = [block.clone() for block in row_blocks(gradient, size)]
    assert [len(block) for block in blocks] == [len(block) for block in torch.zeros(LATENTS, 1).split(size)]
    assert torch.equal(torch.cat(blocks), gradient.to_dense())


def test_only_where_it_was_said():
    weight = plain(ramp(LATENTS, WIDTH))
    assert not accepts_row_gradients(weight)
    picked_rows(weight, torch.tensor([1])).sum().backward()
    assert not weight.grad.is_sparse
