"""Do the defaults learn? A plain TopK loop at four rates beside `sae=topk`, `batch_topk`, `jumprelu` and `relu` as they are.

    python scripts/reproduce/defaults.py                                       Gemma 3 270M, block 5, 600,000 rows
    python scripts/reproduce/defaults.py --layer 12
    python scripts/reproduce/defaults.py --model smollm2-135m-instruct-q4 --layer 8 --d-sae 2304 --average 60
    python scripts/reproduce/defaults.py --tokens 2400000 --rates 1e-3 2e-3
    python scripts/reproduce/defaults.py --d-sae 10240
    python scripts/reproduce/defaults.py --batch 4096

Activations are harvested once and every contender reads the same rows: two to four minutes of harvest on two idle cores, then
one to three minutes a contender at 600,000 rows, four times that at 2,400,000 or at d_sae 10,240, and half a minute to score
it. The framework's runs are those of the command line, with nothing set but the model, the place, the budget, d_sae, the batch
where --batch is given (the loop's is 1,024 by itself, ours what the command's is) and the sparsity: k 64 for
`topk`; for `batch_topk` and `jumprelu` a little less on average over training rows (--average), so that held-out rows have
at most 64. All are scored in one process, on the same held-out rows and predictions. The table goes to the terminal and, with
all numbers, to OUT/.../results.json; what is there already with the same options is not repeated.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from topk_loop import train_topk

from sae.activations.shuffle import ActivationStream
from sae.architectures.base import SparseAutoencoder
from sae.commands.assemble import open_text
from sae.commands.entry import compose
from sae.commands.held_out import HeldOut
from sae.commands.origin import open_origin
from sae.commands.settings import read_train_config
from sae.formats.native import load

HERE = Path(__file__).resolve().parents[2]
KEYS = ("l0", "fvu", "ce_clean", "ce_sae", "ce_mean", "ce_increase", "kl", "dead_fraction", "never_fired", "tokens_evaluated")
AVERAGE = {"batch_topk": "sae.k", "matryoshka": "sae.k", "jumprelu": "sae.l0_target"}  # L0 is held on average over rows
COLUMNS = ("l0", "fvu", "dead_fraction", "ce_clean", "ce_increase", "seconds")


def main() -> None:
    """Run every contender and print the table."""
    options = arguments()
    sizes = (options.tokens, options.rows, options.d_sae, options.batch or "own", options.k, options.average, options.ce_tokens)
    out = options.out / "-".join(map(str, (options.model, options.layer, *sizes)))
    out.mkdir(parents=True, exist_ok=True)
    source = [f"model={options.model}", f"hook.layer={options.layer}", f"data.max_rows={options.rows}"]
    store = options.out / f"rows-{options.model}-{options.layer}-{options.rows}"
    if not (store / "manifest.json").exists():
        run("harvest", *source, f"out={store}")
    stored = [*source, "activations=stored", f"activations.path={store}", f"evaluation.ce_tokens={options.ce_tokens}"]
    judge = Judge([*stored, "logger=none"])
    results: dict[str, dict[str, Any]] = {}
    for rate in options.rates:
        make = partial(plain_loop, judge, options, rate)
        results[f"plain loop, lr {rate:g}"] = kept(out / f"loop-{rate:g}.json", make)
    for name in options.sae:
        results[f"sae={name}"] = kept(out / f"{name}.json", partial(ours, judge, name, stored, options, out))
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{options.model}, block {options.layer}, {options.tokens:,} of {options.rows:,} rows, d_sae {options.d_sae}")
    print(f"batch {options.batch:,}\n" if options.batch is not None else "each its own batch\n")
    print(f"| {'':24} | {' | '.join(f'{column:>13}' for column in COLUMNS)} |")
    print(f"|{'-' * 26}|{'|'.join('-' * 15 for _ in COLUMNS)}|")
    for name, row in results.items():
        print(f"| {name:24} | {' | '.join(f'{row[column]:13.4f}' for column in COLUMNS)} |")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma3-270m-q4")
    parser.add_argument("--layer", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=600_000, help="training rows in all")
    parser.add_argument("--rows", type=int, default=400_000, help="distinct rows")
    parser.add_argument("--d-sae", type=int, default=2560)
    parser.add_argument("--batch", type=int, help="rows in a step, of all; without it 1,024 of the loop, ours by default")
    parser.add_argument("--k", type=int, default=64, help="of the plain loop and of topk")
    parser.add_argument("--average", type=int, default=62, help="latents on an average training row of the others that count")
    parser.add_argument("--rates", type=float, nargs="*", default=[3e-4, 1e-3, 2e-3, 4e-3], help="of the plain loop")
    parser.add_argument("--sae", nargs="*", default=["topk", "batch_topk", "jumprelu", "relu"])
    parser.add_argument("--ce-tokens", type=int, default=2000, help="predictions scored")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "reproduce" / "defaults")
    return parser.parse_args()


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds, made first if it is not there."""
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


