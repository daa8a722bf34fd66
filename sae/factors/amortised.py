"""An encoder that guesses sparse codes in one product: a ReLU SAE with the dictionary for its decoder, trained to the codes.

Amortised inference, as in Gregor and LeCun 2010 ("Learning fast approximations of sparse coding"), with a single layer. The
encoder starts as what each atom alone would have, x . D_j - l1, and is then fitted to the codes of rows by squared error.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.relu import ReLUSAE
from sae.architectures.sparse_coding import SparseCodingSAE

__all__ = ["AmortisedEncoder"]

RATE = 2e-3  # Adam's at first, of weights in units of unit directions; it falls to zero in a straight line
STEP_ROWS = 64


@final
class AmortisedEncoder:
    """The encoder in the making; its decoder and decoder bias stay the dictionary's.

    Args:
        dictionary: gives the codes that it is trained to; decoder rows of unit norm.
        total_rows: rows that it will be trained on.

    Attributes:
        sae: the ReLU SAE.
    """

    def __init__(self, dictionary: SparseCodingSAE, *, total_rows: int) -> None:
        self._dictionary, self._steps, self._done = dictionary, max(1, total_rows // STEP_ROWS), 0
        self.sae = ReLUSAE(d_in=dictionary.d_in, d_sae=dictionary.d_sae).to(dictionary.W_dec)
        with torch.no_grad():
            self.sae.W_dec.copy_(dictionary.W_dec)
            self.sae.b_dec.copy_(dictionary.b_dec)
            self.sae.W_enc.copy_(dictionary.W_dec.T)
            self.sae.b_enc.fill_(-dictionary.l1_coefficient)
        self._optimizer = torch.optim.Adam([self.sae.W_enc, self.sae.b_enc], lr=RATE)

    def step(self, rows: Float[Tensor, "batch d_in"]) -> float:
        """Train on the codes of some rows.

        Returns:
            Squared error of the guessed codes, summed over factors, a row, before it learnt of these rows.
        """
        error, rows = 0.0, rows.to(self.sae.W_dec)
        with torch.no_grad():
            codes = self._dictionary.encode_sparse(rows).to_dense()
        for part, wanted in zip(rows.split(STEP_ROWS), codes.split(STEP_ROWS), strict=True):
            loss = (self.sae.encode(part) - wanted).square().sum(dim=1).mean()
            self._optimizer.param_groups[0]["lr"] = RATE * max(0.0, 1 - self._done / self._steps)
            self._optimizer.zero_grad()
            loss.backward(inputs=[self.sae.W_enc, self.sae.b_enc])
            self._optimizer.step()
            self._done += 1
            error += float(loss.detach()) * len(part) / len(rows)
        return error
