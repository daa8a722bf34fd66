"""When the sparse pass is quicker than the dense one on a GPU, by arithmetic: a timing would choose otherwise in another run.

The sparse pass saves four of a dense step's five products, 8 * rows * d_in * d_sae operations, and reads instead four rows of
d_in numbers for each entry that is not zero (decoder, its gradient, the encoder's gradient, the entry's own gradient). With R
operations and B bytes a second both take the same time where the share of entries is B / (2 R) in float32. It also launches
some tens of kernels more. The figures are those of an H100 and have not been measured here; `python scripts/benchmark_gpu.py`
measures both passes.
"""

from typing import Literal

import torch

__all__ = ["MatmulPrecision", "matmul_precision", "sparse_pays"]

MatmulPrecision = Literal["float32", "tf32", "bfloat16"]

BYTES_A_SECOND = 3.35e12
OPERATIONS_A_SECOND: dict[MatmulPrecision, float] = {"float32": 5e13, "tf32": 4e14, "bfloat16": 7e14}
LAUNCHES_SECONDS = 3e-4  # what the further kernels take where they are so short that the host is the slower one


def matmul_precision(device: torch.device) -> MatmulPrecision:
    """How PyTorch multiplies float32 matrices on a device now: autocast and `torch.set_float32_matmul_precision` decide."""
    if torch.is_autocast_enabled(device.type):
        return "bfloat16"
    return "float32" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def sparse_pays(share: float, *, rows: int, d_in: int, d_sae: int, precision: MatmulPrecision) -> bool:
    """Whether the sparse pass is the quicker one.

    Args:
        share: of the pre-activations that take part.
        rows: of a batch.
        d_in: width of the rows.
        d_sae: latents.
        precision: of the dense pass's products.
    """
    saved = 8 * rows * d_in * d_sae / OPERATIONS_A_SECOND[precision]
    gathered = 16 * share * rows * d_in * d_sae / BYTES_A_SECOND
    return gathered + LAUNCHES_SECONDS < saved
