"""Axis legend: the names used in every shape annotation of this package.

Tensors are row vectors: one activation is a row, and `latent_acts = act((x - b_dec) @ W_enc + b_enc)`.

| axis    | meaning                                                               |
|---------|-----------------------------------------------------------------------|
| batch   | activation vectors (rows) seen together, from any number of documents |
| d_in    | width of the activation that goes into the dictionary                 |
| d_sae   | number of latents (units of the dictionary)                           |
| blocks  | token blocks, each one forward pass's row                             |
| context | positions inside a block                                              |
| nnz     | non-zero latent activations of a batch, in row order                  |

One-axis shapes are written with a leading space (`Float[Tensor, " d_sae"]`), so that linters do not read them as names.
"""

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["BlockIds", "Rows"]

Rows = Float[Tensor, "batch d_in"]
BlockIds = Int[Tensor, "blocks context"]
