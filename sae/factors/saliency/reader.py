"""Activations of a factor on many copies of texts, read in batches, with or without a gradient."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.factors.saliency.targets import Target, mask_token
from sae.factors.subject import FactorSubject
from sae.functional.sparse import SparseActs
from sae.models.past import Past
from sae.models.taps import ForwardStopped, as_blocks, tap

__all__ = ["ActivationReader", "activations_of", "batches"]


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
        hidden = self._hidden([layer], ids, attention, embeddings)[layer]
        positions = torch.tensor([target.position for target in targets], device=hidden.device)
        rows = subject.in_units(hidden[torch.arange(len(targets), device=hidden.device), positions], layer)
        acts = subject.sae.encode_sparse(rows.to(subject.sae.W_dec))
        factors = torch.tensor([target.factor for target in targets], device=acts.indices.device)
        return activations_of(acts, torch.arange(len(targets), device=factors.device), factors)

    def hidden(
        self, layers: Collection[int], ids: Int[Tensor, "copies positions"], past: Past | None = None
    ) -> dict[int, Float[Tensor, "copies positions d_in"]]:
        """Raw activations at some layers of texts of one length, from one pass of the model.

        Args:
            layers: that are read.
            ids: of the texts.
            past: of a causal model, keys and values of what stands before them; those of `ids` are added.
        """
        with torch.no_grad():
            return self._hidden(layers, ids, torch.ones_like(ids, dtype=torch.bool), past=past)

    def rows_at(
        self,
        hidden: Mapping[int, Float[Tensor, "copies positions d_in"]],
        layer: Int[Tensor, " rows"],
        copy: Int[Tensor, " rows"],
        position: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows d_in"]:
        """Rows as the dictionary reads them, each of a layer, a copy and a position."""
        weight = self.subject.sae.W_dec
        rows = weight.new_empty(len(layer), self.subject.sae.d_in)
        for number in layer.unique().tolist():
            mine = (layer == number).nonzero()[:, 0].to(weight.device)
            own = hidden[number][copy.to(weight.device)[mine], position.to(weight.device)[mine]]
            rows[mine] = self.subject.in_units(own, number).to(weight)
        return rows

    def _hidden(
        self,
        layers: Collection[int],
        ids: Int[Tensor, "copies positions"],
        attention: Bool[Tensor, "copies positions"],
        embeddings: Float[Tensor, "copies positions d_model"] | None = None,
        past: Past | None = None,
    ) -> dict[int, Float[Tensor, "copies positions d_in"]]:
        """Raw activations at some layers, in one pass that ends at the last of them."""
        model, seen = self.subject.model, dict[int, Tensor]()

        def see(layer: int, hidden: Tensor) -> None:
            value = as_blocks(hidden, *ids.shape)
            assert value is not None, f"{self.subject.points[layer].name} is not [blocks, context, width]"
            seen[layer] = value.clone() if len(layers) > 1 else value  # some models go on to add to their tensors in place
            if len(seen) == len(layers):
                raise ForwardStopped

        with ExitStack() as hooks, model.lock:
            if embeddings is not None:
                embedding = model.module.get_input_embeddings()
                hooks.callback(tap(embedding, "output", lambda _: embeddings).remove)
            for layer in layers:
                point = self.subject.points[layer]
                hooks.callback(tap(model.module.get_submodule(point.module), point.tensor, partial(see, layer)).remove)
            with suppress(ForwardStopped):
                model.run(ids, attention, past)
        return seen


def activations_of(codes: SparseActs, row: Int[Tensor, " pairs"], factor: Int[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """Activations of pairs of a row and a factor."""
    size = codes.pattern.num_latents
    keys, order = (codes.pattern.rows.long() * size + codes.indices).sort()
    wanted = row * size + factor
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    if len(keys) == 0:
        return codes.values.new_zeros(len(wanted))
    return torch.where(keys[place] == wanted, codes.values[order][place], 0)


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
