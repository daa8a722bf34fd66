"""The sparse pass of training beside the dense one, by the share of latents that are active: where they cross.

    OMP_NUM_THREADS=1 python scripts/benchmark_passes.py --clock cpu      on a busy machine
    python scripts/benchmark_passes.py --sae relu --share 0.04 0.08

One whole step of the framework by each pass, in turn, on the same rows; `scripts/timed_steps.py` has the step. `share` is the
share of latents that are active on a row, `held` what the sparse pass holds (JumpReLU's window below the threshold too), which
`ENTER` (`sae/training/kernels.py`) and `LEAVE` (`sae/functional/pass_choice.py`) are compared with. Ratios are sparse / dense,
medians over rounds, quartiles in brackets; below 1 the sparse pass is quicker. By the processor's clock (of one thread) another
program on the machine counts for less than by the wall's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from timed_steps import Framework, in_turn

from sae.training.kernels import KernelSettings


def main() -> None:
    """Measure every combination and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", nargs="*", default=["relu", "gated", "jumprelu", "topk", "batch_topk", "matryoshka"])
    parser.add_argument("--d-sae", type=int, nargs="*", default=[2304, 5120, 10240])
    parser.add_argument("--d-in", type=int, default=640)
    parser.add_argument("--layers", type=int, default=2, help="that a cross-layer transcoder reads: they share d_in and d_sae")
    parser.add_argument("--batch", type=int, nargs="*", default=[512, 2048])
    parser.add_argument("--share", type=float, nargs="*", default=[0.005, 0.02, 0.04, 0.06, 0.08, 0.12, 0.2])
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    if options.clock == "cpu" and torch.get_num_threads() > 1:
        parser.error("the processor's clock is one thread's: set OMP_NUM_THREADS=1")
    clock = time.perf_counter if options.clock == "wall" else time.thread_time
    print(f"d_in {options.d_in}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.clock} clock\n")
    head = ("sae", "d_sae", "batch", "share %", "held %", "dense ms", "sparse ms", "sparse / dense", "(quartiles)")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in options.sae:
        for d_sae in options.d_sae:
            for batch in options.batch:
                for share in options.share:
                    print("| " + " | ".join(measure(name, d_sae, batch, share, clock, options)) + " |", flush=True)


def measure(
    name: str, d_sae: int, batch: int, share: float, clock: Callable[[], float], options: argparse.Namespace
) -> tuple[str, ...]:
    """One row of the table."""
    active, kernels = max(1, round(share * d_sae)), KernelSettings(kernels="sparse")
    sizes = {"d_in": options.d_in, "d_sae": d_sae, "batch": batch, "active": active, "layers": options.layers}
    one = Framework(name, **sizes, kernels=kernels)
    rows = one.rows(batch, torch.Generator().manual_seed(1))

    def step(number: int, kernels: Literal["dense", "sparse"]) -> None:
        one.take(KernelSettings(kernels=kernels))
        one.step(rows, number)

    turns = {"dense": partial(step, kernels="dense"), "sparse": partial(step, kernels="sparse")}
    seconds = in_turn(turns, rounds=options.rounds, warm_up=1, clock=clock)
    ratios = [sparse / dense for sparse, dense in zip(seconds["sparse"], seconds["dense"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return (
        name,
        f"{d_sae}",
        f"{batch}",
        f"{100 * share:g}",
        f"{100 * one.share_held(rows):.1f}",
        f"{1000 * statistics.median(seconds['dense']):.0f}",
        f"{1000 * statistics.median(seconds['sparse']):.0f}",
        f"{statistics.median(ratios):.2f}",
        f"{quartiles[0]:.2f} to {quartiles[2]:.2f}",
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
