"""Kernels for CUDA devices, each beside a plain version of the same arguments that serves as reference and on other devices.

They give the same bits in every run: nothing is added by atomic operations, and nothing is chosen by timing. A launch does not
wait for the device. Where Triton is not installed this package can be imported, and its functions are the plain ones.
"""

from sae.functional.triton_kernels.adam import adam_unit_rows_, plain_adam_unit_rows_
from sae.functional.triton_kernels.bags import plain_weighted_bags, weighted_bags
from sae.functional.triton_kernels.dots import gathered_dots, plain_gathered_dots
from sae.functional.triton_kernels.language import available, runs_on
from sae.functional.triton_kernels.top_k import encode_top_k, plain_encode_top_k

__all__ = [
    "adam_unit_rows_",
    "available",
    "encode_top_k",
    "gathered_dots",
    "plain_adam_unit_rows_",
    "plain_encode_top_k",
    "plain_gathered_dots",
    "plain_weighted_bags",
    "runs_on",
    "weighted_bags",
]
