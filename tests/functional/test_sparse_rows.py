"""Patterns from flat places, and rows of sparse activations, against the same of dense tensors."""

import torch

from sae.functional.sparse import sparse_from_dense
from sae.functional.sparse_pattern import SparsePattern
from sae.functional.sparse_rows import select_rows, stack_rows
from tests.cases import ramp

DENSE = torch.relu(ramp(7, 5))


def test_a_pattern_of_flat_places_is_that_of_the_mask():
    mask = DENSE > 0
    mask[2] = False
    found, expected = SparsePattern.at(mask.flatten().nonzero().squeeze(1), num_rows=7, num_latents=5), SparsePattern.of(mask)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.offsets, expected.offsets)
    assert found.indices.dtype == found.offsets.dtype == torch.int32


def test_selected_rows_are_those_of_the_index():
    acts = sparse_from_dense(DENSE)
    index = torch.tensor([6, 0, 0, 3])
    torch.testing.assert_close(select_rows(acts, index).to_dense(), DENSE[index])
    assert select_rows(acts, index[:0]).offsets.tolist() == [0]


def test_stacked_rows_are_one_below_the_other():
    stacked = stack_rows([sparse_from_dense(part) for part in (DENSE[:3], DENSE[:0], DENSE[3:])])
    torch.testing.assert_close(stacked.to_dense(), DENSE)
    assert stacked.offsets.dtype == torch.int32
