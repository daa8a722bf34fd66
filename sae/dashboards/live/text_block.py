"""A text that is typed in, as the one block of tokens that a model reads."""

from sae.activations.texts import token_blocks
from sae.errors import UserError
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks
from sae.tokens.tokenisation import whole_characters

__all__ = ["TextTooLong", "beginning", "one_block"]

TITLE_CHARACTERS = 60


class TextTooLong(UserError):
    """A text that is refused for its size."""


def one_block(model: LanguageModel, text: str, *, max_characters: int, max_tokens: int) -> TokenBlocks:
    """The text as one block, opened and closed as the model wants it.

    Args:
        model: a model with a tokenizer.
        text: any; unpaired surrogates become U+FFFD, which tokenizers can read.
        max_characters: of the text.
        max_tokens: of the block.

    Raises:
        TextTooLong: it has more characters or tokens than are read at once.
        UserError: it has no token.
    """
    if len(text) > max_characters:
        raise TextTooLong(f"The text has {len(text):,} characters; at most {max_characters:,} are read. Shorten it.")
    blocks = token_blocks(model, whole_characters(text), context_length=max_tokens)
    if len(blocks) > 1:
        raise TextTooLong(
            f"The text has {int(blocks.keep.sum()):,} tokens; at most {max_tokens:,} are read at once, with the marks that the "
            "model wants around a text. Shorten it."
        )
    return blocks


def beginning(text: str) -> str:
    """The first words of a text on one line, for a title."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else f"{line[:TITLE_CHARACTERS].rstrip()} …"
