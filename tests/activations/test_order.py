import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.activations.order import plan_chunks, seeded_permutation, split_blocks


def test_permutation_depends_on_every_part_of_the_key():
    base = seeded_permutation(50, 0, 1, 2)
    assert torch.equal(base, seeded_permutation(50, 0, 1, 2))
    assert torch.equal(base.sort().values, torch.arange(50))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 12), (0, 2, 1)):
        assert not torch.equal(base, seeded_permutation(50, *other))


def test_permutation_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    seeded_permutation(10, 5)
    assert torch.equal(torch.rand(3), expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 60))
def test_groups_are_few_nearly_equal_and_whole(rows, most):
    sizes = split_blocks(torch.tensor(rows), most)
    total = sum(rows)
    if total == 0:
        assert sizes == []
        return
    assert sum(sizes) == len(rows)
    assert len(sizes) <= -(-total // most)
    counts = [sum(rows[sum(sizes[:i]) : sum(sizes[: i + 1])]) for i in range(len(sizes))]
    assert all(0 < count < most + max(rows) for count in counts)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 5))
def test_chunks_hold_every_block_with_rows_once(rows, chunk_rows, window):
    plan = plan_chunks(torch.tensor(rows), seed=3, window=window, chunk_rows=chunk_rows)
    chosen = torch.cat(plan).tolist() if plan else []
    assert sorted(chosen) == [block for block, count in enumerate(rows) if count]


def test_windows_and_seeds_are_permuted_differently():
    rows = torch.full((30,), 4)
    plans = [torch.cat(plan_chunks(rows, seed=s, window=w, chunk_rows=40)).tolist() for s, w in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(plan) for plan in plans}) == 3
    assert plans[0] != sorted(plans[0])


@pytest.mark.parametrize(("total", "most", "expected"), [(30, 4, 30), (30, 120, 1), (30, 60, 2), (30, 59, 3)])
def test_number_of_chunks_is_the_ceiling(total, most, expected):
    assert len(split_blocks(torch.full((total,), 4), most)) == expected
