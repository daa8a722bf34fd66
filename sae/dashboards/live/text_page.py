"""A text's page: each token with its strongest latents and what they do there, from one pass over the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects, no_effects_reason
from sae.dashboards.live.quantiles import ActivationQuantiles
from sae.dashboards.live.subject import Subject
from sae.dashboards.live.text_block import beginning, one_block
from sae.dashboards.schema import TextLatent, TextPage, TextToken
from sae.functional.geometry import normal_rows
from sae.functional.sparse import SparseActs, gathered_dots
from sae.models.capture import capture
from sae.models.next_token import scored_positions
from sae.tokens.blocks import TokenBlocks
from sae.tokens.tokenisation import whole_characters

__all__ = ["TextReader"]


@final
class TextReader:
    """Reads texts through a model and an SAE.

    Args:
        subject: model, SAE and hook points.
        texts_of: what the tokens of a text are shown as, from their ids in order.
        quantiles: how strong activations are among a latent's own; None where no dashboard says.
        unembedding: direct effect of each dimension of what the decoder writes on each token's logit; None where there is none.
        max_latents: latents given for a token by each measure at most: the largest by activation, by quantile, by size of the
            effect on the loss and by size of the direct effect on the next token.
        max_characters: of a text.
        max_tokens: of a text, with the marks around it; fewer where the model reads fewer at once.

    Raises:
        ValueError: quantiles or unembedding are not of this SAE's sizes.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        texts_of: Callable[[Sequence[int]], list[str]],
        quantiles: ActivationQuantiles | None = None,
        unembedding: Float[Tensor, "vocabulary d_out"] | None = None,
        max_latents: int = 50,
        max_characters: int = 20_000,
        max_tokens: int = 1024,
    ) -> None:
        sae = subject.sae
        if quantiles is not None and quantiles.num_latents != sae.d_sae:
            raise ValueError(f"quantiles of {quantiles.num_latents} latents for an SAE of {sae.d_sae}")
        if unembedding is not None and unembedding.shape[1] != sae.d_out:
            raise ValueError(f"an unembedding of {unembedding.shape[1]} dimensions for a decoder of {sae.d_out}")
        self.subject, self.texts_of, self.quantiles, self.unembedding = subject, texts_of, quantiles, unembedding
        self.max_latents, self.max_characters = max_latents, max_characters
        self.max_tokens = min(max_tokens, subject.model.most_positions or max_tokens)
        predicts = no_effects_reason([subject.model]) is None
        self.effects = (
            LossEffects(subject.model, sae, inputs=subject.inputs, targets=subject.targets, forward_blocks=1)
            if predicts
            else None
        )

    def blocks(self, text: str) -> TokenBlocks:
        """The text as one block, opened and closed as the model wants it.

        Args:
            text: any; unpaired surrogates become U+FFFD, which tokenizers can read.

        Raises:
            TextTooLong: it has more characters or tokens than are read at once.
            UserError: it has no token.
        """
        return one_block(self.subject.model, text, max_characters=self.max_characters, max_tokens=self.max_tokens)

    def page(self, text: str, *, title: str | None = None) -> TextPage:
        """The page of a text.

        Args:
            text: up to `max_characters` and `max_tokens`.
            title: of the page; None for the beginning of the text.

        Raises:
            UserError: the text is too long or has no token, or the model's activations are not finite.
        """
        blocks = self.blocks(text)
        seen = self._read(blocks)
        latents = self._latents(seen, self._logit_effects(seen, blocks))
        tokens: list[TextToken] = []
        rows = iter(latents)
        kept, ids = blocks.keep[0].tolist(), blocks.ids[0].tolist()
        for position, (token, shown) in enumerate(zip(ids, self.texts_of(ids), strict=True)):
            tokens.append(
                {
                    "id": token,
                    "text": shown,
                    "kept": kept[position],
                    "loss": seen.losses.get(position),
                    "latents": next(rows) if kept[position] else [],
                }
            )
        text = whole_characters(text)
        return {
            "title": title if title is not None else beginning(text),
            "text": text,
            "tokens": tokens,
            "effects": None if seen.effects is None else "gradient",
        }

    def _read(self, blocks: TokenBlocks) -> "_Reading":
        subject = self.subject
        names = [point.name for point in subject.inputs]
        if self.effects is None:
            captured = capture(subject.model, blocks.ids, blocks.attention, subject.inputs)
            keep = blocks.keep.to(subject.model.device)
            x = join_rows({name: values[keep] for name, values in captured.items()}, names)
            return _Reading(x=x, acts=encode_positive(subject.sae, x), effects=None, losses={})
        seen = self.effects.run(blocks)
        x = join_rows(seen.values, names)
        acts = encode_positive(subject.sae, x)
        sources = scored_positions(blocks.keep)[0].nonzero()[:, 0].tolist()
        losses = {source + 1: loss for source, loss in zip(sources, seen.losses.tolist(), strict=True)}
        return _Reading(x=x, acts=acts, effects=self.effects.estimate(acts, seen.gradients, x), losses=losses)

    @torch.no_grad()
    def _logit_effects(self, seen: "_Reading", blocks: TokenBlocks) -> Float[np.ndarray, " nnz"]:
        """What is written for each activation, by the unembedding of the next token; NaN where there is none."""
        acts, sae = seen.acts, self.subject.sae
        if self.unembedding is None or len(acts.values) == 0:
            return np.full(len(acts.values), np.nan)
        positions = blocks.keep[0].nonzero()[:, 0]
        following: Int[Tensor, " rows"] = blocks.ids[0].roll(-1)[positions].long()
        rows = self.unembedding[following.to(self.unembedding.device)].float().cpu()
        if sae.layer_norm:  # the decoder's output is in units of the row's deviation
            rows = rows * normal_rows(seen.x.to(sae.W_dec))[2].float().cpu()
        effects = acts.values * gathered_dots(rows, sae.W_dec.float().cpu(), acts.pattern)
        last = positions == blocks.context_length - 1
        return effects.masked_fill(last[acts.pattern.rows.long()], torch.nan).numpy()

    def _latents(self, seen: "_Reading", logit_effects: Float[np.ndarray, " nnz"]) -> list[list[TextLatent]]:
        """For each row its strongest latents by any of the measures, the largest activation first."""
        acts, none = seen.acts, np.full(len(seen.acts.values), np.nan)
        latents, activations = acts.indices.numpy(), acts.values.numpy()
        measures = {
            "activation": activations,
            "quantile": none if self.quantiles is None else self.quantiles.shares_weaker(latents, activations),
            "effect": none if seen.effects is None else seen.effects.numpy(),
            "logit_effect": logit_effects,
        }
        found: list[list[TextLatent]] = []
        for begin, end in pairwise(acts.offsets.tolist()):
            entries = np.argsort(-activations[begin:end], kind="stable") + begin
            sizes = [np.nan_to_num(np.abs(values[entries]), nan=-1.0) for values in measures.values()]
            best = [np.argsort(-size, kind="stable")[: self.max_latents] for size in sizes]
            entries = entries[np.unique(np.concatenate(best))]
            columns = (_optional(measures[name][entries]) for name in ("quantile", "effect", "logit_effect"))
            found.append(
                [
                    {"latent": latent, "activation": activation, "quantile": quantile, "effect": effect, "logit_effect": logit}
                    for latent, activation, quantile, effect, logit in zip(
                        latents[entries].tolist(), activations[entries].tolist(), *columns, strict=True
                    )
                ]
            )
        return found


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What one pass over a text gives.

    Attributes:
        x: what the encoder reads at the kept positions [rows, d_in].
        acts: activations there.
        effects: of each activation on the loss, to first order, nats [nnz]; None where the model predicts no next tokens.
        losses: position -> nats of predicting the token there.
    """

    x: Float[Tensor, "rows d_in"]
    acts: SparseActs
    effects: Float[Tensor, " nnz"] | None
    losses: dict[int, float]


def _optional(values: Float[np.ndarray, " n"]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
