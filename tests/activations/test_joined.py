"""Rows of several sources side by side."""

import pytest
import torch

from sae.activations.array_rows import ArrayRows
from sae.activations.joined import JoinedRows
from sae.activations.mixed import MixedLayers
from tests.cases import ramp


def test_rows_belong_together():
    one, two = ramp(130, 3, dtype=torch.float32), ramp(130, 2, dtype=torch.float32) + 1
    first = ArrayRows(one, name="one")
    joined = JoinedRows([first, ArrayRows(two, name="two")])
    assert joined.widths == {"one": 3, "two": 2}
    assert (joined.dtype, joined.piece_blocks) == (torch.float32, first.piece_blocks)
    found = joined.rows(first.blocks(), torch.tensor([2, 0]))
    order = [*range(128, 130), *range(64)]
    assert torch.equal(found.values["one"], one[order])
    assert torch.equal(found.values["two"], two[order])
    assert len(found) == 66


def test_a_name_or_a_dtype_of_two_kinds_is_refused():
    source = ArrayRows(ramp(4, 2, dtype=torch.float32))
    with pytest.raises(ValueError, match="each name may be given by one source"):
        JoinedRows([source, source])
    half = ArrayRows(ramp(4, 2, dtype=torch.float32), name="half")
    half.dtype = torch.bfloat16
    with pytest.raises(ValueError, match="one dtype"):
        JoinedRows([source, half])


def test_mixed_layers_are_not_joined():
    mixed = MixedLayers(ArrayRows(ramp(4, 2, dtype=torch.float32)))
    with pytest.raises(ValueError, match="cannot be joined"):
        JoinedRows([mixed, ArrayRows(ramp(4, 2, dtype=torch.float32), name="other")])
