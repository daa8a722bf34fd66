"""One training step on a GPU: the framework's beside a dense one in bfloat16 with fused Adam and torch.compile.

    python scripts/benchmark_gpu.py                          the whole table: TopK, d_in 768 and 4096, d_sae 16k to 524k
    python scripts/benchmark_gpu.py --d-in 4096 --d-sae 131072 --batch 4096 --sae topk batch_topk
    python scripts/benchmark_gpu.py --device cpu --d-in 16 --d-sae 64 --batch 32 --compile 0               does it run

Rows are Gaussian and weights fresh. Times are medians; ours comes first and gives its memory to the dense one. Steps follow
each other as in a run: the device is waited for before the first and after the last of some steps, whose mean is one time.
`product` and `memory` are shares of the step that two limits of this device account for, both measured at the beginning:
- product: the encoder's forward product, 2 * batch * d_in * d_sae operations, at the rate of a large square one of its type;
- memory: at the speed of copying, 28 bytes a weight for Adam, 8 for writing a gradient and reading it again in its norm, 16 * k
  * d_in bytes a row for the rows that are gathered (decoder, its gradient, the encoder's gradient, the activations' gradient).
What is left of 1 is the search, the loss, and what no limit explains. `Triton` says whether kernels still served after our
step: from the first that cannot be built on, PyTorch's own operations do. A size that does not fit is said so and passed over.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from plain_steps import Plain
from timed_steps import BY_BIAS, Framework
from torch import Tensor

from sae.commands.reading import TRAINED
from sae.functional import devices, triton_kernels
from sae.training.kernels import KernelSettings

HEAD = (
    "d_in",
    "d_sae",
    "batch",
    "sae",
    "ours, ms",
    "tokens/s",
    "dense, ms",
    "tokens/s",
    "dense / ours",
    "product",
    "memory",
    "Triton",
    "peak GiB",
)


class Limits(NamedTuple):
    """What a device can do at best, measured.

    Attributes:
        operations: multiplications and additions a second in a large square product of the encoder's type.
        bytes: read and written a second by a copy.
    """

    operations: float
    bytes: float


def main() -> None:
    """Measure every combination of sizes and print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sae", nargs="*", default=["topk"], choices=TRAINED)
    parser.add_argument("--d-in", type=int, nargs="*", default=[768, 4096])
    parser.add_argument("--d-sae", type=int, nargs="*", default=[16384, 65536, 131072, 262144, 524288])
    parser.add_argument("--batch", type=int, nargs="*", default=[4096, 8192, 32768])
    parser.add_argument("--k", type=int, default=32, help="latents a row; 50 for relu, gated and crosscoder")
    parser.add_argument("--rounds", type=int, default=5, help="times of each kind, after one that does not count")
    parser.add_argument("--steps", type=int, default=10, help="steps of each time")
    parser.add_argument("--kernels", default="auto", choices=["auto", "dense", "sparse"])
    parser.add_argument("--encoder-dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", type=int, choices=[0, 1], default=1, help="0: the dense step without torch.compile")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here: --device cpu runs the same at tiny sizes, to see that it runs")
    limits = measured_limits(device, getattr(torch, options.encoder_dtype))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, k {options.k}, kernels {options.kernels}, encoder in {options.encoder_dtype}")
    print(f"float32 products: {torch.get_float32_matmul_precision()}")
    print(f"limits: {limits.operations / 1e12:.1f} TFLOP/s, {limits.bytes / 1e9:.0f} GB/s\n")
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for d_in, d_sae, batch, sae in itertools.product(options.d_in, options.d_sae, options.batch, options.sae):
        try:
            row = measure(sae, d_in=d_in, d_sae=d_sae, batch=batch, device=device, limits=limits, options=options)
        except torch.OutOfMemoryError:
            row = [*map(str, (d_in, d_sae, batch)), sae, "out of memory", *["-"] * (len(HEAD) - 5)]
        print("| " + " | ".join(row) + " |", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure(
    name: str, *, d_in: int, d_sae: int, batch: int, device: torch.device, limits: Limits, options: argparse.Namespace
) -> list[str]:
    """One row of the table."""
    active = 50 if name in BY_BIAS else options.k
    generator = torch.Generator().manual_seed(1)
    sizes = {"d_in": d_in, "d_sae": d_sae, "batch": batch, "active": active, "device": device}
    own, peak, plain, batches = ours_first(name, generator, sizes, options)
    dense = seconds_of(lambda number: plain.step(batches[number % 2]), options, device)
    product = 2 * batch * d_in * d_sae / limits.operations
    memory = (36 * 2 * d_in * d_sae + 16 * active * d_in * batch) / limits.bytes
    return [
        *map(str, (d_in, d_sae, batch)),
        name,
        f"{1000 * own:.2f}",
        f"{batch / own:,.0f}",
        f"{1000 * dense:.2f}",
        f"{batch / dense:,.0f}",
        f"{dense / own:.2f}",
        f"{product / own:.0%}",
        f"{memory / own:.0%}",
        "yes" if triton_kernels.available() else "no",
        "-" if peak is None else f"{peak:.1f}",
    ]


def ours_first(
    name: str, generator: torch.Generator, sizes: dict[str, Any], options: argparse.Namespace
) -> tuple[float, float | None, Plain, list[dict[str, Tensor]]]:
    """Seconds and peak GiB of our step, and what the dense one begins with; our memory is free again afterwards."""
    device, kernels = sizes["device"], KernelSettings(kernels=options.kernels, encoder_dtype=options.encoder_dtype)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours = Framework(name, kernels=kernels, **sizes)
    batches = [ours.rows(sizes["batch"], generator) for _ in range(2)]
    own = seconds_of(lambda number: ours.step(batches[number % 2], number), options, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return own, peak, Plain(ours, fused=True, autocast=True, compiled=bool(options.compile)), batches


def seconds_of(step: Callable[[int], Any], options: argparse.Namespace, device: torch.device) -> float:
    """Seconds of one step: the median over rounds of the mean of some steps."""
    numbers, times = itertools.count(1), []
    for _ in range(1 + options.rounds):
        start = devices.clock(device)
        for _ in range(options.steps):
            step(next(numbers))
        times.append((devices.clock(device) - start) / options.steps)
    return statistics.median(times[1:])


def measured_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """The rate of a square product of 8192 and the speed of copying 1 GiB; of small ones on a CPU, where they mean nothing."""
    size, numel = (8192, 1 << 28) if device.type == "cuda" else (256, 1 << 20)
    left, right, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))
    source, target = (torch.zeros(numel, device=device) for _ in range(2))
    options = argparse.Namespace(rounds=5, steps=10)
    product = seconds_of(lambda number: torch.mm(left, right, out=out), options, device)
    copy = seconds_of(lambda number: target.copy_(source), options, device)
    return Limits(operations=2 * size**3 / product, bytes=8 * numel / copy)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