class Judge:
    """Scores every contender on the same held-out text: the model's untouched predictions are made once."""

    def __init__(self, overrides: list[str]) -> None:
        self.config = read_train_config(compose("train", overrides))
        self.origin = open_origin(self.config.origin)
        self.text = open_text(self.origin)
        self.held_out = HeldOut(
            self.origin, self.text.held_out, cached=False, norm_limits=dict, on_rows=lambda done, total: None
        )

    def score(self, sae: SparseAutoencoder, *, dead: float, seconds: float) -> dict[str, Any]:
        """The numbers of the table and what they can be checked by."""
        report = self.held_out.report(sae, dead_fraction=dead, tokens_trained=None, tokens_per_second=None)
        return {key: report[key] for key in KEYS} | {"seconds": seconds}


def ours(judge: Judge, name: str, stored: list[str], options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """One run of the command, which measures nothing itself while it trains."""
    sizes = [f"sae={name}", "sae.expansion=null", f"sae.d_sae={options.d_sae}", f"train.tokens={options.tokens}"]
    if options.batch is not None:
        sizes.append(f"train.batch_tokens={options.batch}")
    if name == "topk":
        sizes.append(f"sae.k={options.k}")
    elif name in AVERAGE:
        sizes.append(f"{AVERAGE[name]}={options.average}")
    quiet = ["evaluation.ce_tokens=0", "evaluation.rows=4096", f"evaluation.every_tokens={2 * options.tokens}", "logger=none"]
    run("train", *stored, *sizes, *quiet, f"run.folder={out}", f"run.name=run-{name}", "run.if_exists=overwrite")
    (report,) = json.loads((out / f"run-{name}" / "report.json").read_text())["saes"].values()
    seconds = options.tokens / report["tokens_per_second"]
    return judge.score(load(out / f"run-{name}"), dead=report["dead_fraction"], seconds=seconds)


def plain_loop(judge: Judge, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """The loop on the rows of the same stream."""
    source, batch = judge.text.stored, options.batch or 1024
    assert source is not None
    stream = ActivationStream(
        judge.text.windows,
        source,
        batch_rows=batch,
        chunk_rows=judge.config.origin.activations.chunk_tokens,
        seed=judge.config.origin.seed,
        total_rows=options.tokens,
    )
    (point,) = source.widths
    first = stream.current_chunk().values[point].float()
    start = time.perf_counter()
    batches = (rows.rows.values[point] for rows in stream)
    sae, dead = train_topk(batches, first, d_sae=options.d_sae, k=options.k, lr=rate, steps=options.tokens // batch)
    seconds = time.perf_counter() - start
    stream.close()
    return judge.score(sae, dead=dead, seconds=seconds)


def run(command: str, *overrides: str) -> None:
    """A command of the project, its output on the terminal."""
    print(f"\n$ python scripts/{command}.py {' '.join(overrides)}", flush=True)
    subprocess.run([sys.executable, str(HERE / "scripts" / f"{command}.py"), *overrides], check=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
