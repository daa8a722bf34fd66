import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.errors import UserError
from sae.tokens.corpus import load_held_out
from sae.tokens.documents import Document
from sae.tokens.packing import Packer, pack_documents
from sae.tokens.split import is_held_out
from sae.tokens.tokenisation import tokenise
from sae.tokens.windows import BlockWindows, FiniteWindows, StreamedWindows

WORDS = st.lists(st.lists(st.integers(0, 29), max_size=30), min_size=1, max_size=10)
OPTIONS = {"held_out_fraction": 0.3, "context_length": 6, "window_blocks": 3, "min_tail": 2}


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("ids", "attention", "keep", "document"))


def read_windows(windows, count):
    for _ in range(count):
        windows.current()
        windows.advance()


def whole_training_text(words, list_source, tokenizer, spec, packing):
    packer = Packer(spec, context_length=6, packing=packing, min_tail=2)
    numbered = [item for item in enumerate(list_source(words).documents()) if not is_held_out(item[1].key, 0.3)]
    return packer.pack(tokenise(numbered, tokenizer, spec))[0]


@settings(max_examples=40, deadline=None)
@given(words=WORDS, packing=st.sampled_from(["document", "concat"]))
def test_windows_of_a_pass_are_the_whole_text_and_the_next_pass_repeats_it(words, packing, list_source, tokenizer, spec):
    whole = whole_training_text(words, list_source, tokenizer, spec, packing)
    if len(whole) == 0:
        return
    windows = StreamedWindows(list_source(words), tokenizer, spec, packing=packing, repeat=True, **OPTIONS)
    count = -(-len(whole) // 3)
    for number in range(2 * count):
        assert windows.index == number
        first = 3 * (number % count)
        expected = whole.select(torch.arange(first, min(first + 3, len(whole))))
        assert same(windows.current(), expected)
        windows.advance()
    windows.current()  # an end too short for a block is seen only here
    assert windows.state_dict()["passes"] == 2
    assert windows.state_dict()["rows"] == 2 * whole.num_rows


@settings(max_examples=40, deadline=None)
@given(words=WORDS, packing=st.sampled_from(["document", "concat"]), stop=st.integers(0, 6), read=st.booleans())
def test_resume_at_any_window_equals_never_stopped(words, packing, stop, read, list_source, tokenizer, spec):
    def fresh():
        return StreamedWindows(list_source(words), tokenizer, spec, packing=packing, repeat=True, **OPTIONS)

    if len(whole_training_text(words, list_source, tokenizer, spec, packing)) == 0:
        return
    windows = fresh()
    for _ in range(stop):
        windows.advance()
    if read:
        windows.current()
    state = windows.state_dict()
    assert all(type(value) is int for value in state.values())
    resumed = fresh()
    resumed.current()  # what was read before must not shine through
    resumed.load_state_dict(state)
    for _ in range(4):
        assert resumed.index == windows.index
        assert same(resumed.current(), windows.current())
        assert resumed.state_dict() == windows.state_dict()
        resumed.advance()
        windows.advance()


def test_a_stream_is_opened_once_and_only_when_asked(list_source, tokenizer, spec):
    source = list_source([[number % 30] * 20 for number in range(30)], finite=False)
    windows = StreamedWindows(source, tokenizer, spec, packing="document", **OPTIONS)
    assert source.reads == 0
    read_windows(windows, 5)
    assert source.reads == 1


def test_a_stream_that_ends_says_how_many_tokens_it_had(list_source, tokenizer, spec):
    words = [[number] * 5 for number in range(20)]
    windows = StreamedWindows(list_source(words), tokenizer, spec, packing="document", **OPTIONS)
    rows = whole_training_text(words, list_source, tokenizer, spec, "document").num_rows
    with pytest.raises(UserError, match=rf"The text ended after {rows} training tokens.*`data.repeat=true`"):
        read_windows(windows, 20)
    assert 1 < windows.index < 20


def test_a_stream_without_training_text_is_refused(list_source, tokenizer, spec):
    for words in ([], [[]], [[1]]):
        windows = StreamedWindows(list_source(words), tokenizer, spec, packing="document", repeat=True, **OPTIONS)
        with pytest.raises(UserError, match="'list' holds no text to train on"):
            windows.current()


def test_text_that_changed_since_the_checkpoint_is_refused(list_source, tokenizer, spec):
    options = OPTIONS | {"held_out_fraction": 0.0}
    windows = StreamedWindows(list_source([[0] * 40]), tokenizer, spec, packing="document", **options)
    windows.advance()
    state = windows.state_dict()
    assert state["start_token"] == 15
    resumed = StreamedWindows(list_source([]), tokenizer, spec, packing="document", **options)
    resumed.load_state_dict(state)
    with pytest.raises(UserError, match="Document 0 of 'list', where the run stopped, is not there any more"):
        resumed.current()


def test_an_empty_window_is_refused(list_source, tokenizer, spec):
    with pytest.raises(UserError, match=r"`data.window_blocks` is 0"):
        StreamedWindows(list_source([]), tokenizer, spec, packing="document", **(OPTIONS | {"window_blocks": 0}))


def test_held_out_blocks_of_a_stream_share_no_document_with_its_windows(list_source, tokenizer, spec):
    words = [[number % 30, number // 30] * 5 for number in range(100)]
    options = {"context_length": 6, "packing": "document", "min_tail": 2}
    held_out = load_held_out(list_source(words), tokenizer, spec, held_out_fraction=0.3, held_out_rows=50, **options)
    assert 30 <= held_out.num_rows <= 50
    windows = StreamedWindows(list_source(words), tokenizer, spec, packing="document", **OPTIONS)
    seen = set()
    while windows.index < 30:
        seen |= set(windows.current().document.unique().tolist())
        windows.advance()
    assert not seen & set(held_out.document.unique().tolist()) - {-1}
    for fraction, source in ((0.0, list_source(words)), (0.3, list_source([]))):
        with pytest.raises(UserError, match="No text of 'list' is held out"):
            load_held_out(source, tokenizer, spec, held_out_fraction=fraction, held_out_rows=50, **options)


def test_finite_windows_are_the_same_blocks_every_epoch(tokenizer, spec):
    blocks = pack_documents([Document.of_text("w1 w2 w3")], tokenizer, spec, context_length=4, min_tail=1)
    windows = FiniteWindows(blocks)
    assert isinstance(windows, BlockWindows)
    assert windows.current() is blocks
    windows.advance()
    windows.advance()
    assert windows.index == 2
    resumed = FiniteWindows(blocks)
    resumed.load_state_dict(windows.state_dict())
    assert resumed.index == 2
    assert resumed.current() is blocks
    with pytest.raises(ValueError, match="without blocks"):
        FiniteWindows(blocks.select(torch.arange(0)))
