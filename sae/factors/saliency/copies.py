"""Hidden states of the copies of a text that each lack one token.

A model that sees both ways reads every copy whole. In a decoder a copy is the text itself up to the token that it lacks: keys
and values of that beginning are taken from one pass over the text, and the copy is read from there on, as far as is asked for.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.factors.saliency.reader import ActivationReader
from sae.models.past import Past, beginning, nothing_yet

__all__ = ["CopyReader", "MaskedCopies"]

FEWEST_TOGETHER = 8  # copies of a decoder that go on from one beginning


class MaskedCopies(NamedTuple):
    """Some copies.

    Attributes:
        masked: the token that each lacks [copies].
        first: position of the first hidden state.
        hidden: raw activations at each layer, of positions from `first` to the last that is needed.
    """

    masked: Int[Tensor, " copies"]
    first: int
    hidden: dict[int, Float[Tensor, "copies positions d_in"]]


@final
class CopyReader:
    """Reads copies of texts, as many at a time as the reader's batches hold.

    Args:
        reader: runs the model.
    """

    def __init__(self, reader: ActivationReader) -> None:
        self._reader, self._causal = reader, reader.subject.model.has_lm_head
        self._goes_on: bool | None = None if self._causal else False

    def read(
        self,
        ids: Int[Tensor, " positions"],
        last: Int[Tensor, " positions"],
        masked: Int[Tensor, " copies"],
        layers: Collection[int],
    ) -> Iterator[MaskedCopies]:
        """The copies of a text.

        Args:
            ids: of the text.
            last: of each token the last position that is needed without it.
            masked: the tokens that are left out, in order.
            layers: that are read.
        """
        past = self._past(ids, layers)
        while len(masked):
            first = 0 if past is None else int(masked[0])
            together = self._together(len(ids) if past is None else int(last[masked[0]]) + 1 - first, past)
            part, masked = masked[:together], masked[together:]
            end = int(last[part].max()) + 1 if self._causal else len(ids)
            copies = ids[first:end].repeat(len(part), 1)
            copies[torch.arange(len(part)), part - first] = self._reader.mask
            before = None if past is None else beginning(past, first, len(part))
            yield MaskedCopies(part, first, self._reader.hidden(layers, copies, before))

    def _together(self, tokens: int, past: Past | None) -> int:
        """Copies of one batch; those that go on from one beginning each read what another alone would need too."""
        most = max(1, self._reader.batch_tokens // tokens)
        return most if past is None else min(most, max(FEWEST_TOGETHER, tokens // 2))

    def _past(self, ids: Int[Tensor, " positions"], layers: Collection[int]) -> Past | None:
        """Keys and values of a text; None where the model does not go on from them as if it had read them itself."""
        if self._goes_on is False:
            return None
        past = nothing_yet()
        hidden = self._reader.hidden(layers, ids[None], past)
        if self._goes_on is None and len(ids) > 1:
            self._goes_on = self._sees_the_same(ids, past, hidden)
        return past if self._goes_on else None

    def _sees_the_same(self, ids: Int[Tensor, " positions"], past: Past, hidden: dict[int, Tensor]) -> bool:
        """Whether the second half of a text comes out the same where the model goes on from the first."""
        half = len(ids) // 2
        try:
            found = self._reader.hidden(list(hidden), ids[None, half:], beginning(past, half, 1))
        except Exception:  # what a model without keys and values raises is its own affair: its copies are read whole
            return False
        return all(
            bool((found[layer] - own[:, half:]).abs().max() <= 1000 * torch.finfo(own.dtype).eps * own.abs().max())
            for layer, own in hidden.items()
        )
