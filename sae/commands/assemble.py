"""What a run reads of its origin: the text in blocks, and rows of activations from the model, a store or the cache."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sae.activations.cache import cached_rows
from sae.activations.row_source import RowSource
from sae.activations.store import store_bytes
from sae.activations.stored import StoredRows
from sae.activations.texts import tokenisation_spec
from sae.commands.origin import Origin
from sae.commands.provenance import describe_store, model_provenance, text_provenance
from sae.errors import UserError
from sae.functional.devices import CPU
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import load_corpus, load_held_out
from sae.tokens.windows import BlockWindows, FiniteWindows, StreamedWindows

__all__ = ["OnRows", "Text", "caches", "check_enough", "open_rows", "open_text"]

Say = Callable[[str], None]
OnRows = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text in blocks.

    Attributes:
        windows: what training reads.
        train: the training blocks of a finite text; null for a stream.
        held_out: blocks that no training row comes from.
        documents: documents in a finite text.
        tokens: tokens in a finite text.
        stored: the store that the rows come from, if they do.
    """

    windows: BlockWindows
    train: TokenBlocks | None
    held_out: TokenBlocks
    documents: int | None
    tokens: int | None
    stored: StoredRows | None


def open_text(origin: Origin, *, whole: bool = False) -> Text:
    """Tokenise the text, split it by document, and say what training will read.

    Args:
        origin: model, hook points and source.
        whole: read all of a finite text: nothing is held out, and no short end of a document is dropped.

    Raises:
        UserError: the text cannot be read, is too short, or is not the one that a store was made from.
    """
    config, model, data = origin.config, origin.model, origin.config.data
    spec = tokenisation_spec(model)
    if origin.other_model is not None:  # ids must mean something to both
        spec = replace(spec, vocabulary_size=min(model.vocabulary_size, origin.other_model.vocabulary_size))
    shape: dict[str, Any] = {
        "context_length": data.context_length,
        "packing": data.packing,
        "min_tail": 1 if whole else data.min_tail,
        "held_out_fraction": 0.0 if whole else data.held_out_fraction,
    }
    stored = _open_store(origin) if config.activations.mode == "stored" else None
    if not config.source.finite:
        held_out = load_held_out(config.source, model.tokenizer, spec, **shape, held_out_rows=data.held_out_rows)
        windows: BlockWindows = StreamedWindows(
            config.source, model.tokenizer, spec, **shape, window_blocks=data.window_blocks, repeat=data.repeat
        )
        if stored is not None:
            windows = FiniteWindows(stored.blocks)
        return Text(
            windows=windows,
            train=None if stored is None else stored.blocks,
            held_out=held_out,
            documents=None,
            tokens=None,
            stored=stored,
        )
    corpus = load_corpus(
        config.source,
        model.tokenizer,
        spec,
        **shape,
        held_out_rows=data.held_out_rows,
        max_rows=data.max_rows,
        cache_dir=origin.cache / "texts",
    )
    train = corpus.train if stored is None else stored.blocks
    return Text(
        windows=FiniteWindows(train),
        train=train,
        held_out=corpus.held_out,
        documents=corpus.documents,
        tokens=corpus.tokens,
        stored=stored,
    )


def _open_store(origin: Origin) -> StoredRows:
    path = Path(str(origin.config.activations.path)).expanduser()
    stored = StoredRows(path, hook_points=[point.name for point in origin.hook_points], model=model_provenance(origin))
    text, expected = dict(stored.manifest.text), text_provenance(origin)
    different = [key for key in {**text, **expected} if text.get(key) != expected.get(key)]
    if different:
        raise UserError(
            f"The store {path} was made from another text or split than `data` says ({', '.join(sorted(different))} differ): "
            "held-out documents could have been trained on. Give the `data` settings that it was harvested with."
        )
    return stored


def caches(origin: Origin, text: Text, train_tokens: int) -> bool:
    """Whether the run writes its activations to the cache first: by default where it passes over the text more than once."""
    if text.stored is not None or text.train is None:
        return False
    wanted = origin.config.activations.cache
    return wanted if isinstance(wanted, bool) else train_tokens > origin.rows_of(text.train)


def check_enough(origin: Origin, text: Text, train_tokens: int, *, setting: str = "train.tokens") -> None:
    """Refuse a budget larger than the text, unless the text may be repeated.

    Raises:
        UserError: with both numbers.
    """
    if text.train is None or origin.config.data.repeat or train_tokens <= origin.rows_of(text.train):
        return
    raise UserError(
        f"{setting}={train_tokens} is more than the text has: {origin.rows_of(text.train)} training rows"
        + (f" ({text.documents} documents, {text.tokens} tokens)" if text.documents is not None else "")
        + f". Give more text, lower {setting}, or allow several passes with data.repeat=true."
    )


def open_rows(origin: Origin, text: Text, *, cached: bool, say: Say, on_rows: OnRows, device: torch.device = CPU) -> RowSource:
    """Where training's rows come from: the store that was named, the cache (filled first if need be), or the model.

    Hook points lie side by side in it, those that will be mixed too. Rows from the model are handed out on `device`.
    """
    if text.stored is not None:
        return text.stored
    if not cached or text.train is None:
        return origin.harvester_to(device)
    size = store_bytes(text.train.num_rows, origin.harvester) / 1e9
    rows = origin.rows_of(text.train)
    say(f"The run passes over {rows:,} rows more than once: they are kept in {origin.cache} ({size:.2f} GB).")
    return cached_rows(origin.cache / "activations", text.train, origin.harvester, describe_store(origin), on_rows=on_rows)
