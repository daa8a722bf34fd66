"""A finite text as a whole: tokenised once, split by document, cut to the rows that are wanted."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus_cache import Corpus, cache_file, read_corpus, write_corpus
from sae.tokens.documents import DocumentSource
from sae.tokens.packing import Packer, Packing
from sae.tokens.split import HeldOutSplit
from sae.tokens.tokenisation import TokenisationSpec, TokenisedDocument, Tokenizer, tokenise

__all__ = ["Corpus", "cut_rows", "load_corpus", "load_held_out"]

logger = logging.getLogger(__name__)


def load_corpus(
    source: DocumentSource,
    tokenizer: Tokenizer,
    spec: TokenisationSpec,
    *,
    context_length: int,
    packing: Packing,
    min_tail: int,
    held_out_fraction: float,
    held_out_rows: int,
    max_rows: int | None,
    cache_dir: Path | None = None,
) -> Corpus:
    """Tokenise, split and pack a finite source.

    Args:
        source: a finite source.
        tokenizer: a Hugging Face tokenizer, or anything that is called like one.
        spec: the special ids that the model wants.
        context_length: positions in a block.
        packing: `document` or `concat`.
        min_tail: shortest tail that is kept, in tokens.
        held_out_fraction: share of held-out documents; 0 holds none out.
        held_out_rows: at most so many held-out rows.
        max_rows: at most so many distinct training rows; None for all.
        cache_dir: folder of tokenised texts. Caps do not count: one file serves all of them.

    Returns:
        The corpus, its blocks in document order.

    Raises:
        UserError: no documents, no held-out or training text, a setting out of range, or something wrong in the source.
        ValueError: the source is endless.
        OSError: the cache cannot be written.
    """
    if not source.finite:
        raise ValueError(f"{source.name!r} is endless: read it with `StreamedWindows` and `load_held_out`")
    packer = Packer(spec, context_length=context_length, packing=packing, min_tail=min_tail)
    split = HeldOutSplit(held_out_fraction)
    path = None
    if cache_dir is not None:
        settings = {
            "context_length": context_length,
            "packing": packing,
            "min_tail": min_tail,
            "held_out_fraction": float(held_out_fraction),
        }
        path = cache_file(cache_dir, source, tokenizer, spec, settings)
    corpus = read_corpus(path) if path is not None else None
    if corpus is None:
        corpus = _tokenise_corpus(source, tokenizer, packer, split)
        if path is not None:
            write_corpus(path, corpus)
    return replace(
        corpus,
        train=cut_rows(corpus.train, max_rows, setting="data.max_rows"),
        held_out=cut_rows(corpus.held_out, held_out_rows, setting="data.held_out_rows"),
    )


def load_held_out(
    source: DocumentSource,
    tokenizer: Tokenizer,
    spec: TokenisationSpec,
    *,
    context_length: int,
    packing: Packing,
    min_tail: int,
    held_out_fraction: float,
    held_out_rows: int,
) -> TokenBlocks:
    """The first held-out blocks of a stream, those that `StreamedWindows` leaves out: about `held_out_rows` rows.

    Raises:
        UserError: nothing is held out, a setting is out of range, or something is wrong in the source.
    """
    packer = Packer(spec, context_length=context_length, packing=packing, min_tail=min_tail)
    split = HeldOutSplit(held_out_fraction)
    held_out = split.held_out(enumerate(source.documents())) if held_out_fraction > 0 else iter(())
    enough = max(1, -(-held_out_rows // packer.room))
    blocks, _ = packer.pack(tokenise(held_out, tokenizer, spec), limit=enough)
    if blocks.num_rows == 0:
        raise UserError(
            f"No text of {source.name!r} is held out for evaluation with `data.held_out_fraction`={held_out_fraction}. "
            "Raise it, or give more text."
        )
    return blocks


def cut_rows(blocks: TokenBlocks, max_rows: int | None, *, setting: str) -> TokenBlocks:
    """Whole blocks of at most `max_rows` rows in all, in document order.

    Blocks are taken after a permutation that never changes, so that a cut corpus still mixes documents from everywhere, does
    not depend on a run's seed, and is part of every larger cut.

    Raises:
        UserError: `max_rows` is less than a block; the message names it as `setting`.
    """
    if max_rows is None or blocks.num_rows <= max_rows:
        return blocks
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))
    count = int((blocks.rows_per_block()[order].cumsum(0) <= max_rows).sum())
    if count == 0:
        raise UserError(
            f"`{setting}` is {max_rows}, fewer rows than one block of {blocks.context_length} positions gives. Raise it."
        )
    return blocks.select(order[:count].sort().values)


def _tokenise_corpus(source: DocumentSource, tokenizer: Tokenizer, packer: Packer, split: HeldOutSplit) -> Corpus:
    documents: Sequence[TokenisedDocument] = list(tokenise(enumerate(source.documents()), tokenizer, packer.spec))
    tokens = sum(len(document.ids) for document in documents)
    if tokens == 0:
        raise UserError(
            f"{source.name!r} is empty: {len(documents)} documents without a token. Expected text: check `data.path` "
            "and, where there is one, `data.column`."
        )
    held_out = split.of_corpus([document.key for document in documents])
    train_blocks, _ = packer.pack(document for document, out in zip(documents, held_out, strict=True) if not out)
    held_out_blocks, _ = packer.pack(document for document, out in zip(documents, held_out, strict=True) if out)
    for blocks, part in ((train_blocks, "training"), (held_out_blocks, "held-out")):
        if blocks.num_rows == 0 and (part == "training" or split.fraction > 0):
            raise UserError(
                f"The {part} documents of {source.name!r} hold no usable text ({len(documents)} documents, {tokens} tokens in "
                f"all): each is shorter than `data.min_tail`={packer.min_tail} tokens. Give more or longer documents, "
                "lower `data.min_tail`, or set `data.packing=concat`."
            )
    logger.info("tokenised %d documents of %s: %d tokens", len(documents), source.name, tokens)
    return Corpus(train=train_blocks, held_out=held_out_blocks, documents=len(documents), tokens=tokens)
