"""When products over the active latents are quicker than dense ones, and how many rows go through an SAE at a time."""

import torch

from sae.functional import devices, triton_kernels
from sae.functional.gpu_choice import matmul_precision, sparse_pays

__all__ = ["LEAVE", "rows_at_once", "sparse_is_quicker"]

# Share of pre-activations that take part above which a CPU's sparse pass is no longer the quicker one. Where the passes are
# level depends on whether the weights fit into a cache: with 2304 latents at 12 to 17 percent, with 10240 at 8 (one thread,
# d_in 640; `scripts/benchmark_passes.py`).
LEAVE = 0.07
DENSE_ELEMENTS = 1 << 26  # pre-activations of all latents that exist at a time where nothing asks for more: 256 MiB in float32


def sparse_is_quicker(active: float | int, device: torch.device, *, rows: int, d_in: int, d_sae: int) -> bool:
    """Whether the sparse pass is the quicker one.

    Args:
        active: latents a row.
        device: where it runs; on a GPU the sparse pass needs Triton's kernels.
        rows: of a batch.
        d_in: width of the rows.
        d_sae: latents.
    """
    if devices.host_runs_ahead(device):
        sizes = {"rows": rows, "d_in": d_in, "d_sae": d_sae}
        return triton_kernels.available() and sparse_pays(active / d_sae, **sizes, precision=matmul_precision(device))
    return active < LEAVE * d_sae


def rows_at_once(latents: float | int, elements: int = DENSE_ELEMENTS) -> int:
    """Rows of so many latents each that make at most so many elements, but at least one row."""
    return max(1, int(elements / max(1.0, latents)))
