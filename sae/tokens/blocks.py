"""Token blocks: what a forward pass reads, with the mask that says which positions become training rows.

The mask `keep` is made here, once, for training, scaling and every metric: a position is kept when it is attended and holds no
special token.
"""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["TokenBlocks"]


@dataclass(frozen=True, kw_only=True)
class TokenBlocks:
    """Blocks of token ids of equal length, with masks and the document each token comes from.

    Attributes:
        ids: token ids [blocks, context], padded on the right.
        attention: positions that the model may attend to [blocks, context].
        keep: positions whose activations are used [blocks, context]; a subset of `attention`.
        document: index of each token's document in its source [blocks, context], -1 on padding.
    """

    ids: Int[Tensor, "blocks context"]
    attention: Bool[Tensor, "blocks context"]
    keep: Bool[Tensor, "blocks context"]
    document: Int[Tensor, "blocks context"]

    def __len__(self) -> int:
        """Number of blocks."""
        return self.ids.shape[0]

    @property
    def context_length(self) -> int:
        """Positions in a block."""
        return self.ids.shape[1]

    @property
    def num_rows(self) -> int:
        """Activation vectors that these blocks give for one hook point."""
        return int(self.keep.sum())

    @property
    def num_documents(self) -> int:
        """Distinct documents in these blocks."""
        return int(torch.unique(self.document[self.attention]).numel())

    def rows_per_block(self) -> Int[Tensor, " blocks"]:
        """Kept positions in each block."""
        return self.keep.sum(dim=1)

    def select(self, index: Int[Tensor, " chosen"]) -> "TokenBlocks":
        """The chosen blocks, in the order of `index`."""
        return TokenBlocks(
            ids=self.ids[index], attention=self.attention[index], keep=self.keep[index], document=self.document[index]
        )

    def fingerprint(self) -> str:
        """SHA-256 over ids, masks and documents: equal exactly when two sets of blocks are equal."""
        digest = hashlib.sha256()
        for tensor in (self.ids.long(), self.attention, self.keep, self.document.long()):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
