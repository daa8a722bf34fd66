"""Activations of a factor on many copies of texts, read in batches, with or without a gradient."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.factors.saliency.targets import Target, mask_token
from sae.factors.subject import FactorSubject
from sae.functional.sparse import SparseActs
from sae.models.taps import ForwardStopped, as_blocks, tap

__all__ = ["ActivationReader", "batches"]


@final
class ActivationReader:
    """Runs the model up to a layer, and the dictionary at one position of each copy.

    Args:
        subject: model, dictionary and layers.
        batch_tokens: tokens that the model reads at once, about.
    """

    def __init__(self, subject: FactorSubject, *, batch_tokens: int = 4096) -> None:
        self.subject, self.batch_tokens = subject, batch_tokens
        self.mask = mask_token(subject.model)

    def values(self, targets: Sequence[Target], copies: Sequence[Int[Tensor, "_ _"]]) -> list[Float[Tensor, " _"]]:
        """Each target's activation on its copies.

        Args:
            targets: at one layer.
            copies: of each target its text with changed tokens [copies, positions].

        Returns:
            Activations of each, in float64 on the CPU.
        """
        lines = [(number, line) for number, own in enumerate(copies) for line in own]
        size = max(1, self.batch_tokens // max(map(len, targets)))
        found = []
        for start in range(0, len(lines), size):
            part = lines[start : start + size]
            with torch.no_grad():
                ids, attention = self._padded([line for _, line in part], max(len(line) for _, line in part))
                found.append(self._read([targets[number] for number, _ in part], ids, attention, None).double().cpu())
        return list(torch.cat(found).split([len(own) for own in copies]))

    def gradients(
        self, targets: Sequence[Target], mixed: Float[Tensor, "copies positions d_model"]
    ) -> tuple[Float[Tensor, " copies"], Float[Tensor, "copies positions d_model"]]:
        """Activations, and their gradients with respect to the token embeddings.

        Args:
            targets: of each copy, at one layer.
            mixed: token embeddings of each copy, in the model's number format and on its device.

        Returns:
            Both in the model's number format, on its device.
        """
        leaf = mixed.detach().requires_grad_()
        ids, attention = self._padded([target.ids for target in targets], mixed.shape[1])
        with torch.enable_grad():
            values = self._read(targets, ids, attention, leaf)
            if not values.requires_grad:  # no copy makes any factor fire
                return values, torch.zeros_like(leaf)
            (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
        return values.detach(), torch.zeros_like(leaf) if gradient is None else gradient

    def embeddings(self, ids: Int[Tensor, "lines positions"]) -> Float[Tensor, "lines positions d_model"]:
        """What the model's embedding gives for tokens, positions not yet added."""
        model = self.subject.model
        with torch.no_grad():
            return model.module.get_input_embeddings()(ids.to(model.device, torch.long))

    def _padded(
        self, lines: Sequence[Int[Tensor, " _"]], length: int
    ) -> tuple[Int[Tensor, "lines positions"], Bool[Tensor, "lines positions"]]:
        """Lines of unlike length as one batch."""
        ids = torch.full((len(lines), length), self.subject.model.pad)
        attention = torch.zeros(len(lines), length, dtype=torch.bool)
        for number, line in enumerate(lines):
            ids[number, : len(line)], attention[number, : len(line)] = line, True
        return ids, attention

    def _read(
        self,
        targets: Sequence[Target],
        ids: Int[Tensor, "copies positions"],
        attention: Bool[Tensor, "copies positions"],
        embeddings: Float[Tensor, "copies positions d_model"] | None,
    ) -> Float[Tensor, " copies"]:
        """Activation of each copy's factor at its position; `embeddings` take the place of those of the tokens."""
        layer, subject = targets[0].layer, self.subject
        hidden = self._hidden(layer, ids, attention, embeddings)
        positions = torch.tensor([target.position for target in targets], device=hidden.device)
        rows = subject.in_units(hidden[torch.arange(len(targets), device=hidden.device), positions], layer)
        acts = subject.sae.encode_sparse(rows.to(subject.sae.W_dec))
        return _of_factors(acts, torch.tensor([target.factor for target in targets], device=acts.indices.device))

    def _hidden(
        self, layer: int, ids: Tensor, attention: Tensor, embeddings: Tensor | None
    ) -> Float[Tensor, "copies positions d_in"]:
        model, point = self.subject.model, self.subject.points[layer]
        seen: list[Tensor] = []

        def stop(hidden: Tensor) -> None:
            value = as_blocks(hidden, *ids.shape)
            assert value is not None, f"{point.name} is not [blocks, context, width]"
            seen.append(value)
            raise ForwardStopped

        with ExitStack() as hooks, model.lock:
            if embeddings is not None:
                embedding = model.module.get_input_embeddings()
                hooks.callback(tap(embedding, "output", lambda _: embeddings).remove)
            hooks.callback(tap(model.module.get_submodule(point.module), point.tensor, stop).remove)
            with suppress(ForwardStopped):
                model.run(ids, attention)
        return seen[0]


def _of_factors(acts: SparseActs, factors: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Of each row the activation of one factor."""
    rows = acts.pattern.rows.long()
    mine = acts.indices == factors[rows]
    return acts.values.new_zeros(len(factors)).index_put((rows[mine],), acts.values[mine])


def batches(targets: Sequence[Target], lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Numbers of targets that are read together: at one layer, of like length, of about so many tokens at most.

    Args:
        targets: any.
        lengths: copies of each.
        tokens: of a batch.
    """
    order = sorted(range(len(targets)), key=lambda number: (targets[number].layer, len(targets[number])))
    batch: list[int] = []
    held = 0
    for number in order:
        size = lengths[number] * len(targets[number])
        if batch and (targets[batch[0]].layer != targets[number].layer or held + size > tokens):
            yield batch
            batch, held = [], 0
        batch.append(number)
        held += size
    if batch:
        yield batch
