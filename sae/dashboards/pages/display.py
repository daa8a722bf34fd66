r"""Tokens as people read them: what a token adds to a text, whatever signs its tokenizer writes it with.

Tokens stand one after another on the pages, so a blank before a word is part of its token. Bytes that are no whole UTF-8
character show as `\xe2\x80`, the way Python writes them; so do lone surrogates, as `\ud83d`.
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sae.tokens.tokenisation import bare_ids, whole_characters

__all__ = ["displayed", "displayed_text", "displayed_together"]

MOST_CHARACTERS = 256
"""Characters of a token that are shown; of what is longer the beginning, with its length."""

Signs = Literal["bytes", "sentencepiece", "wordpiece", "words"]

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BLANK = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's
MARKS: dict[Signs, str] = {"bytes": "Ġ", "sentencepiece": BLANK, "wordpiece": "##"}


def displayed(tokenizer: Any) -> Callable[[int], str]:
    """What a token id is shown as.

    Args:
        tokenizer: a Hugging Face tokenizer, or anything with `get_vocab`; None where there are only ids.

    Returns:
        A function of a token id. An id that the tokenizer does not know shows as `<id 17>`.
    """
    if tokenizer is None:
        return lambda token: f"<id {token}>"
    pieces, whole = _vocabulary(tokenizer)
    signs = _signs(tokenizer, list(pieces.values()))

    @lru_cache(maxsize=2**17)
    def shown(token: int) -> str:
        if token in whole:
            return _cut(whole[token])
        return _cut(_read(pieces[token], signs)) if token in pieces else f"<id {token}>"

    return shown


def displayed_together(tokenizer: Any) -> Callable[[Sequence[int]], list[str]]:
    """What the tokens of one text are shown as, one after another.

    A character whose bytes lie in several tokens stands at the first of them, and the others show what else they hold, which
    may be nothing: in a row they are the text.

    Args:
        tokenizer: as in `displayed`.

    Returns:
        A function of token ids in the order of the text.
    """
    show = displayed(tokenizer)
    if tokenizer is None:
        return lambda tokens: [show(token) for token in tokens]
    pieces, whole = _vocabulary(tokenizer)
    signs = _signs(tokenizer, list(pieces.values()))

    def shown(tokens: Sequence[int]) -> list[str]:
        texts = [show(token) for token in tokens]
        first, before, begun = 0, "", b""  # where a character begins, what that token holds before it, and its bytes so far
        for place, token in enumerate(tokens):
            raw = None if token in whole or token not in pieces else _raw(pieces[token], signs)
            if raw is None:
                begun = b""
                continue
            known, text, rest = _read_on(begun, raw)
            own = text
            if known and text:
                texts[first], own = before + text[0], text[1:]
                texts[first + 1 : place + 1] = [*[""] * (place - first - 1), own + rest.decode("utf-8", "backslashreplace")]
            if text or not known:
                first, before = place, own
            begun = rest
        return texts

    return shown


def displayed_text(tokenizer: Any) -> Callable[[str], str]:
    """What a text is shown as, once it is tokens.

    Vocabularies differ in what they keep: an uncased one shows `Café` as ` cafe`, one of wordpieces parts Chinese characters.

    Args:
        tokenizer: as in `displayed`.

    Returns:
        A function of a text. One that the vocabulary does not hold is shown as it is.
    """
    if tokenizer is None:
        return str
    together, unknown = displayed_together(tokenizer), getattr(tokenizer, "unk_token_id", None)

    def shown(text: str) -> str:
        (ids,) = bare_ids([whole_characters(text)], tokenizer)
        return text if unknown in ids else "".join(together(ids))

    return shown


def _vocabulary(tokenizer: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Pieces by their ids, and added tokens, which are written as they are."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    pieces = {number: piece for piece, number in tokenizer.get_vocab().items()}
    return pieces, {number: str(token) for number, token in added.items()}


def _read(piece: str, signs: Signs) -> str:
    """The text that a piece of a vocabulary stands for."""
    raw = _raw(piece, signs)
    if raw is not None:
        return raw.decode("utf-8", "backslashreplace")
    if signs == "bytes":
        return piece
    if signs == "sentencepiece":
        return piece.replace(BLANK, " ")
    if signs == "wordpiece":
        return piece[2:] if piece.startswith("##") and len(piece) > 2 else f" {piece}"
    return f" {piece}"


def _raw(piece: str, signs: Signs) -> bytes | None:
    """The bytes that a piece stands for, which need not be whole characters; None for pieces that are made of characters."""
    if signs == "bytes":
        table = _bytes_of_characters()
        return bytes(table[character] for character in piece) if all(character in table for character in piece) else None
    byte = BYTE_TOKEN.fullmatch(piece) if signs == "sentencepiece" else None
    return None if byte is None else bytes.fromhex(byte[1])


def _read_on(begun: bytes, raw: bytes) -> tuple[bytes, str, bytes]:
    """Of the bytes of a character that has begun and those that follow: which of the former count, the text, and the rest.

    Bytes that nothing can follow are given up, and what comes after them is read by itself.
    """
    for known in dict.fromkeys((begun, b"")):
        try:
            text, read = codecs.utf_8_decode(known + raw, "strict", False)
        except UnicodeDecodeError:
            continue
        return known, text, (known + raw)[read:]
    return b"", "", b""


def _cut(text: str) -> str:
    text = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _signs(tokenizer: Any, pieces: Sequence[str]) -> Signs:
    """How pieces are written: as the tokenizer's own decoder says, or else as most of the vocabulary looks."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        kinds = {str(node.get("type")) for node in _nodes(json.loads(backend.to_str()).get("decoder"))}
        if "ByteLevel" in kinds:
            return "bytes"
        if kinds & {"ByteFallback", "Metaspace"}:
            return "sentencepiece"
        if "WordPiece" in kinds:
            return "wordpiece"
    counts: list[tuple[int, Signs]] = [
        (sum(piece.startswith(mark) for piece in pieces), signs) for signs, mark in MARKS.items()
    ]
    count, signs = max(counts)
    return signs if count else "words"


def _nodes(decoder: Any) -> list[Mapping[str, Any]]:
    """The decoder's description, and those of its parts where it is a sequence."""
    if not isinstance(decoder, Mapping):
        return []
    return [decoder, *(node for part in decoder.get("decoders", ()) for node in _nodes(part))]


@lru_cache(maxsize=1)
def _bytes_of_characters() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's table, Radford et al. 2019).

    Bytes that are printable in Latin-1 stand for themselves; the others are numbered from 256 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
