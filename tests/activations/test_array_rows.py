"""An array as a source of rows: every row once, read in short runs."""

import numpy as np
import pytest
import torch

from sae.activations.array_rows import BLOCK_ROWS, ArrayRows, _checked
from sae.activations.row_source import RowSource, read_rows
from sae.activations.shuffle import ActivationStream
from sae.errors import UserError
from sae.tokens.windows import FiniteWindows
from tests.cases import ramp


@pytest.mark.parametrize("count", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 5 * BLOCK_ROWS + 7])
def test_blocks_are_the_rows_in_their_order(count):
    x = ramp(count, 3, dtype=torch.float32)
    source = ArrayRows(x, name="mine")
    blocks = source.blocks()
    assert isinstance(source, RowSource)
    assert (blocks.num_rows, source.num_rows, source.widths) == (count, count, {"mine": 3})
    assert blocks.num_documents == len(blocks)
    rows = read_rows(source, blocks, torch.arange(len(blocks)))
    assert torch.equal(rows.values["mine"], x)
    assert torch.equal(rows.document * BLOCK_ROWS + rows.position, torch.arange(count))
    backwards = read_rows(source, blocks, torch.arange(len(blocks)).flip(0))
    assert torch.equal(backwards.values["mine"], torch.cat(list(reversed(x.split(BLOCK_ROWS)))))


def test_an_epoch_of_the_stream_is_every_row_once():
    count = 7 * BLOCK_ROWS + 5
    source = ArrayRows(torch.arange(count)[:, None].float())
    stream = ActivationStream(
        FiniteWindows(source.blocks()), source, batch_rows=count, chunk_rows=3 * BLOCK_ROWS, seed=0, total_rows=count
    )
    seen = next(stream).rows.values["x"].flatten()
    stream.close()
    assert torch.equal(seen.sort().values, torch.arange(count).float())
    assert not torch.equal(seen, torch.arange(count).float())


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f4", "<f8", ">f8"])
def test_every_float_type_of_a_file(dtype, tmp_path):
    x = ramp(100, 3).numpy().astype(dtype)
    np.save(tmp_path / "x.npy", x)
    for array in (x, np.load(tmp_path / "x.npy", mmap_mode="r"), np.asfortranarray(x)):
        source = ArrayRows(array)
        found = read_rows(source, source.blocks(), torch.arange(2)).values["x"]
        assert found.dtype == torch.float32
        assert np.array_equal(found.numpy(), x.astype(np.float32))


def test_no_read_is_longer_than_a_block_and_the_array_is_left_alone():
    class Watched(np.ndarray):
        longest = 0

        def __getitem__(self, key):
            part = np.asarray(super().__getitem__(key))
            Watched.longest = max(Watched.longest, len(part))
            return part

    x = ramp(1000, 3).numpy()
    x.flags.writeable = False
    source = ArrayRows(x.view(Watched))
    rows = read_rows(source, source.blocks(), torch.arange(16)).values["x"]
    assert Watched.longest == BLOCK_ROWS
    rows.zero_()
    assert x.any()


def test_what_is_no_array():
    with pytest.raises(UserError, match=r"x is a list\. Expected a torch tensor or a numpy array"):
        _checked([[1.0]], "x")  # type checks, which tests alone have, would come first elsewhere
