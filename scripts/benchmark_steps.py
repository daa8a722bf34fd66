"""One training step of each architecture: the framework's beside a dense one, in turn, and where its time goes.

    python scripts/benchmark_steps.py                                             d_in 640, batch 2048, d_sae 5120 to 40960
    python scripts/benchmark_steps.py --d-sae 163840 --sae topk batch_topk jumprelu --encoder-dtype bfloat16
    python scripts/benchmark_steps.py --beside dense                              what `auto` takes beside our own dense pass
    python scripts/benchmark_steps.py --sae topk --d-sae 131072 --d-in 768 --batch 4096 --beside nothing        its memory

`scripts/timed_steps.py` and `scripts/plain_steps.py` have the two steps; `--beside dense` puts the framework's own with
`trainer.kernels=dense` in place of the plain one, in float32 whatever `--encoder-dtype` says. ReLU, gated and crosscoder
have 50 latents a row and the others k. Times are medians of steps taken in turn, so that whatever else the machine does slows
both alike: read the ratio. `encoder` is the encoder's forward product alone, in the type that the step makes it in. The
stages are from three further steps under torch's profiler; those of a dense step are not told apart. `peak MiB` is the most
that the process ever held, and told where that is our step's: with `--beside nothing` and one row.
"""

import argparse
import resource
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from plain_steps import Plain
from timed_steps import BY_BIAS, STAGES, Framework, Product, in_turn

from sae.commands.reading import TRAINED
from sae.training.kernels import KernelSettings


def main() -> None:
    """Measure every pair of architecture and size and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sae", nargs="*", default=list(TRAINED))
    parser.add_argument("--d-sae", type=int, nargs="*", default=[5120, 10240, 40960])
    parser.add_argument("--d-in", type=int, default=640)
    parser.add_argument("--layers", type=int, default=2, help="that a cross-layer transcoder reads: they share d_in and d_sae")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32, help="latents a row of all but relu, gated and crosscoder")
    parser.add_argument("--steps", type=int, default=12, help="of each kind, after two that do not count")
    parser.add_argument(
        "--beside", default="plain", choices=["plain", "dense", "nothing"], help="the step that ours is held against"
    )
    parser.add_argument("--kernels", default="auto", choices=["auto", "dense", "sparse"])
    parser.add_argument("--encoder-dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"d_in {options.d_in}, batch {options.batch}, k {options.k}, {threads}")
    print(f"kernels {options.kernels}, encoder in {options.encoder_dtype}; milliseconds, medians of {options.steps}\n")
    other = options.beside
    head = ("d_sae", "sae", "L0", other, "ours", f"{other} / ours", "(quartiles)", "encoder", "ours / encoder", "peak MiB")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    profiles = []
    for d_sae in options.d_sae:
        for name in options.sae:
            row, profile = measure(name, d_sae, options)
            print("| " + " | ".join(row) + " |", flush=True)
            profiles.append((d_sae, name, profile))
    print("\nWhere our step's time goes, milliseconds:\n")
    print("| d_sae | sae | " + " | ".join(STAGES) + " |\n|" + "---|" * (2 + len(STAGES)))
    for d_sae, name, profile in profiles:
        print(f"| {d_sae} | {name} | " + " | ".join(f"{profile[stage]:.0f}" for stage in STAGES) + " |")


def is_alone(options: argparse.Namespace) -> bool:
    """Whether this process makes one step of ours and no other: its memory never falls, and is that step's only then."""
    return options.beside == "nothing" and len(options.sae) * len(options.d_sae) == 1


def measure(name: str, d_sae: int, options: argparse.Namespace) -> tuple[list[str], dict[str, float]]:
    """One row of the table, and the time of each stage."""
    kernels = KernelSettings(kernels=options.kernels, encoder_dtype=options.encoder_dtype)
    active = 50 if name in BY_BIAS else options.k
    sizes = {"d_in": options.d_in, "d_sae": d_sae, "batch": options.batch, "active": active, "layers": options.layers}
    framework = partial(Framework, name, **sizes)
    ours = framework(kernels=kernels)
    generator = torch.Generator().manual_seed(1)
    batches = [ours.rows(options.batch, generator) for _ in range(4)]
    turns: dict[str, Callable[[int], Any]] = {"ours": lambda number: ours.step(batches[number % 4], number)}
    if options.beside == "plain":
        plain = Plain(ours)
        turns["beside"] = lambda number: plain.step(batches[number % 4])
    elif options.beside == "dense":
        dense = framework(kernels=KernelSettings(kernels="dense"))
        turns["beside"] = lambda number: dense.step(batches[number % 4], number)
    if options.beside != "nothing":
        product = Product(ours.learner, batch=options.batch, dtype=getattr(torch, options.encoder_dtype))
        turns["encoder"] = lambda number: product.step(batches[number % 4])
    seconds = {"beside": [], "encoder": []} | in_turn(turns, rounds=options.steps)
    median = {kind: 1000 * statistics.median(times) for kind, times in seconds.items() if times}
    ratios = [one / two for one, two in zip(seconds["beside"], seconds["ours"], strict=False)]
    over_encoder = [one / two for one, two in zip(seconds["ours"], seconds["encoder"], strict=False)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else None
    row = [
        str(d_sae),
        name,
        f"{ours.l0:.0f}",
        f"{median['beside']:.0f}" if ratios else "-",
        f"{median['ours']:.0f}",
        f"{statistics.median(ratios):.2f}" if ratios else "-",
        f"{quartiles[0]:.2f} to {quartiles[2]:.2f}" if quartiles else "-",
        f"{median['encoder']:.0f}" if ratios else "-",
        f"{statistics.median(over_encoder):.2f}" if ratios else "-",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}" if is_alone(options) else "-",
    ]
    return row, ours.stages(batches[0])


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
