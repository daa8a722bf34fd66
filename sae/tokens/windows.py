"""What training reads: one window of blocks after another, the place in the text kept in a few integers."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Protocol, final, runtime_checkable

from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks
from sae.tokens.documents import DocumentSource
from sae.tokens.packing import Packer, Packing
from sae.tokens.split import HeldOutSplit
from sae.tokens.tokenisation import TokenisationSpec, TokenisedDocument, Tokenizer, tokenise

__all__ = ["BlockWindows", "FiniteWindows", "StreamedWindows"]


@runtime_checkable
class BlockWindows(Protocol):
    """Windows of blocks, endlessly one after another."""

    @property
    def index(self) -> int:
        """Number of the current window, from 0: it seeds the window's permutation."""
        ...

    def current(self) -> TokenBlocks:
        """The current window's blocks, in document order."""
        ...

    def advance(self) -> None:
        """Go to the next window."""
        ...

    def state_dict(self) -> dict[str, int]:
        """Where the current window begins."""
        ...

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go back to where `state_dict` was taken."""
        ...


@final
class FiniteWindows:
    """A whole corpus as every window: a window is an epoch.

    Args:
        blocks: the corpus.

    Raises:
        ValueError: there are no blocks.
    """

    def __init__(self, blocks: TokenBlocks) -> None:
        if len(blocks) == 0:
            raise ValueError("a corpus without blocks gives no windows")
        self._blocks = blocks
        self._index = 0

    @property
    def index(self) -> int:
        """Number of the epoch, from 0."""
        return self._index

    def current(self) -> TokenBlocks:
        """All blocks, in document order."""
        return self._blocks

    def advance(self) -> None:
        """Go to the next epoch."""
        self._index += 1

    def state_dict(self) -> dict[str, int]:
        """The epoch's number."""
        return {"index": self._index}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to the epoch where `state_dict` was taken."""
        self._index = state["index"]


@dataclass(frozen=True)
class _Cursor:
    """Where a window begins: token `start_token` of document `start_document`, in the pass over the text of that number."""

    index: int = 0
    passes: int = 0
    start_document: int = 0
    start_token: int = 0
    rows: int = 0  # training rows of all windows before this one


@final
class StreamedWindows:
    """A stream of documents in windows of `window_blocks` blocks; only the last window before the text ends is shorter.

    All windows of a pass, one after another, are the blocks that the whole training text packs into. Nothing is read before
    `current` is called.

    Args:
        source: the documents.
        tokenizer: a Hugging Face tokenizer, or anything that is called like one.
        spec: the special ids that the model wants.
        held_out_fraction: share of documents that are left out here, as `is_held_out` says.
        context_length: positions in a block.
        packing: `document` or `concat`.
        window_blocks: blocks in a window.
        min_tail: shortest tail that is kept, in tokens.
        repeat: whether the text begins again when it ends.

    Raises:
        UserError: a setting is out of range.
    """

    def __init__(
        self,
        source: DocumentSource,
        tokenizer: Tokenizer,
        spec: TokenisationSpec,
        *,
        held_out_fraction: float,
        context_length: int,
        packing: Packing,
        window_blocks: int,
        min_tail: int,
        repeat: bool = False,
    ) -> None:
        if window_blocks < 1:
            raise UserError(f"`data.window_blocks` is {window_blocks}. Expected at least 1; the default is 8192.")
        self._source = source
        self._tokenizer = tokenizer
        self._packer = Packer(spec, context_length=context_length, packing=packing, min_tail=min_tail)
        self._split = HeldOutSplit(held_out_fraction)
        self._window_blocks = window_blocks
        self._repeat = repeat
        self._cursor = _Cursor()
        self._stream: Iterator[TokenisedDocument] | None = None
        self._window: TokenBlocks | None = None
        self._rest: TokenisedDocument | None = None

    @property
    def index(self) -> int:
        """Number of the window, from 0; it goes on counting where the text begins again."""
        return self._cursor.index

    def current(self) -> TokenBlocks:
        """The current window's blocks, in document order.

        Raises:
            UserError: the text has ended and does not repeat, or holds nothing to train on.
        """
        if self._window is None:
            self._window = self._read()
        return self._window

    def advance(self) -> None:
        """Go to the next window; an end of the text shows when that window is read."""
        window = self.current()
        cursor = replace(self._cursor, index=self._cursor.index + 1, rows=self._cursor.rows + window.num_rows)
        if self._rest is None:
            cursor = replace(cursor, passes=cursor.passes + 1, start_document=0, start_token=0)
            self._stream = None
        else:
            cursor = replace(cursor, start_document=self._rest.index, start_token=self._rest.offset)
            self._stream = chain([self._rest], self._stream or ())
        self._cursor = cursor
        self._window = None

    def state_dict(self) -> dict[str, int]:
        """Where the current window begins."""
        return asdict(self._cursor)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go back to where `state_dict` was taken; the window is packed anew when it is asked for."""
        self._cursor = _Cursor(**state)
        self._stream = None
        self._window = None

    def _read(self) -> TokenBlocks:
        if self._cursor.passes and not self._repeat:
            raise UserError(
                f"The text ended after {self._cursor.rows} training tokens. Lower `train.tokens`, give more text, "
                "or let it repeat by `data.repeat=true`."
            )
        if self._stream is None:
            self._stream = self._open()
        window, self._rest = self._packer.pack(self._stream, limit=self._window_blocks)
        if len(window):
            return window
        if self._cursor.start_document == 0 and self._cursor.start_token == 0:
            raise UserError(
                f"{self._source.name!r} holds no text to train on: no document outside the held-out share has "
                f"`data.min_tail`={self._packer.min_tail} tokens. Give more or longer documents."
            )
        # What was left after the last full window is too short for a block: the text has ended.
        self._cursor = replace(self._cursor, passes=self._cursor.passes + 1, start_document=0, start_token=0)
        self._stream = None
        return self._read()

    def _open(self) -> Iterator[TokenisedDocument]:
        cursor = self._cursor
        numbered = enumerate(self._source.documents(cursor.start_document), start=cursor.start_document)
        stream = tokenise(self._split.train(numbered), self._tokenizer, self._packer.spec)
        if cursor.start_token == 0:
            return stream
        first = next(stream, None)
        if first is None or first.index != cursor.start_document:
            raise UserError(
                f"Document {cursor.start_document} of {self._source.name!r}, where the run stopped, is not there any more: "
                "the text has changed. Restore it, or start a new run."
            )
        return chain([replace(first, offset=cursor.start_token)], stream)
