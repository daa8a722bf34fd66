"""Hidden states of all layers: of whole documents, mixed as one dictionary reads them, and of single words in their context."""

import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor

from sae.activations.texts import token_blocks, tokenisation_spec
from sae.errors import UserError
from sae.models.capture import capture
from sae.models.hook_points import HookPoint, resolve_hook_point
from sae.models.language_model import LanguageModel
from sae.models.loading import load_model
from sae.tokens.blocks import TokenBlocks
from sae.tokens.documents import Document
from sae.tokens.packing import pack_documents

__all__ = [
    "Place",
    "TokenisedText",
    "document_blocks",
    "hidden_states",
    "layer_points",
    "named_points",
    "open_model",
    "read_text",
    "states_at",
    "tokens_of_spans",
]

CONTEXT = 128
WINDOW = 64  # positions around a single word, as many as the paper's blocks have
AFTER = 15  # tokens after the word in its window; the rest of the window stands before it
FORWARD_BLOCKS = 32


@dataclass(frozen=True)
class Place:
    """A token of a text.

    Attributes:
        text: number of the text.
        token: number of the token in it, special tokens not counted.
    """

    text: int
    token: int


@dataclass(frozen=True, eq=False)
class TokenisedText:
    """A text's tokens, without special ones, and the characters [begin, end) of each."""

    ids: Int[np.ndarray, " tokens"]
    spans: Int[np.ndarray, "tokens 2"]


def open_model(name: str) -> LanguageModel:
    """A model by the name of its file in conf/model.

    Raises:
        UserError: there is no such file, or the model cannot be loaded.
    """
    file = importlib.resources.files("sae.conf").joinpath(f"model/{name}.yaml")
    if not file.is_file():
        raise UserError(f"--model={name}: there is no conf/model/{name}.yaml.")
    return load_model(**yaml.safe_load(file.read_text(encoding="utf-8")))


def layer_points(model: LanguageModel, every: int = 1) -> list[HookPoint]:
    """What goes into the first block, and what comes out of every so many blocks: hidden_states[0, every, 2 * every, ...]."""
    blocks = range(every - 1, model.num_layers, every)
    return [
        resolve_hook_point(model, site="resid_pre", layer=0),
        *(resolve_hook_point(model, site="resid_post", layer=block) for block in blocks),
    ]


def named_points(model: LanguageModel, names: Sequence[str]) -> list[HookPoint]:
    """The places that a dictionary of mixed layers names, such as `layers.3.resid_post`."""
    found = []
    for name in names:
        block = re.fullmatch(r"layers\.(\d+)\.(\w+)", name)
        site, layer = (name, None) if block is None else (block[2], int(block[1]))
        found.append(resolve_hook_point(model, site=site, layer=layer))
    return found


def read_text(model: LanguageModel, text: str) -> TokenisedText:
    """Tokenise one text."""
    found = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return TokenisedText(np.array(found["input_ids"], dtype=np.int64), np.array(found["offset_mapping"]).reshape(-1, 2))


def tokens_of_spans(text: TokenisedText, spans: Sequence[tuple[int, int]]) -> list[range]:
    """The tokens that share a character with each span [begin, end): a word's are its wordpieces or byte pairs.

    Spans are in the text's order and do not overlap. A span without a token of its own gives an empty range.
    """
    begins, ends = text.spans[:, 0], text.spans[:, 1]
    return [
        range(int(np.searchsorted(ends, begin, "right")), int(np.searchsorted(begins, end, "left"))) for begin, end in spans
    ]


def hidden_states(model: LanguageModel, points: Sequence[HookPoint], blocks: TokenBlocks) -> Float[Tensor, "rows layers width"]:
    """Activations at the kept positions of some blocks."""
    parts = []
    for begin in range(0, len(blocks), FORWARD_BLOCKS):
        some = slice(begin, begin + FORWARD_BLOCKS)
        states = capture(model, blocks.ids[some], blocks.attention[some], points)
        parts.append(torch.stack([states[point.name][blocks.keep[some]] for point in points], dim=1).float())
    return torch.cat(parts)


def states_at(
    model: LanguageModel, points: Sequence[HookPoint], texts: Sequence[TokenisedText], places: Sequence[Place]
) -> Float[Tensor, "places layers width"]:
    """Activations at single tokens, each read in a window of its own, with as much text before it as a block has room for."""
    spec = tokenisation_spec(model)
    marks = (spec.document_start is not None) + (spec.document_end is not None)
    before = WINDOW - marks - 1 - AFTER
    windows = [(max(0, place.token - before), place.token + AFTER + 1) for place in places]
    documents = [
        Document.of_ids(texts[place.text].ids[begin:end].tolist()) for place, (begin, end) in zip(places, windows, strict=True)
    ]
    blocks = pack_documents(documents, model.tokenizer, spec, context_length=WINDOW, min_tail=1)
    if len(blocks) != len(places):
        raise ValueError(f"{len(places)} windows gave {len(blocks)} blocks")
    position = torch.tensor([place.token - begin for place, (begin, _) in zip(places, windows, strict=True)])
    position += spec.document_start is not None
    wanted = torch.tensor([texts[place.text].ids[place.token] for place in places])
    if not torch.equal(blocks.ids[torch.arange(len(places)), position].long(), wanted):
        raise ValueError("a window does not hold its token where it is looked for")
    parts = []
    for begin in range(0, len(blocks), FORWARD_BLOCKS):
        some = slice(begin, begin + FORWARD_BLOCKS)
        states = capture(model, blocks.ids[some], blocks.attention[some], points)
        rows = torch.arange(len(blocks.ids[some]))
        parts.append(torch.stack([states[point.name][rows, position[some]] for point in points], dim=1).float())
    return torch.cat(parts)


def document_blocks(model: LanguageModel, texts: Sequence[str]) -> tuple[TokenBlocks, list[TokenisedText]]:
    """Whole documents as blocks, and the tokens at their kept positions: special ones, such as [UNK], are left out.

    Raises:
        ValueError: the tokens are not those of the kept positions, in order.
    """
    blocks, tokens = token_blocks(model, texts, context_length=CONTEXT), []
    for text in texts:
        found = read_text(model, text)
        plain = ~np.isin(found.ids, list(model.special))
        tokens.append(TokenisedText(found.ids[plain], found.spans[plain]))
    if not np.array_equal(blocks.ids[blocks.keep].numpy(), np.concatenate([text.ids for text in tokens])):
        raise ValueError("the kept positions of the blocks are not the tokens of the texts")
    return blocks, tokens
