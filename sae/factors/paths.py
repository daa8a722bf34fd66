"""A text's path: how the factors of each of its tokens change layer by layer."""

from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from sae.dashboards.factor_schema import PathPage, PathToken
from sae.dashboards.live.text_block import beginning, one_block
from sae.factors.strongest_factors import strongest_by_layer
from sae.factors.subject import FactorSubject
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks
from sae.tokens.tokenisation import whole_characters

__all__ = ["PathReader", "path_blocks"]

MOST_CHARACTERS, MOST_TOKENS = 20_000, 1024  # of a text


@final
class PathReader:
    """Reads texts through a model and a dictionary over several of its layers.

    Args:
        subject: model, dictionary and layers.
        texts_of: what the tokens of a text are shown as, from their ids in order.
        strongest: factors listed on a token at each layer, at most.
        max_characters: of a text.
        max_tokens: of a text, with the marks around it; fewer where the model reads fewer at once.
    """

    def __init__(
        self,
        subject: FactorSubject,
        *,
        texts_of: Callable[[Sequence[int]], list[str]],
        strongest: int = 10,
        max_characters: int = MOST_CHARACTERS,
        max_tokens: int = MOST_TOKENS,
    ) -> None:
        self.subject, self._texts_of, self._strongest = subject, texts_of, strongest
        self.max_characters = max_characters
        self.max_tokens = _at_most(subject.model, max_tokens)

    def page(self, text: str) -> PathPage:
        """The page of a text.

        Args:
            text: up to `max_characters` and `max_tokens`.

        Raises:
            UserError: the text is too long or has no token, or the model's activations are not finite.
        """
        blocks = path_blocks(self.subject.model, text, max_characters=self.max_characters, max_tokens=self.max_tokens)
        kept, ids = blocks.keep[0].tolist(), blocks.ids[0].tolist()
        layers = iter(
            strongest_by_layer(
                self.subject.codes(blocks),
                np.arange(blocks.num_rows),
                num_layers=self.subject.num_layers,
                count=self._strongest,
            )
        )
        text = whole_characters(text)
        return PathPage(
            title=beginning(text),
            text=text,
            tokens=[
                PathToken(id=token, text=shown, kept=keep, layers=next(layers) if keep else [])
                for token, shown, keep in zip(ids, self._texts_of(ids), kept, strict=True)
            ],
        )


def path_blocks(
    model: LanguageModel, text: str, *, max_characters: int = MOST_CHARACTERS, max_tokens: int = MOST_TOKENS
) -> TokenBlocks:
    """The one block that a text's path is read from.

    Args:
        model: reads it.
        text: any.
        max_characters: of the text.
        max_tokens: of the block; fewer where the model reads fewer at once.

    Raises:
        UserError: the text is too long or has no token.
    """
    return one_block(model, text, max_characters=max_characters, max_tokens=_at_most(model, max_tokens))


def _at_most(model: LanguageModel, tokens: int) -> int:
    return min(tokens, model.most_positions or tokens)
