"""Sparse coding beside TopK and ReLU SAEs: the same mixed rows, the same number of latents, the same L0.

    python scripts/reproduce/transformer_factors/equal_l0.py
    python scripts/reproduce/transformer_factors/equal_l0.py --positions 100000

Sparse coding comes first, with the given coefficient. TopK gets k = its L0 on held-out rows, rounded; ReLU's coefficient is
found by runs of the whole budget, each next one by interpolation of log L0 over log coefficient, until L0 is within 5 %.
SAEs have the settings of conf/sae and see the same rows equally often; one TopK SAE more often. `exact codes` are the
lasso's with an SAE's own decoder, their coefficient set for the same L0; they are shrunk by the penalty, as a TopK SAE's
activations are not. Two dictionaries of one method and different seeds say how much of it is chance. Numbers are of
held-out rows.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from material import Material, add_arguments, fit_sparse_coding
from torch import Tensor

import sae
from sae.architectures.base import SparseAutoencoder
from sae.architectures.sparse_coding import SparseCodingSAE
from sae.functional.files import write_whole
from sae.functional.matching import best_assignment, cosines

MOST_RUNS = 4
NEAR = 0.05
PART_ROWS = 4096
BISECTIONS = 8


def main() -> None:
    """Make what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--passes", type=int, default=6, help="passes over the rows of one more TopK SAE")
    options = parser.parse_args()
    material = Material(options)
    train, held_out = material.rows(held_out=False), torch.from_numpy(np.array(material.rows(held_out=True)))
    folder = material.out / "equal_l0"
    folder.mkdir(exist_ok=True)
    first = material.dictionary()
    saes = {"sparse coding": first}
    seconds = {"sparse coding": json.loads((material.out / "sparse_coding.json").read_text())["seconds"]}
    figures = {"sparse coding": measure(first, held_out, material.layers)}
    target = figures["sparse coding"]["l0"]

    def take(name: str, make: Callable[[], tuple[SparseAutoencoder, float]]) -> None:
        saes[name], seconds[name] = kept(folder / name.replace(" ", "_").replace(",", ""), make)
        figures[name] = measure(saes[name], held_out, material.layers)
        print(f"{name}: L0 {figures[name]['l0']:.2f}, FVU {figures[name]['fvu']:.4f}, {seconds[name]:.0f} s", flush=True)

    take("sparse coding, seed 1", lambda: fit_sparse_coding(train, options, seed=options.seed + 1))
    k = max(1, round(target))
    for seed in (0, 1):
        take(f"topk{', seed 1' * seed}", partial(trained, train, options, seed, architecture="topk", k=k))
    coefficient, tried = 2.25, []
    for _ in range(MOST_RUNS):
        name = f"relu {coefficient:.3g}"
        take(name, partial(trained, train, options, 0, architecture="relu", l1_coefficient=coefficient))
        tried.append((coefficient, figures[name]["l0"], name))
        if abs(figures[name]["l0"] / target - 1) < NEAR:
            break
        coefficient = next_coefficient(tried, target)
    relu = min(tried, key=lambda one: abs(math.log(one[1] / target)))[2]
    more = f"topk, {options.passes} passes"
    take(more, partial(trained, train, options, 0, passes=options.passes, architecture="topk", k=k))
    names = ["sparse coding", "topk", more, relu]
    for name in ("topk", relu):
        exact = coder_of(saes[name], held_out, target)
        figures[f"{name}, exact codes"] = measure(exact, held_out, material.layers)
    pairs = [
        ("sparse coding", "sparse coding, seed 1"),
        ("topk", "topk, seed 1"),
        ("sparse coding", "topk"),
        ("sparse coding", relu),
        ("topk", relu),
    ]
    shared = [agreement(one, other, saes, figures) for one, other in pairs]
    result = {"figures": figures, "seconds": seconds, "shared": shared, "rows": len(train), "held_out_rows": len(held_out)}
    write_whole(folder / "results.json", json.dumps(result, indent=1) + "\n")
    show(result, [*names, "topk, exact codes", f"{relu}, exact codes"], material)


def trained(
    rows: Float[np.ndarray, "rows width"], options: argparse.Namespace, seed: int, *, passes: int = 1, **settings: Any
) -> tuple[SparseAutoencoder, float]:
    """An SAE trained on the rows, and the processor's seconds that it took."""
    start = time.process_time()
    found = sae.fit(rows, d_sae=options.d_sae, tokens=passes * options.epochs * len(rows), seed=seed, **settings)
    return found, time.process_time() - start


def kept(folder: Path, make: Callable[[], tuple[SparseAutoencoder, float]]) -> tuple[SparseAutoencoder, float]:
    """A saved SAE with its seconds, made first if it is not there."""
    if not (folder / "seconds.json").exists():
        found, seconds = make()
        sae.save(found, folder)
        write_whole(folder / "seconds.json", json.dumps(seconds))
    return sae.load(folder), float(json.loads((folder / "seconds.json").read_text()))


def next_coefficient(tried: list[tuple[float, float, str]], target: float) -> float:
    """Where log L0 meets the target on the line through the last two runs; after one run: as if L0 were 1 / coefficient."""
    coefficient, l0, _ = tried[-1]
    slope = -1.0
    if len(tried) > 1:
        before, l0_before, _ = tried[-2]
        slope = min(-0.2, math.log(l0 / l0_before) / math.log(coefficient / before))
    return coefficient * math.exp(math.log(target / l0) / slope)


