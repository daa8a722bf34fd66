"""A text's page: each token with its strongest latents and what they do there, from one pass over the model."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.activations.texts import token_blocks
from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects, no_effects_reason
from sae.dashboards.live.quantiles import ActivationQuantiles
from sae.dashboards.live.subject import Subject
from sae.dashboards.schema import TextLatent, TextPage, TextToken
from sae.errors import UserError
from sae.functional.sparse import SparseActs, gathered_dots
from sae.models.capture import capture
from sae.models.next_token import scored_positions
from sae.tokens.blocks import TokenBlocks

__all__ = ["TextReader", "TextTooLong"]

TITLE_CHARACTERS = 60


class TextTooLong(UserError):
    """A text that is refused for its size."""


@final
class TextReader:
    """Reads texts through a model and an SAE.

    Args:
        subject: model, SAE and hook points.
        text_of: what a token is shown as, from its id.
        quantiles: how strong activations are among a latent's own; None where no dashboard says.
        unembedding: direct effect of each dimension of what the decoder writes on each token's logit; None where there is none.
        max_latents: latents given for a token at most, the strongest by activation.
        max_characters: of a text.
        max_tokens: of a text, with the marks around it; fewer where the model reads fewer at once.

    Raises:
        ValueError: quantiles or unembedding are not of this SAE's sizes.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        text_of: Callable[[int], str],
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
        self.subject, self.text_of, self.quantiles, self.unembedding = subject, text_of, quantiles, unembedding
        self.max_latents, self.max_characters = max_latents, max_characters
        self.max_tokens = min(max_tokens, subject.most_positions or max_tokens)
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
        if len(text) > self.max_characters:
            raise TextTooLong(f"The text has {len(text):,} characters; at most {self.max_characters:,} are read. Shorten it.")
        blocks = token_blocks(self.subject.model, whole_characters(text), context_length=self.max_tokens)
        if len(blocks) > 1:
            raise TextTooLong(
                f"The text has {int(blocks.keep.sum()):,} tokens; at most {self.max_tokens:,} are read at once, with the marks "
                "that the model wants around a text. Shorten it."
            )
        return blocks

    def page(self, text: str, *, title: str | None = None) -> TextPage:
        """The page of a text.

        Args:
            text: up to `max_characters` and `max_tokens`.
            title: of the page; None for the beginning of the text.

        Raises:
            UserError: the text is too long or has no token, or the model's activations are not finite.
        """
        blocks = self.blocks(text)
        acts, effects, losses = self._read(blocks)
        latents = self._latents(acts, effects, self._logit_effects(acts, blocks))
        tokens: list[TextToken] = []
        rows = iter(latents)
        kept = blocks.keep[0].tolist()
        for position, token in enumerate(blocks.ids[0].tolist()):
            tokens.append(
                {
                    "id": token,
                    "text": self.text_of(token),
                    "kept": kept[position],
                    "loss": losses.get(position),
                    "latents": next(rows) if kept[position] else [],
                }
            )
        text = whole_characters(text)
        return {
            "title": title if title is not None else _beginning(text),
            "text": text,
            "tokens": tokens,
            "effects": None if effects is None else "gradient",
        }

    def _read(self, blocks: TokenBlocks) -> tuple[SparseActs, Float[Tensor, " nnz"] | None, dict[int, float]]:
        """Activations at the kept positions, their effects on the loss, and position -> nats of predicting the token there."""
        subject = self.subject
        names = [point.name for point in subject.inputs]
        if self.effects is None:
            captured = capture(subject.model, blocks.ids, blocks.attention, subject.inputs)
            keep = blocks.keep.to(subject.model.device)
            x = join_rows({name: values[keep] for name, values in captured.items()}, names)
            return encode_positive(subject.sae, x), None, {}
        seen = self.effects.run(blocks)
        x = join_rows(seen.values, names)
        acts = encode_positive(subject.sae, x)
        sources = scored_positions(blocks.keep)[0].nonzero()[:, 0].tolist()
        losses = {source + 1: loss for source, loss in zip(sources, seen.losses.tolist(), strict=True)}
        return acts, self.effects.estimate(acts, seen.gradients, x), losses

    @torch.no_grad()
    def _logit_effects(self, acts: SparseActs, blocks: TokenBlocks) -> Float[Tensor, " nnz"] | None:
        """Activation * (decoder row . unembedding of the next token), NaN on the last token."""
        if self.unembedding is None or len(acts.values) == 0:
            return None
        positions = blocks.keep[0].nonzero()[:, 0]
        following: Int[Tensor, " rows"] = blocks.ids[0].roll(-1)[positions].long()
        table = self.subject.sae.W_dec.float().cpu()
        rows = self.unembedding[following.to(self.unembedding.device)].float().cpu()
        effects = acts.values * gathered_dots(rows, table, acts.pattern)
        last = positions == blocks.context_length - 1
        return effects.masked_fill(last[acts.pattern.rows.long()], torch.nan)

    def _latents(
        self, acts: SparseActs, effects: Float[Tensor, " nnz"] | None, logits: Float[Tensor, " nnz"] | None
    ) -> list[list[TextLatent]]:
        """For each row its strongest latents."""
        found: list[list[TextLatent]] = []
        for row in range(acts.pattern.num_rows):
            begin, end = int(acts.offsets[row]), int(acts.offsets[row + 1])
            strongest = acts.values[begin:end].sort(descending=True, stable=True).indices[: self.max_latents] + begin
            found.append([self._entry(acts, effects, logits, int(entry)) for entry in strongest])
        return found

    def _entry(
        self, acts: SparseActs, effects: Float[Tensor, " nnz"] | None, logits: Float[Tensor, " nnz"] | None, entry: int
    ) -> TextLatent:
        latent, activation = int(acts.indices[entry]), float(acts.values[entry])
        logit_effect = None if logits is None or bool(logits[entry].isnan()) else float(logits[entry])
        return {
            "latent": latent,
            "activation": activation,
            "quantile": None if self.quantiles is None else self.quantiles.share_weaker(latent, activation),
            "effect": None if effects is None else float(effects[entry]),
            "logit_effect": logit_effect,
        }


def whole_characters(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else f"{line[:TITLE_CHARACTERS].rstrip()} …"
