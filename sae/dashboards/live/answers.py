"""What the server answers, without HTTP: from checked fields to what the browser is sent."""

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import torch

from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.live.messages import AblateAnswer, Continuation, HelloAnswer, Limits, SteerAnswer
from sae.dashboards.live.requests import Ablation, defaults, read_ablation, read_continuing, read_text
from sae.dashboards.live.steering import Written, continue_text
from sae.dashboards.live.text_block import TextTooLong
from sae.dashboards.live.text_page import TextReader
from sae.dashboards.schema import TextPage, TokenText
from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["Answering", "Answers"]


@runtime_checkable
class Answering(Protocol):
    """What the server asks."""

    @property
    def limits(self) -> Limits:
        """Of requests."""
        ...

    @property
    def posts(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """What is answered to which POST: from checked JSON fields to JSON."""
        ...

    def hello(self) -> HelloAnswer:
        """What can be asked."""
        ...


@final
class Answers:
    """Answers about one model and SAE.

    Args:
        reader: of texts.
        limits: of requests.
        collected: folder of the dashboard's collected text, which may be absent.
    """

    def __init__(self, reader: TextReader, *, limits: Limits, collected: Path) -> None:
        self.reader, self.limits, self.collected = reader, limits, collected
        self._codes: CollectedCodes | None = None

    def hello(self) -> HelloAnswer:
        """What can be asked."""
        subject = self.reader.subject
        return {
            "version": importlib.metadata.version("sae"),
            "model": str(subject.model.provenance().get("name", type(subject.model.module).__name__)),
            "hook_point": subject.place,
            "d_sae": subject.sae.d_sae,
            "steer": subject.model.has_lm_head,
            "ablate": self.reader.effects is not None,
            "limits": {**self.limits, "tokens": self.reader.max_tokens},
            "defaults": defaults(self.limits),
        }

    @property
    def posts(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        """What is answered to which POST."""
        return {"text": self.text, "steer": self.steer, "ablate": self.ablate}

    def text(self, fields: Mapping[str, Any]) -> TextPage:
        """Answer of `/api/text`.

        Raises:
            UserError: something is wrong with the request.
        """
        return self.reader.page(read_text(fields))

    def steer(self, fields: Mapping[str, Any]) -> SteerAnswer:
        """Answer of `/api/steer`.

        Raises:
            UserError: something is wrong with the request.
        """
        asked = read_continuing(fields, self.limits)
        subject = self.reader.subject
        prompt = self.reader.blocks(asked.text).ids[0]
        if int(prompt[-1]) == subject.model.document_end:
            prompt = prompt[:-1]
        most = subject.model.most_positions
        if most is not None and len(prompt) + asked.new_tokens > most:
            raise TextTooLong(
                f"The text has {len(prompt)} tokens and {asked.new_tokens} new ones were asked for; the model reads {most}. "
                "Shorten the text or lower new_tokens."
            )

        def written(clamps: Mapping[int, float]) -> Written:
            settings = {"new_tokens": asked.new_tokens, "temperature": asked.temperature, "seed": asked.seed}
            return continue_text(subject, prompt, clamps=clamps, **settings)

        own = written({})
        clamped = written(asked.clamps) if asked.clamps else own
        return {"own": self._shown(prompt.tolist(), own), "clamped": self._shown(prompt.tolist(), clamped)}

    def ablate(self, fields: Mapping[str, Any]) -> AblateAnswer:
        """Answer of `/api/ablate`.

        Raises:
            UserError: something is wrong with the request, or the model has no loss.
        """
        asked = read_ablation(fields, self.limits)
        effects = self.reader.effects
        if effects is None:
            raise UserError("This model predicts no next tokens: there is no loss for a latent to have an effect on.")
        d_sae = self.reader.subject.sae.d_sae
        if max(asked.latents) >= d_sae:
            raise UserError(f"There is no latent {max(asked.latents)}: the SAE has {d_sae}, numbered from 0.")
        blocks = self._block(asked)
        if asked.position >= blocks.context_length or not bool(blocks.keep[0, asked.position]):
            raise UserError(
                f"Position {asked.position} holds a special token or lies outside the {blocks.context_length} tokens: no "
                "latent is read there."
            )
        count = len(asked.latents)
        found = effects.exact(
            blocks,
            torch.zeros(count, dtype=torch.long),
            torch.full((count,), asked.position),
            torch.tensor(asked.latents),
        )
        return {"effects": found.tolist()}

    def _block(self, asked: Ablation) -> TokenBlocks:
        if asked.text is not None:
            return self.reader.blocks(asked.text)
        assert asked.block is not None
        if self._codes is None:
            if not self.collected.is_dir():
                raise UserError("The dashboard's collected text is no longer in its folder: build the dashboard again.")
            self._codes = CollectedCodes(self.collected)
        return self._codes.block(asked.block)

    def _shown(self, prompt: list[int], written: Written) -> Continuation:
        ids, ended = written
        tokenizer = self.reader.subject.model.tokenizer
        before, whole = (tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (prompt, [*prompt, *ids]))
        texts = self.reader.texts_of(ids)
        tokens: list[TokenText] = [{"id": token, "text": text} for token, text in zip(ids, texts, strict=True)]
        return {"text": whole[len(before) :], "tokens": tokens, "ended": ended}
