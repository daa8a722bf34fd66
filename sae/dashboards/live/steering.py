"""A text that the model goes on with while latents are held at given activations, beside the continuation that is its own.

At every token that is not special, the decoder rows of the held latents, times the activations asked for less those that the
SAE finds, are added to the activation at the hook point. The rest of it stays, the SAE's error too, so that with nothing held
nothing is changed. What the SAE finds is read from the untouched model on the same tokens; at a single hook point that is what
it would find in the changed run too, since all that comes before the hook point is untouched.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.live.subject import Subject
from sae.errors import UserError
from sae.functional.geometry import normal_rows
from sae.models.next_token import log_probabilities
from sae.models.splice import splice
from sae.models.stepwise import Stepwise

__all__ = ["Steering", "Written", "continue_text"]

Written = tuple[list[int], bool]
"""Ids of the tokens that the model wrote, and whether it ended the text before it had to stop."""


@final
class Steering:
    """The change at the hook point, for the tokens of one text, a piece at a time.

    Args:
        subject: model, SAE and hook points.
        clamps: latent -> the activation at which it is held.

    Raises:
        UserError: there is no such latent.
    """

    def __init__(self, subject: Subject, clamps: Mapping[int, float]) -> None:
        outside = [latent for latent in clamps if not 0 <= latent < subject.sae.d_sae]
        if outside:
            raise UserError(f"There is no latent {outside[0]}: the SAE has {subject.sae.d_sae}, numbered from 0.")
        self.subject = subject
        self._latents: Int[Tensor, " held"] = torch.tensor(sorted(clamps), dtype=torch.long)
        self._values: Float[Tensor, " held"] = torch.tensor([clamps[latent] for latent in sorted(clamps)])
        self._untouched = Stepwise(subject.model)

    @torch.no_grad()
    def change(self, ids: Int[Tensor, "1 new"]) -> Float[Tensor, "new d_out"]:
        """What is added to the activations of the next tokens."""
        subject = self.subject
        captured = self._untouched.capture(ids, subject.inputs)
        x = join_rows({name: values[0] for name, values in captured.items()}, [point.name for point in subject.inputs])
        acts = encode_positive(subject.sae, x)
        place = torch.searchsorted(self._latents, acts.indices.long()).clamp(max=len(self._latents) - 1)
        held = self._latents[place] == acts.indices
        own = torch.zeros(len(x), len(self._latents))
        own[acts.pattern.rows[held].long(), place[held]] = acts.values[held]
        table = subject.sae.W_dec
        change = (self._values - own).to(table) @ table[self._latents.to(table.device)]
        return change * normal_rows(x.to(table))[2] if subject.sae.layer_norm else change

    def enter(self, stack: ExitStack, ids: Int[Tensor, "1 new"], kept: Bool[Tensor, "1 new"]) -> None:
        """Hang the change of the next tokens into the model until the stack closes."""
        model = self.subject.model
        parts = self.change(ids).to(model.device)[kept[0].to(model.device)]
        first = 0
        for point in self.subject.targets:
            part = parts[:, first : first + point.width]
            stack.enter_context(splice(model, point, partial(torch.add, other=part), kept))
            first += point.width


def continue_text(
    subject: Subject,
    prompt: Int[Tensor, " prompt"],
    *,
    clamps: Mapping[int, float],
    new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Written:
    """Let the model go on with a text.

    Args:
        subject: model, SAE and hook points.
        prompt: ids, with the mark that opens a text.
        clamps: latent -> the activation at which it is held; without any, the text is the model's own.
        new_tokens: at most so many; the text ends earlier with a special token.
        temperature: 0 takes the likeliest token, else tokens are drawn from softmax(logits / temperature).
        seed: of the draws. With the same seed other clamps meet the same draws.

    Returns:
        The new tokens, and whether a special token came, which is not among them.

    Raises:
        UserError: the model predicts no next tokens, there is no such latent, or the clamps make its activations overflow.
    """
    model = subject.model
    if not model.has_lm_head:
        raise UserError(f"{type(model.module).__name__} predicts no next tokens: it cannot go on with a text.")
    steering = Steering(subject, clamps) if clamps else None
    reader, generator = Stepwise(model), torch.Generator().manual_seed(seed)
    special = torch.tensor(sorted(model.special), dtype=torch.long)
    ids, written = prompt.long()[None], []
    while len(written) < new_tokens:
        with ExitStack() as stack:
            if steering is not None:
                steering.enter(stack, ids, ~torch.isin(ids, special))
            state = reader.read(ids)[0, -1:]
        token = _next(log_probabilities(model, state)[0].cpu(), temperature, generator)
        if token in model.special:
            return written, True
        written.append(token)
        ids = torch.tensor([[token]])
    return written, False


def _next(scores: Float[Tensor, " vocabulary"], temperature: float, generator: torch.Generator) -> int:
    if bool(scores.isnan().any()):
        raise UserError("With these clamps the model's activations overflow: hold latents at smaller values.")
    if temperature == 0:
        return int(scores.argmax())
    below = scores.double() - scores.max()  # 0 for the likeliest, whatever the temperature
    return int(torch.multinomial(torch.softmax(below / temperature, dim=0), 1, generator=generator))
