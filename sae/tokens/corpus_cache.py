"""Tokenised text kept on disk, so that a second run does not tokenise it again."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sae.functional.files import write_whole
from sae.tokens.blocks import TokenBlocks
from sae.tokens.documents import DocumentSource
from sae.tokens.tokenisation import TokenisationSpec, Tokenizer, tokenizer_fingerprint

__all__ = ["Corpus", "cache_file", "read_corpus", "write_corpus"]

logger = logging.getLogger(__name__)

# Part of every cache file's name: raise it when sources, packing or the split change what they give.
FORMAT = 1
FIELDS = ("ids", "attention", "keep", "document")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A tokenised text, split by document.

    Attributes:
        train: blocks to train on.
        held_out: blocks to evaluate on; no document is in both.
        documents: documents in the source.
        tokens: tokens of all documents, before tails are dropped and rows are capped (`train.num_rows` is what training sees).
    """

    train: TokenBlocks
    held_out: TokenBlocks
    documents: int
    tokens: int


def cache_file(
    folder: Path, source: DocumentSource, tokenizer: Tokenizer, spec: TokenisationSpec, settings: dict[str, Any]
) -> Path:
    """The file that holds this text, tokenised by this tokenizer with these settings; each other combination has its own."""
    identity = {
        "format": FORMAT,
        "source": source.provenance(),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "spec": asdict(spec) | {"special": sorted(spec.special)},
        "settings": settings,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"tokens-{digest[:32]}.safetensors"


def write_corpus(path: Path, corpus: Corpus) -> None:
    """Write a corpus; the file appears whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    tensors = {
        f"{part}.{field}": getattr(getattr(corpus, part), field).contiguous()
        for part in ("train", "held_out")
        for field in FIELDS
    }
    numbers = {"documents": str(corpus.documents), "tokens": str(corpus.tokens)}
    write_whole(path, lambda aside: save_file(tensors, aside, metadata=numbers))


def read_corpus(path: Path) -> Corpus | None:
    """The corpus in a file; None where there is none, or none that can be read (it is then made anew)."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            numbers = file.metadata()
            parts: dict[str, dict[str, torch.Tensor]] = {
                part: {field: file.get_tensor(f"{part}.{field}") for field in FIELDS} for part in ("train", "held_out")
            }
    except SafetensorError as error:
        logger.warning("the cached tokens %s cannot be read (%s): tokenising again", path, error)
        return None
    return Corpus(
        train=TokenBlocks(**parts["train"]),
        held_out=TokenBlocks(**parts["held_out"]),
        documents=int(numbers["documents"]),
        tokens=int(numbers["tokens"]),
    )
