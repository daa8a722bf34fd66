"""The text that latents were read on, kept in memory whole: 16 bytes a token."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int

from sae.dashboards.latents.segments import starts
from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["Text"]


@final
@dataclass(frozen=True, kw_only=True)
class Text:
    """Tokens by their place, block * context + position; and which of them are rows.

    Attributes:
        context: positions in a block.
        ids: token at each place [places], int32.
        document: of each place [places], int32.
        place: of each row [rows], int32.
        row: rows before each place, and the number of rows [places + 1], int32.
        begin: place of each block's first attended token [blocks].
        end: place after its last [blocks].
    """

    context: int
    ids: Int[np.ndarray, " places"]
    document: Int[np.ndarray, " places"]
    place: Int[np.ndarray, " rows"]
    row: Int[np.ndarray, " bounds"]
    begin: Int[np.ndarray, " blocks"]
    end: Int[np.ndarray, " blocks"]

    @staticmethod
    def of(parts: list[TokenBlocks]) -> "Text":
        """The text of some blocks, in order.

        Raises:
            UserError: there are 2^31 tokens or more.
        """
        context = parts[0].context_length
        ids = np.concatenate([part.ids.numpy().astype(np.int32).ravel() for part in parts])
        if len(ids) >= 2**31:
            raise UserError(f"The dashboard's text has {len(ids)} tokens, 2**31 - 1 at most were expected: collect from fewer.")
        keep = np.concatenate([part.keep.numpy().ravel() for part in parts])
        attended = np.concatenate([part.attention.numpy() for part in parts])
        first = np.arange(len(attended), dtype=np.int64) * context
        return Text(
            context=context,
            ids=ids,
            document=np.concatenate([part.document.numpy().astype(np.int32).ravel() for part in parts]),
            place=np.flatnonzero(keep).astype(np.int32),
            row=starts(keep.astype(np.int8)).astype(np.int32),
            begin=first + attended.argmax(axis=1),
            end=first + context - attended[:, ::-1].argmax(axis=1),
        )

    @property
    def num_rows(self) -> int:
        """Tokens that latents were read on."""
        return len(self.place)
