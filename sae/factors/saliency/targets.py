"""What saliency is measured of: how strongly a factor is active at one layer of one token, in its block."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Int
from torch import Tensor

from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks

__all__ = ["Target", "mask_token", "target_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Target:
    """An activation, and the tokens that it may come from.

    Attributes:
        ids: tokens of the block that the model can see from there: all that are attended to, or in a decoder those up to it.
        maskable: which of them are not special.
        shown: first of the tokens that are shown, and one past the last; it may lie beyond the end.
        position: of the activation.
        layer: number of its layer.
        factor: which.
    """

    ids: Int[Tensor, " positions"]
    maskable: Bool[Tensor, " positions"]
    shown: tuple[int, int]
    position: int
    layer: int
    factor: int

    def __len__(self) -> int:
        """Tokens that it may come from."""
        return len(self.ids)


def target_of(
    model: LanguageModel,
    block: TokenBlocks,
    *,
    position: int,
    layer: int,
    factor: int,
    shown: tuple[int, int] | None = None,
) -> Target:
    """The target at one place.

    Args:
        model: reads the block.
        block: one.
        position: of the activation in it.
        layer: number of its layer.
        factor: which.
        shown: first position that is shown and one past the last; None: the whole block.
    """
    end = position + 1 if model.has_lm_head else int(block.attention[0].sum())
    return Target(
        ids=block.ids[0, :end].long(),
        maskable=block.keep[0, :end],
        shown=(0, block.context_length) if shown is None else shown,
        position=position,
        layer=layer,
        factor=factor,
    )


def mask_token(model: LanguageModel) -> int:
    """What stands for a token that is taken away: the mask token, else the one that opens documents, else the unknown token.

    The paper's code takes [UNK]. A model with a mask token was trained to read it as a token that is missing.
    """
    tokenizer = model.tokenizer
    candidates = (
        getattr(tokenizer, "mask_token_id", None),
        model.document_start,
        getattr(tokenizer, "unk_token_id", None),
        model.pad,
    )
    return next(token for token in candidates if token is not None)
