import json
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
import torch

from sae.activations.batch import ActivationRows
from sae.activations.chunks import ChunkReader
from sae.activations.shuffle import ActivationStream
from sae.errors import UserError
from sae.tokens.tokenisation import TokenisationSpec
from sae.tokens.windows import FiniteWindows, StreamedWindows
from tests.activations.fakes import FakeSource, make_blocks, rows_equal
from tests.tokens.conftest import ListSource, make_tokenizer


class WindowList:
    """Different blocks in every window, as a stream of text gives; ends like one."""

    def __init__(self, windows):
        self.windows, self.index = windows, 0

    def current(self):
        if self.index == len(self.windows):
            raise UserError("the text has ended")
        return self.windows[self.index]

    def advance(self):
        self.index += 1

    def state_dict(self):
        return {"index": self.index}

    def load_state_dict(self, state):
        self.index = state["index"]


def stream(*, windows=None, source=None, batch_rows=7, chunk_rows=16, seed=0, **settings):
    windows = windows or FiniteWindows(make_blocks())
    return ActivationStream(
        windows, source or FakeSource(), batch_rows=batch_rows, chunk_rows=chunk_rows, seed=seed, **settings
    )


def take(activation_stream, count):
    batches = [next(activation_stream) for _ in range(count)]
    activation_stream.close()
    return batches


def tokens(batches):
    return torch.cat([batch.rows.token for batch in batches]).tolist()


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "activation-harvest"]


def test_each_epoch_holds_every_row_once():
    blocks = make_blocks()
    rows = blocks.num_rows
    seen = tokens(take(stream(batch_rows=1), 3 * rows))
    epochs = [seen[i * rows : (i + 1) * rows] for i in range(3)]
    assert all(sorted(epoch) == sorted(blocks.ids[blocks.keep].tolist()) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_rows_of_a_chunk_are_permuted_anew_in_each_epoch():
    blocks = make_blocks()
    longest = blocks.select(blocks.rows_per_block().argmax()[None])
    rows = longest.num_rows
    seen = tokens(take(stream(windows=FiniteWindows(longest), batch_rows=1), 6 * rows))
    assert len({tuple(seen[epoch * rows : (epoch + 1) * rows]) for epoch in range(6)}) > 3


def test_rows_carry_their_own_values_and_places():
    blocks = make_blocks()
    for batch in take(stream(), 20):
        rows = batch.rows
        assert all(values.dtype == torch.float32 for values in rows.values.values())
        assert torch.equal(rows.values["a"][:, 0], rows.token * 10.0)
        assert torch.equal(rows.values["b"][:, 1], rows.token * 10.0 + 2)
        block = (rows.token - 1) // blocks.context_length
        assert torch.equal(rows.position, ((rows.token - 1) % blocks.context_length).int())
        assert torch.equal(rows.document, block.long() // 2)
        assert len(rows) == 7


def test_order_is_golden():
    """Moves only where the order of all future runs is meant to change."""
    assert tokens(take(stream(batch_rows=8), 1)) == [105, 46, 106, 6, 92, 44, 5, 4]


def test_order_depends_on_the_seed():
    assert tokens(take(stream(seed=0), 5)) != tokens(take(stream(seed=1), 5))


def test_order_depends_on_no_timing():
    """A source that is slow now and then, a consumer that is slow now and then, other pieces: the same batches."""
    expected = take(stream(), 25)
    slow_source = FakeSource(delay=lambda call: 0.004 * (call % 3))
    slow_source.piece_blocks = 3
    found, delayed = [], stream(source=slow_source)
    for number in range(25):
        found.append(next(delayed))
        time.sleep(0.003 * (number % 4))
    delayed.close()
    assert all(rows_equal(a.rows, b.rows) and a.cursor == b.cursor for a, b in zip(expected, found, strict=True))
    assert slow_source.threads == {"activation-harvest"}


@pytest.mark.parametrize("batch_rows", [1, 4, 7, 16, 50])
def test_order_does_not_depend_on_the_batch_size(batch_rows):
    wanted = tokens(take(stream(batch_rows=1), 100))
    assert tokens(take(stream(batch_rows=batch_rows), 100 // batch_rows)) == wanted[: 100 // batch_rows * batch_rows]


@pytest.mark.parametrize("batch_rows", [1, 5, 16, 40])
@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("multiple", [None, 1.5])
def test_resumed_after_any_batch_equals_never_stopped(batch_rows, endless, multiple):
    """Over the borders of chunks, epochs and windows, and where batches end right on a border."""

    def make():
        windows = WindowList([make_blocks(9, seed) for seed in range(40)]) if endless else FiniteWindows(make_blocks(9))
        return stream(windows=windows, batch_rows=batch_rows, chunk_rows=8, max_norm_multiple=multiple)

    count = 60 // batch_rows + 4
    whole = make()
    assert json.loads(json.dumps(whole.state_dict())) == whole.state_dict()
    start, batches, chunks = whole.state_dict(), [], []
    for _ in range(count):
        batches.append(next(whole))
        chunks.append(whole.current_chunk())
    whole.close()
    assert batches[-1].cursor["window/index"] >= 1
    for number, cursor in enumerate([start, *(batch.cursor for batch in batches[:-1])]):
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(cursor)))
        assert resumed.state_dict() == cursor
        if number:
            assert rows_equal(resumed.current_chunk(), chunks[number - 1])
        for expected in batches[number : number + 6]:
            found = next(resumed)
            assert rows_equal(found.rows, expected.rows)
            assert found.cursor == expected.cursor
        resumed.close()


def test_resumed_in_streamed_text_equals_never_stopped():
    """Windows that are packed from text while the stream runs, cut in the middle of documents, over several passes."""
    words = [[(7 * document + number) % 30 for number in range(5 + 9 * (document % 4))] for document in range(12)]
    spec = TokenisationSpec(document_start=1, document_end=None, pad=3, special=frozenset({0, 1, 2, 3}))

    def make():
        settings = {"held_out_fraction": 0.2, "context_length": 6, "packing": "document", "window_blocks": 7, "min_tail": 2}
        windows = StreamedWindows(ListSource(words), make_tokenizer(), spec, repeat=True, **settings)
        return stream(windows=windows, batch_rows=11, chunk_rows=16)

    whole = make()
    batches = [next(whole) for _ in range(40)]
    whole.close()
    assert batches[-1].cursor["window/passes"] >= 1
    for number in range(0, 36, 3):
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(batches[number].cursor)))
        for expected in batches[number + 1 : number + 4]:
            found = next(resumed)
            assert rows_equal(found.rows, expected.rows)
            assert found.cursor == expected.cursor
        resumed.close()


