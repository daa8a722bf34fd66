"""Documents to token blocks.

`document` packing: a block is `[document_start] + tokens of one document (+ [document_end])`, so every context the model sees
begins as a document does. `concat` packing: documents run on, each with those ids around it, blocks are cut from the run
wherever they end, and attention crosses from one document into the next.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Int32

from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks
from sae.tokens.documents import Document
from sae.tokens.tokenisation import TokenisationSpec, TokenisedDocument, Tokenizer, tokenise

__all__ = ["Packer", "Packing", "TokenisationSpec", "pack_documents"]

Packing = Literal["document", "concat"]


def pack_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    spec: TokenisationSpec,
    *,
    context_length: int,
    packing: Packing = "document",
    min_tail: int = 16,
) -> TokenBlocks:
    """Blocks of all documents, in their order.

    Args:
        documents: what to pack.
        tokenizer: a Hugging Face tokenizer, or anything that is called like one.
        spec: the special ids that the model wants.
        context_length: positions in a block.
        packing: `document` or `concat`.
        min_tail: a document's (in concat packing: the run's) last tokens are dropped if fewer than this, else padded.

    Returns:
        The blocks; `document` counts `documents` from 0.

    Raises:
        UserError: a setting is out of range, or an id lies outside the vocabulary.
    """
    packer = Packer(spec, context_length=context_length, packing=packing, min_tail=min_tail)
    return packer.pack(tokenise(enumerate(documents), tokenizer, spec))[0]


@final
class Packer:
    """Packs tokenised documents into blocks, all of them or a given number at a time.

    Args:
        spec: the special ids that the model wants.
        context_length: positions in a block.
        packing: `document` or `concat`.
        min_tail: shortest tail that is kept, in tokens.

    Raises:
        UserError: a setting is out of range.
    """

    def __init__(self, spec: TokenisationSpec, *, context_length: int, packing: str, min_tail: int) -> None:
        if packing not in ("document", "concat"):
            raise UserError(f"`data.packing` is {packing!r}. Expected `document` or `concat`.")
        self.before = np.array([spec.document_start] if spec.document_start is not None else [], dtype=np.int32)
        self.after = np.array([spec.document_end] if spec.document_end is not None else [], dtype=np.int32)
        room = context_length - (len(self.before) + len(self.after) if packing == "document" else 0)
        if room < 1:
            raise UserError(f"`data.context_length` is {context_length}: no room for text. The default is 128.")
        if not 1 <= min_tail <= room:
            raise UserError(
                f"`data.min_tail` is {min_tail}. Expected 1 to {room}, the text tokens of a block with `data.context_length`="
                f"{context_length}; lower it or raise `data.context_length`."
            )
        self.spec = spec
        self.context_length = context_length
        self.packing = packing
        self.min_tail = min_tail
        self.room = room

    def pack(
        self, documents: Iterable[TokenisedDocument], *, limit: int | None = None
    ) -> tuple[TokenBlocks, TokenisedDocument | None]:
        """Blocks of the documents, at most `limit` of them.

        Returns:
            The blocks, and the document at which the limit stopped the packing, its `offset` set where the next block begins
            (None: the documents came to their end). Packing goes on exactly with that document and those after it.
        """
        rows = _Rows(self.context_length, self.spec.pad)
        fill = self._fill_by_document if self.packing == "document" else self._fill_in_one_run
        rest = fill(iter(documents), rows, limit)
        return rows.blocks(self.spec.special), rest

    def _fill_by_document(
        self, documents: Iterator[TokenisedDocument], rows: "_Rows", limit: int | None
    ) -> TokenisedDocument | None:
        for document in documents:
            for start in range(document.offset, len(document.ids), self.room):
                piece = document.ids[start : start + self.room]
                if len(piece) < self.min_tail:
                    break
                if len(rows) == limit:
                    return replace(document, offset=start)
                rows.open()
                rows.write(np.concatenate([self.before, piece, self.after]), document.index)
        return None

    def _fill_in_one_run(
        self, documents: Iterator[TokenisedDocument], rows: "_Rows", limit: int | None
    ) -> TokenisedDocument | None:
        for document in documents:
            if not len(document.ids):
                continue
            run = np.concatenate([self.before, document.ids, self.after])
            start = document.offset
            while start < len(run):
                if rows.space == 0:
                    if len(rows) == limit:
                        return replace(document, offset=start)
                    rows.open()
                piece = run[start : start + rows.space]
                rows.write(piece, document.index)
                start += len(piece)
        if rows.space and self.context_length - rows.space < self.min_tail:
            rows.drop()
        return None


@final
class _Rows:
    """Rows under construction: only the last one has space left."""

    def __init__(self, context_length: int, pad: int) -> None:
        self.empty_ids = np.full(context_length, pad, dtype=np.int32)
        self.empty_document = np.full(context_length, -1, dtype=np.int32)
        self.ids: list[np.ndarray] = []
        self.document: list[np.ndarray] = []
        self.space = 0

    def __len__(self) -> int:
        return len(self.ids)

    def open(self) -> None:
        """Begin a row, all padding."""
        self.ids.append(self.empty_ids.copy())
        self.document.append(self.empty_document.copy())
        self.space = len(self.empty_ids)

    def write(self, ids: Int32[np.ndarray, " tokens"], document: int) -> None:
        """Put ids of one document on the next positions of the last row."""
        start = len(self.empty_ids) - self.space
        self.ids[-1][start : start + len(ids)] = ids
        self.document[-1][start : start + len(ids)] = document
        self.space -= len(ids)

    def drop(self) -> None:
        """Take the last row away."""
        self.ids.pop()
        self.document.pop()
        self.space = 0

    def blocks(self, special: frozenset[int]) -> TokenBlocks:
        """The rows as blocks, with the masks made."""
        shape = (len(self), len(self.empty_ids))
        ids = np.stack(self.ids) if self.ids else np.empty(shape, dtype=np.int32)
        document = np.stack(self.document) if self.document else np.empty(shape, dtype=np.int32)
        # Padding is known by its document, not by its id: many models pad with a token that also occurs in text.
        attention = document >= 0
        keep = attention & ~np.isin(ids, np.array(sorted(special), dtype=np.int32))
        return TokenBlocks(
            ids=torch.from_numpy(ids),
            attention=torch.from_numpy(attention),
            keep=torch.from_numpy(keep),
            document=torch.from_numpy(document),
        )
