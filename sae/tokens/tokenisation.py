"""Text to token ids: in batches, without special tokens of the tokenizer's own."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32

from sae.errors import UserError
from sae.tokens.documents import Document

__all__ = [
    "TokenisationSpec",
    "TokenisedDocument",
    "Tokenizer",
    "bare_ids",
    "tokenise",
    "tokenizer_fingerprint",
    "whole_characters",
]

# A Hugging Face tokenizer, or anything that takes a list of texts and gives a mapping with `input_ids`.
Tokenizer = Callable[..., Any]

BATCH_DOCUMENTS = 64
BATCH_CHARACTERS = 500_000


@dataclass(frozen=True, kw_only=True)
class TokenisationSpec:
    """The special ids that a model wants around its text.

    Attributes:
        document_start: id that opens a document, None for models that want none.
        document_end: id that closes it, None for none.
        pad: id on padded positions; never attended to.
        special: ids whose positions are never training rows, also where they occur inside the text.
        vocabulary_size: ids must be below it; None takes the length of the tokenizer.
    """

    document_start: int | None
    document_end: int | None
    pad: int
    special: frozenset[int]
    vocabulary_size: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenisedDocument:
    """A document's token ids, with its number in the source.

    Attributes:
        index: number of the document in its source.
        key: the document's key.
        ids: token ids [tokens].
        offset: how many of them (in concat packing: of the ids with the separators around them) are already packed.
    """

    index: int
    key: str
    ids: Int32[np.ndarray, " tokens"]
    offset: int = 0


def tokenise(
    numbered: Iterable[tuple[int, Document]], tokenizer: Tokenizer, spec: TokenisationSpec
) -> Iterator[TokenisedDocument]:
    """Token ids of numbered documents, in their order; a few documents are read ahead.

    Raises:
        UserError: an id lies outside the vocabulary.
    """
    size = spec.vocabulary_size if spec.vocabulary_size is not None else _size_of(tokenizer)
    for batch in _batches(numbered):
        texts = [whole_characters(document.text) for _, document in batch if document.text is not None]
        encoded = iter(bare_ids(texts, tokenizer))
        for index, document in batch:
            ids = np.asarray(next(encoded) if document.ids is None else document.ids, dtype=np.int64)
            outside = ids[(ids < 0) | (ids >= size)]
            if len(outside):
                raise UserError(
                    f"Document {index} holds the token id {outside[0]}, outside the vocabulary of {size} ids. "
                    "Was the text tokenised for another model? Choose that model, or tokenise the text anew."
                )
            ids = ids.astype(np.int32)
            yield TokenisedDocument(index=index, key=document.key, ids=_bare(ids, spec) if document.ids is not None else ids)


def bare_ids(texts: Sequence[str], tokenizer: Tokenizer) -> list[Sequence[int]]:
    """Token ids of texts without special tokens; text that spells one stays text.

    Args:
        texts: of whole characters.
        tokenizer: any.
    """
    return list(tokenizer(list(texts), **_options(tokenizer))["input_ids"]) if texts else []


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of what a tokenizer does to text: equal for equal tokenizers, however they were loaded.

    Raises:
        TypeError: the tokenizer can neither be written down nor list its vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        description = json.loads(backend.to_str())
        # The last call's truncation and padding stay behind in the tokenizer; they are no part of what it is.
        description = {key: value for key, value in description.items() if key not in ("truncation", "padding")}
    elif hasattr(tokenizer, "get_vocab"):
        description = [type(tokenizer).__name__, tokenizer.get_vocab()]
    else:
        raise TypeError(
            f"a {type(tokenizer).__name__} has neither `backend_tokenizer` nor `get_vocab`: it cannot be identified"
        )
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _batches(numbered: Iterable[tuple[int, Document]]) -> Iterator[list[tuple[int, Document]]]:
    batch: list[tuple[int, Document]] = []
    characters = 0
    for index, document in numbered:
        batch.append((index, document))
        characters += len(document.text or "")
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def whole_characters(text: str) -> str:
    """The text with unpaired surrogates, which no tokenizer takes, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _options(tokenizer: Tokenizer) -> dict[str, bool]:
    """Options of the call: text that spells a special token stays text, where the tokenizer knows how."""
    parameters = inspect.signature(tokenizer).parameters
    optional = {"split_special_tokens": True, "return_attention_mask": False, "verbose": False}
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return {"add_special_tokens": False} | {key: value for key, value in optional.items() if takes_any or key in parameters}


def _size_of(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else 2**31


def _bare(ids: Int32[np.ndarray, " tokens"], spec: TokenisationSpec) -> Int32[np.ndarray, " bare"]:
    """Ids of a row that was tokenised elsewhere, without its opening token, padding and closing token."""
    end = len(ids)
    trailing = [spec.pad] if spec.document_end is None else [spec.pad, spec.document_end]
    while end and ids[end - 1] in trailing:
        end -= 1
    start = int(end > 0 and spec.document_start is not None and ids[0] == spec.document_start)
    return ids[start:end]
