"""Annotations are checked in tests, a number of times in each."""

import pytest
import torch
from jaxtyping import TypeCheckError

from sae.functional.geometry import unit_rows_
from tests.shapes import Checks, checks


@pytest.mark.parametrize("test", ["one", "the next"])
def test_the_first_calls_of_each_are_checked(test):
    with pytest.raises(TypeCheckError, match="unit_rows_"):
        unit_rows_(torch.ones(3, 2).int())
    assert checks.done > 0
    for _ in range(Checks.MOST // 2):
        unit_rows_(torch.ones(3, 2))
    assert checks.done >= Checks.MOST
    with pytest.raises(RuntimeError, match="floating"):
        unit_rows_(torch.ones(3, 2).int())
