"""The decoder's share of a step by a sparse pass, three ways in turn: what each gradient and each way of Adam costs.

    python scripts/benchmark_lazy.py                                    d_in 640, batches of 256 and 2048, d_sae 10240 to 163840

`dense` writes a gradient with its zeros and steps every row; `rows` writes the rows that have one and steps every row, as
training does by itself; `lazy` steps the rows that have one (`optimizer.lazy_decoder=true`) and brings rows up to date before
they are read. Each way makes the gradient of a batch whose latents are drawn alike, and takes the step; reading the decoder and
the encoder's half are the same for all and left out. Milliseconds of processor time, medians of rounds taken in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from timed_steps import in_turn
from torch import Tensor, nn

from sae.functional.geometry import unit_rows_
from sae.functional.lazy_rows import LazyRows
from sae.functional.missed_steps import MissedSteps
from sae.functional.row_gradients import accept_row_gradients
from sae.functional.sparse import SparseActs, sparse_decode
from sae.functional.sparse_pattern import SparsePattern
from sae.training.block_adam import BlockAdam

WAYS = ("dense", "rows", "lazy")
REPLAYED = {"rows": 0, "of": 0}


def main() -> None:
    """Measure every pair of sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-sae", type=int, nargs="*", default=[10240, 40960, 163840])
    parser.add_argument("--batch", type=int, nargs="*", default=[256, 2048])
    parser.add_argument("--d-in", type=int, default=640)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--before", type=int, default=60, help="steps that do not count: rows miss few of the first ones")
    parser.add_argument("--rounds", type=int, default=6, help="that count")
    options = parser.parse_args()
    print(f"d_in {options.d_in}, k {options.k}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    head = ("d_sae", "batch", "latents in use", *WAYS, "rows / dense", "lazy / rows", "(least to most)", "step by step")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    MissedSteps.make_up_ = _counted(MissedSteps.make_up_)
    for d_sae in options.d_sae:
        for batch in options.batch:
            print("| " + " | ".join(measure(d_sae, batch, options)) + " |", flush=True)


def measure(d_sae: int, batch: int, options: argparse.Namespace) -> list[str]:
    """One row of the table."""
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(batch, options.d_in, generator=generator) / batch
    start = unit_rows_(torch.randn(d_sae, options.d_in, generator=generator))
    drawn = [_acts(d_sae, batch, options.k, number) for number in range(options.before + options.rounds)]
    turns = {way: _turn(way, start.clone(), errors, drawn) for way in WAYS}
    used = len(drawn[0].pattern.active) / d_sae
    REPLAYED.update({"rows": 0, "of": 0})
    seconds = in_turn(turns, rounds=options.rounds, warm_up=options.before, clock=time.process_time)
    median = {way: 1000 * statistics.median(times) for way, times in seconds.items()}
    ratios = [lazy / rows for lazy, rows in zip(seconds["lazy"], seconds["rows"], strict=True)]
    return [
        f"{d_sae}",
        f"{batch}",
        f"{used:.0%}",
        *(f"{median[way]:.1f}" for way in WAYS),
        f"{median['rows'] / median['dense']:.2f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{REPLAYED['rows'] / max(1, REPLAYED['of']):.1%}",
    ]


def _turn(way: str, start: Tensor, errors: Tensor, drawn: list[SparseActs]) -> Callable[[int], None]:
    weight = LazyRows(start) if way == "lazy" else nn.Parameter(start)
    optimizer = BlockAdam([weight], 3e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, unit_rows=weight)
    if way != "dense":
        accept_row_gradients(weight)

    def turn(number: int) -> None:
        acts = drawn[number]
        pattern = replace(acts.pattern)  # its order by latents is not made yet
        sparse_decode(SparseActs(values=acts.values, pattern=pattern), weight).backward(errors)
        optimizer.step()
        optimizer.zero_grad()

    return turn


def _acts(d_sae: int, batch: int, k: int, number: int) -> SparseActs:
    """So many latents a row, all alike, with activations around 1."""
    generator = torch.Generator().manual_seed(1 + number)
    indices = torch.randint(0, d_sae, (batch * k,), dtype=torch.int32, generator=generator)
    offsets = torch.arange(0, batch * k + 1, k, dtype=torch.int32)
    pattern = SparsePattern(indices=indices, offsets=offsets, num_latents=d_sae)
    return SparseActs(values=torch.rand(batch * k, generator=generator) + 0.5, pattern=pattern)


def _counted(make_up: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Counts the rows that the closed form is not right to rounding for."""

    def counted(*arguments: object, **keywords: object) -> Tensor:
        failed = make_up(*arguments, **keywords)
        REPLAYED["rows"] += int(failed.sum())
        REPLAYED["of"] += len(failed)
        return failed

    return counted


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
