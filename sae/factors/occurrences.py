"""Where words stand in a text, by what its tokens read as."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["MOST_CHARACTERS", "find_words", "word_pattern"]

MOST_CHARACTERS = 100  # of a word
PARTED = "\0"  # stands for a special token: neither a blank nor a letter
PIECE = re.compile(r"\w+|.")  # letters that belong together, or one other sign


def word_pattern(word: str) -> re.Pattern[str]:
    """What finds a word: whole, in large or small letters.

    Blanks may stand around its signs, as vocabularies of wordpieces show them: "don't" is found in "don ' t" too.

    Raises:
        UserError: it is empty, or too long to be one.
    """
    word = word.strip()
    if not word or len(word) > MOST_CHARACTERS:
        raise UserError(f"The word has {len(word)} characters. Expected 1 to {MOST_CHARACTERS}.")
    parts = r"\s+".join(r"\s*".join(map(re.escape, PIECE.findall(part))) for part in word.split())
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)


def find_words(
    blocks: TokenBlocks, patterns: Sequence[re.Pattern[str]], texts_of: Callable[[Sequence[int]], list[str]]
) -> list[list[tuple[int, int]]]:
    """For each pattern its places, as (block, position of the last token), in order.

    Special tokens and padding part the text: no word goes across them.

    Args:
        blocks: the text.
        patterns: of `word_pattern`.
        texts_of: the tokens of a text as people read them, from their ids in order.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in patterns]
    for number, (ids, keep) in enumerate(zip(blocks.ids.tolist(), blocks.keep.tolist(), strict=True)):
        parts = [shown if kept else PARTED for shown, kept in zip(texts_of(ids), keep, strict=True)]
        ends = list(accumulate(map(len, parts)))
        text = "".join(parts)
        for places, pattern in zip(found, patterns, strict=True):
            places += [(number, bisect_right(ends, match.end() - 1)) for match in pattern.finditer(text)]
    return found