@pytest.mark.slow
def test_a_process_that_ends_does_not_sit_through_the_harvest():
    """Neither hangs nor crashes where the stream was never closed."""
    script = (
        "from tests.activations.fakes import FakeSource, make_blocks\n"
        "from sae.activations.shuffle import ActivationStream\n"
        "from sae.tokens.windows import FiniteWindows\n"
        "source = FakeSource(delay=lambda call: 0.2 if call > 140 else 0)\n"
        "stream = ActivationStream(FiniteWindows(make_blocks(800)), source, batch_rows=2, chunk_rows=1000, seed=0)\n"
        "next(stream)\n"
        "print('done', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"
    begin = time.monotonic()
    assert child.wait(timeout=60) == 0
    child.stdout.close()
    assert time.monotonic() - begin < 10  # the harvest itself takes more than 20 seconds


def test_one_stream_can_go_back():
    activation_stream = stream()
    batches = [next(activation_stream) for _ in range(9)]
    activation_stream.load_state_dict(batches[2].cursor)
    assert tokens([next(activation_stream) for _ in range(6)]) == tokens(batches[3:])
    activation_stream.close()


def test_state_is_small_and_plain():
    (batch,) = take(stream(), 1)
    assert batch.cursor == {"window/index": 0, "chunk": 0, "row": 7, "rows_taken": 7}
    assert all(type(value) is int for value in batch.cursor.values())


def test_a_cursor_of_other_settings_is_refused():
    resumed = stream()
    resumed.load_state_dict({"window/index": 0, "chunk": 99, "row": 0, "rows_taken": 0})
    with pytest.raises(ValueError, match="chunk 99 of window 0"):
        next(resumed)
    resumed.close()


def test_next_chunk_is_harvested_while_one_drains_and_no_further():
    source = FakeSource()
    blocks = make_blocks()
    activation_stream = stream(source=source, batch_rows=1, chunk_rows=16)
    plan = ChunkReader(FiniteWindows(blocks), FakeSource(), chunk_rows=16, seed=0, max_norm_multiple=None)
    sizes = [len(plan.read(lambda rows: None).rows) for _ in range(3)]
    next(activation_stream)
    deadline = time.monotonic() + 5
    while source.rows_given < sizes[0] + sizes[1] and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert source.rows_given == sizes[0] + sizes[1]
    activation_stream.close()


def test_nothing_is_harvested_before_it_is_asked_for_nor_beyond_the_budget():
    source = FakeSource()
    rows = make_blocks().num_rows
    activation_stream = stream(source=source, batch_rows=1, chunk_rows=16, total_rows=rows)
    assert source.calls == 0
    for _ in range(rows):
        next(activation_stream)
    time.sleep(0.05)
    assert source.rows_given == rows
    assert threads() == []
    assert sorted(tokens([next(activation_stream) for _ in range(rows)])) == sorted(
        make_blocks().ids[make_blocks().keep].tolist()
    )  # the budget only says when not to harvest ahead
    activation_stream.close()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_close_leaves_no_thread(taken):
    activation_stream = stream(source=FakeSource(delay=lambda call: 0.02), chunk_rows=40)
    for _ in range(taken):
        next(activation_stream)
    assert bool(threads()) == bool(taken)
    activation_stream.close()
    assert threads() == []
    with pytest.raises(StopIteration):
        next(activation_stream)
    with pytest.raises(RuntimeError, match="closed"):
        activation_stream.current_chunk()


def test_close_does_not_wait_for_a_whole_chunk():
    source = FakeSource(delay=lambda call: 0.02)
    activation_stream = stream(windows=FiniteWindows(make_blocks(400)), source=source, chunk_rows=10_000)
    threading.Timer(0.05, activation_stream.stop).start()  # as a signal handler would, while a batch is waited for
    assert list(activation_stream) == []
    activation_stream.close()
    assert source.calls < 20


def test_an_error_of_the_source_reaches_the_consumer_with_its_traceback():
    activation_stream = stream(source=FakeSource(fail_at=9, error=OSError("disk on fire")), batch_rows=4)
    with pytest.raises(OSError, match="disk on fire") as caught:
        list(activation_stream)
    assert "_explode" in "".join(traceback.format_tb(caught.value.__traceback__))
    with pytest.raises(OSError, match="disk on fire"):
        next(activation_stream)
    activation_stream.close()


def test_a_broken_source_does_not_end_the_stream_quietly():
    activation_stream = stream(source=FakeSource(fail_at=1, error=StopIteration()))
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(activation_stream)
    activation_stream.close()


def test_text_that_ends_shows_only_when_it_is_needed():
    blocks = make_blocks()
    activation_stream = stream(windows=WindowList([blocks]), batch_rows=1)
    assert len({next(activation_stream).rows.token.item() for _ in range(blocks.num_rows)}) == blocks.num_rows
    with pytest.raises(UserError, match="has ended"):
        next(activation_stream)
    activation_stream.close()


def test_a_window_of_special_tokens_alone_is_refused():
    blocks = make_blocks(4)
    blocks.keep[:] = False
    activation_stream = stream(windows=FiniteWindows(blocks))
    with pytest.raises(UserError, match="special tokens alone"):
        next(activation_stream)
    activation_stream.close()


@pytest.mark.parametrize(("key", "settings"), [("train.batch_tokens", {"batch_rows": 0}), ("chunk_tokens", {"chunk_rows": 0})])
def test_numbers_of_rows_below_one_are_refused(key, settings):
    with pytest.raises(UserError, match=key):
        stream(**settings)


def test_documents_in_a_batch_are_measured():
    activation_stream = stream(batch_rows=12)
    assert activation_stream.documents_per_batch == 0
    batches = [next(activation_stream) for _ in range(4)]
    activation_stream.close()
    assert activation_stream.documents_per_batch == sum(len(set(b.rows.document.tolist())) for b in batches) / 4


def test_waiting_is_counted():
    activation_stream = stream(source=FakeSource(delay=lambda call: 0.02))
    next(activation_stream)
    activation_stream.close()
    assert activation_stream.seconds_waiting >= 0.02


def test_outliers_are_dropped_by_one_limit_that_travels_with_the_state():
    blocks = make_blocks()
    kept = stream(batch_rows=1, max_norm_multiple=1.2)
    assert kept.norm_limits == {}
    first = kept.current_chunk()
    limits = kept.norm_limits
    median = FakeSource().rows(blocks, torch.arange(20)).values  # every row once
    assert set(limits) == {"a", "b"}
    assert all(bool((first.values[name].norm(dim=1) <= limit).all()) for name, limit in limits.items())
    inside = torch.stack([values.norm(dim=1) <= limits[name] for name, values in median.items()]).all(dim=0)
    assert 0 < int(inside.sum()) < blocks.num_rows
    batches = [next(kept) for _ in range(int(inside.sum()))]
    assert sorted(tokens(batches)) == sorted(blocks.ids[blocks.keep][inside].tolist())
    kept.close()
    resumed = stream(batch_rows=1, max_norm_multiple=1.2)
    resumed.load_state_dict(batches[-1].cursor)
    assert resumed.norm_limits == limits
    resumed.close()


def test_half_precision_rows_become_float32_batches():
    (batch,) = take(stream(source=FakeSource(dtype=torch.bfloat16)), 1)
    exact = batch.rows.token * 10.0
    assert batch.rows.values["a"].dtype == torch.float32
    assert torch.equal(batch.rows.values["a"][:, 0], exact.bfloat16().float())


def test_current_chunk_shares_memory_with_the_stream():
    activation_stream = stream()
    chunk = activation_stream.current_chunk()
    assert isinstance(chunk, ActivationRows)
    assert activation_stream.current_chunk().values["a"].data_ptr() == chunk.values["a"].data_ptr()
    activation_stream.close()
