"""From a checked configuration to what a run works with: model, hook point, text, rows, held-out evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.activations.cache import cached_rows
from sae.activations.harvest import Harvester
from sae.activations.row_source import RowSource
from sae.activations.store import StoreDescription, store_bytes
from sae.activations.stored import StoredRows
from sae.activations.texts import tokenisation_spec
from sae.commands.settings import SourceConfig
from sae.errors import UserError
from sae.models.conversion import default_cache_dir
from sae.models.device import resolve_dtype
from sae.models.hook_points import HookPoint, resolve_hook_point
from sae.models.language_model import LanguageModel
from sae.models.loading import load_model
from sae.tokens.blocks import TokenBlocks
from sae.tokens.corpus import load_corpus, load_held_out
from sae.tokens.tokenisation import tokenizer_fingerprint
from sae.tokens.windows import BlockWindows, FiniteWindows, StreamedWindows

__all__ = [
    "Origin",
    "Text",
    "caches",
    "check_enough",
    "describe_store",
    "open_origin",
    "open_rows",
    "open_text",
]

Say = Callable[[str], None]
OnRows = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A model and a hook point in it, ready to be read.

    Attributes:
        config: what they were made from.
        model: the frozen transformer.
        hook_point: where activations are read.
    """

    config: SourceConfig
    model: LanguageModel
    hook_point: HookPoint

    @property
    def cache(self) -> Path:
        """Folder of everything that is made once and used again."""
        given = self.config.activations.cache_dir
        return Path(given).expanduser() if given is not None else default_cache_dir()

    @property
    def harvester(self) -> Harvester:
        """Runs the model for rows."""
        node = self.config.activations
        return Harvester(self.model, [self.hook_point], forward_blocks=node.forward_blocks, dtype=resolve_dtype(node.dtype))

    def text_provenance(self) -> dict[str, object]:
        """What identifies the text and its split into training and held-out documents."""
        return {**self.config.source.provenance(), "held_out_fraction": self.config.data.held_out_fraction}


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


def open_origin(config: SourceConfig) -> Origin:
    """Load the model and find the hook point.

    Raises:
        UserError: the model cannot be loaded or has no such place.
    """
    model = load_model(**config.model, dtype=config.trainer.model_dtype, device=config.trainer.device)
    return Origin(config=config, model=model, hook_point=resolve_hook_point(model, **config.hook))


def open_text(origin: Origin) -> Text:
    """Tokenise the text, split it by document, and say what training will read.

    Raises:
        UserError: the text cannot be read, is too short, or is not the one that a store was made from.
    """
    config, model, data = origin.config, origin.model, origin.config.data
    spec = tokenisation_spec(model)
    shape: dict[str, Any] = {
        "context_length": data.context_length,
        "packing": data.packing,
        "min_tail": data.min_tail,
        "held_out_fraction": data.held_out_fraction,
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
    stored = StoredRows(path, hook_points=[origin.hook_point.name], model=origin.model.provenance())
    text, expected = dict(stored.manifest.text), origin.text_provenance()
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
    return wanted if isinstance(wanted, bool) else train_tokens > text.train.num_rows


def check_enough(origin: Origin, text: Text, train_tokens: int) -> None:
    """Refuse a budget larger than the text, unless the text may be repeated.

    Raises:
        UserError: with both numbers.
    """
    if text.train is None or origin.config.data.repeat or train_tokens <= text.train.num_rows:
        return
    raise UserError(
        f"train.tokens={train_tokens} is more than the text has: {text.train.num_rows} training rows"
        + (f" ({text.documents} documents, {text.tokens} tokens)" if text.documents is not None else "")
        + ". Give more text, lower train.tokens, or allow several passes with data.repeat=true."
    )


def describe_store(origin: Origin) -> StoreDescription:
    """What a manifest says about the rows' origin."""
    point = origin.hook_point
    place = {"module": point.module, "tensor": point.tensor, "site": point.site, "layer": point.layer}
    return StoreDescription(
        model=origin.model.provenance(),
        hook_points={point.name: place},
        tokenizer={"sha256": tokenizer_fingerprint(origin.model.tokenizer)},
        text=origin.text_provenance(),
    )


def open_rows(origin: Origin, text: Text, *, cached: bool, say: Say, on_rows: OnRows) -> RowSource:
    """Where training's rows come from: the store that was named, the cache (filled first if need be), or the model."""
    if text.stored is not None:
        return text.stored
    if not cached or text.train is None:
        return origin.harvester
    size = store_bytes(text.train.num_rows, origin.harvester) / 1e9
    say(f"The run passes over {text.train.num_rows:,} rows more than once: they are kept in {origin.cache} ({size:.2f} GB).")
    return cached_rows(origin.cache / "activations", text.train, origin.harvester, describe_store(origin), on_rows=on_rows)