def measure(one: SparseAutoencoder, rows: Float[Tensor, "rows width"], layers: int) -> dict[str, Any]:
    """L0 and FVU of all rows, and of each layer about its own mean; which latents are ever active; rows a second.

    Args:
        one: an SAE of raw rows.
        rows: row i is of layer i % layers.
        layers: how many there are.
    """
    error, active, fired = torch.zeros(len(rows)), torch.zeros(len(rows)), torch.zeros(one.d_sae, dtype=torch.bool)
    start = time.process_time()
    for begin in range(0, len(rows), PART_ROWS):
        part = slice(begin, begin + PART_ROWS)
        with torch.no_grad():
            output = one(rows[part])
        error[part] = (output.recon - rows[part]).square().sum(dim=1)
        active[part] = (output.latent_acts > 0).sum(dim=1).float()
        fired |= (output.latent_acts > 0).any(dim=0)
    seconds = time.process_time() - start
    of_layer = [rows[layer::layers] for layer in range(layers)]
    return {
        "l0": float(active.double().mean()),
        "fvu": float(error.double().sum() / (rows - rows.mean(dim=0)).double().square().sum()),
        "l0_by_layer": [float(active[layer::layers].double().mean()) for layer in range(layers)],
        "fvu_by_layer": [
            float(error[layer::layers].double().sum() / (some - some.mean(dim=0)).double().square().sum())
            for layer, some in enumerate(of_layer)
        ],
        "silent": float(1 - fired.double().mean()),
        "fired": fired.nonzero().squeeze(1).tolist(),
        "rows_per_second": len(rows) / seconds,
    }


def coder_of(one: SparseAutoencoder, rows: Float[Tensor, "rows width"], target: float) -> SparseCodingSAE:
    """Sparse coding with an SAE's decoder and decoder bias, its coefficient bisected for an L0 of `target`."""
    some = rows[:: max(1, len(rows) // PART_ROWS)]
    found = SparseCodingSAE(d_in=one.d_in, d_sae=one.d_sae, l1_coefficient=1.0)
    with torch.no_grad():
        found.W_dec.copy_(one.W_dec / one.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))
        found.b_dec.copy_(one.b_dec)

    def l0_at(coefficient: float) -> float:
        found.l1_coefficient = coefficient
        with torch.no_grad():
            return float((found.encode(some) > 0).sum(dim=1).double().mean())

    low = float(some.norm(dim=1).median())
    while l0_at(low) < target and low > 1e-6:  # from above: the smaller the coefficient, the longer it takes
        low /= 2
    high = 2 * low
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if l0_at(middle) > target else (low, middle)
    found.l1_coefficient = math.sqrt(low * high)
    return found.requires_grad_(False).eval()


def agreement(one: str, other: str, saes: dict[str, SparseAutoencoder], figures: dict[str, Any]) -> dict[str, Any]:
    """How alike the latents of two dictionaries are that fire on held-out rows."""
    first, second = (saes[name].W_dec.detach()[figures[name]["fired"]] for name in (one, other))
    table = cosines(first, second).abs() if len(first) <= len(second) else cosines(second, first).abs()
    matched = table.gather(1, best_assignment(-table)[:, None]).squeeze(1)
    return {
        "pair": [one, other],
        "mean_max": [float(cosines(first, second).amax(dim=side).mean()) for side in (1, 0)],
        "matched": float(matched.mean()),
        "above_0.7": float((matched > 0.7).double().mean()),
        "above_0.9": float((matched > 0.9).double().mean()),
    }


def show(result: dict[str, Any], names: list[str], material: Material) -> None:
    """The tables, as they stand in RESULTS.md."""
    layers = material.labels()
    figures, seconds = result["figures"], result["seconds"]
    print(f"\n{result['rows']:,} rows, {result['held_out_rows']:,} held out\n")
    print(f"| FVU after block | L0 | all | {' | '.join(layers)} | silent | CPU seconds | rows coded a CPU second |")
    print(f"|---|---|---|{'---|' * len(layers)}---|---|---|")
    for name in names:
        row = figures[name]
        values = " | ".join(f"{value:.3f}" for value in row["fvu_by_layer"])
        time_taken = f"{seconds[name]:.0f}" if name in seconds else "-"
        print(
            f"| {name} | {row['l0']:.1f} | {row['fvu']:.3f} | {values} | {100 * row['silent']:.1f} % | {time_taken} | "
            f"{row['rows_per_second']:,.0f} |"
        )
    print(f"\n| L0 after block | {' | '.join(layers)} |\n|---|{'---|' * len(layers)}")
    for name in names:
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in figures[name]['l0_by_layer'])} |")
    print("\n| dictionaries | mean max cosine, both ways | matched | above 0.7 | above 0.9 |\n|---|---|---|---|---|")
    for row in result["shared"]:
        both = ", ".join(f"{value:.3f}" for value in row["mean_max"])
        shares = f"{100 * row['above_0.7']:.0f} % | {100 * row['above_0.9']:.0f} %"
        print(f"| {row['pair'][0]} and {row['pair'][1]} | {both} | {row['matched']:.3f} | {shares} |")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
