"""What a dashboard's build costs beside two passes that keep nothing, on the same tokens.

    python scripts/benchmark_dashboard.py --of runs/NAME                       500,000 tokens
    python scripts/benchmark_dashboard.py --of runs/NAME --tokens 50000 dashboard.effects_dtype=float32

Both run the model and the encoder, dense. "To the hook" ends at the hook point, and is what a build cannot do without; "whole
model" runs all blocks and makes all logits, as a plain `model(tokens)` gives and as tools pay that do not stop at the hook. The
first is taken before and after every build, and ratios are to the mean of the two; the second is taken on the first 32,768
positions at most, and scaled. What does not grow with the tokens (loading, tokenising) is left out; making pages grows with the
latents too, so that few tokens make it look dear. Further arguments are overrides of every build.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sae.commands.dashboard_job import Job, prepare
from sae.commands.dashboard_pages import write_dashboard
from sae.commands.entry import compose
from sae.dashboards.collect.collector import collect
from sae.dashboards.collect.encode import join_rows
from sae.models.taps import tap

WHOLE_POSITIONS = 32_768  # that the whole model is run on
COLUMNS = (
    "build",
    "tokens",
    "to the hook, s",
    "whole model, s",
    "reading, s",
    "pages, s",
    "reading / to the hook",
    "build / to the hook",
    "reading / whole model",
    "build / whole model",
)


def main() -> None:
    """Measure both builds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", required=True, help="a run's folder or an SAE's")
    parser.add_argument("--tokens", type=int, default=500_000)
    options, overrides = parser.parse_known_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for effects in ("none", "gradient"):
        with tempfile.TemporaryDirectory() as folder:
            lines = [f"from={options.of}", f"dashboard.tokens={options.tokens}", f"dashboard.effects={effects}", *overrides]
            lines.append(f"out={folder}/dashboard")
            job = prepare(compose("dashboard", lines), lines)
            print(f"| effects {effects} | {job.blocks.num_rows} | {measured(job)} |", flush=True)


def measured(job: Job) -> str:
    """The numbers of one build."""
    before = seconds(lambda: pass_to_the_hook(job))
    codes, reading = timed(lambda: read(job))
    pages = seconds(lambda: write_dashboard(job, codes, on_latents=quiet, on_firings=quiet))
    hook = (before + seconds(lambda: pass_to_the_hook(job))) / 2
    some = min(len(job.blocks), max(1, WHOLE_POSITIONS // job.blocks.context_length))
    whole = seconds(lambda: pass_of_the_whole_model(job, some)) * len(job.blocks) / some
    build = reading + pages
    taken = f"{hook:.0f} | {whole:.0f} | {reading:.0f} | {pages:.0f}"
    return f"{taken} | {reading / hook:.2f} | {build / hook:.2f} | {reading / whole:.2f} | {build / whole:.2f}"


@torch.no_grad()
def pass_to_the_hook(job: Job) -> None:
    """The model up to the hook point, and the encoder."""
    source, points = job.origin.harvester, [point.name for point in job.origin.inputs]
    for piece in torch.arange(len(job.blocks)).split(source.piece_blocks):
        job.sae.encode(join_rows(source.rows(job.blocks, piece).values, points).to(job.sae.W_dec))


@torch.no_grad()
def pass_of_the_whole_model(job: Job, num_blocks: int) -> None:
    """All of the model with its logits, and the encoder."""
    model, points = job.origin.model, job.origin.inputs
    seen: dict[str, Tensor] = {}
    with model.lock, ExitStack() as hooks:
        for point in points:
            module = model.module.get_submodule(point.module)
            hooks.callback(tap(module, point.tensor, partial(seen.__setitem__, point.name)).remove)
        for piece in torch.arange(num_blocks).split(job.origin.harvester.piece_blocks):
            chosen = job.blocks.select(piece)
            model.module(input_ids=chosen.ids.to(model.device, torch.long))
            keep = chosen.keep.to(model.device).flatten()
            rows = {name: hidden.reshape(len(keep), -1)[keep] for name, hidden in seen.items()}
            job.sae.encode(join_rows(rows, [point.name for point in points]).to(job.sae.W_dec))


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
