"""What a dashboard's build costs beside the plain pass that it cannot do without, on the same tokens.

    python scripts/benchmark_dashboard.py --of runs/NAME                       500,000 tokens
    python scripts/benchmark_dashboard.py --of runs/NAME --tokens 50000 dashboard.effects_dtype=float32

The plain pass runs the model up to the hook point and the encoder, dense, and keeps nothing. It is taken before and after every
build, and ratios are to the mean of the two. What does not grow with the tokens (loading, tokenising) is left out; making pages
grows with the latents too, so that few tokens make it look dear. Further arguments are overrides of every build.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from sae.commands.dashboard_job import Job, prepare
from sae.commands.dashboard_pages import write_dashboard
from sae.commands.entry import compose
from sae.dashboards.collect.collector import collect
from sae.dashboards.collect.encode import join_rows


def main() -> None:
    """Measure both builds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", required=True, help="a run's folder or an SAE's")
    parser.add_argument("--tokens", type=int, default=500_000)
    options, overrides = parser.parse_known_args()
    print("| build | tokens | plain pass, s | reading, s | pages, s | reading / plain | whole / plain |\n|" + "---|" * 7)
    for effects in ("none", "gradient"):
        with tempfile.TemporaryDirectory() as folder:
            lines = [f"from={options.of}", f"dashboard.tokens={options.tokens}", f"dashboard.effects={effects}", *overrides]
            lines.append(f"out={folder}/dashboard")
            job = prepare(compose("dashboard", lines), lines)
            print(f"| effects {effects} | {job.blocks.num_rows} | {measured(job)} |", flush=True)


def measured(job: Job) -> str:
    """The numbers of one build."""
    before = seconds(lambda: plain_pass(job))
    codes, reading = timed(lambda: read(job))
    pages = seconds(lambda: write_dashboard(job, codes, on_latents=quiet, on_firings=quiet))
    plain = (before + seconds(lambda: plain_pass(job))) / 2
    return f"{plain:.0f} | {reading:.0f} | {pages:.0f} | {reading / plain:.2f} | {(reading + pages) / plain:.2f}"


def plain_pass(job: Job) -> None:
    """The model up to the hook point, and the encoder."""
    source, points = job.origin.harvester, [point.name for point in job.origin.inputs]
    with torch.no_grad():
        for piece in torch.arange(len(job.blocks)).split(source.piece_blocks):
            job.sae.encode(join_rows(source.rows(job.blocks, piece).values, points).to(job.sae.W_dec))


def read(job: Job) -> Any:
    """The pass that collects codes."""
    return collect(job.folder.collected, sae=job.sae, source=job.origin.harvester, on_rows=quiet, **job.keywords)


def quiet(done: int, total: int) -> None:
    """Shows nothing."""


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work gives, and the seconds that it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def seconds(work: Callable[[], Any]) -> float:
    """The seconds that some work took."""
    return timed(work)[1]


if __name__ == "__main__":
    main()
