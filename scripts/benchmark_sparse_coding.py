"""Non-negative sparse codes: ours beside scikit-learn's positive Lasso, at one objective, and where our time goes.

    python scripts/benchmark_sparse_coding.py                                   planted rows, d_in 384, 2000 atoms, 256 rows
    python scripts/benchmark_sparse_coding.py --rows planted leaning layer3.npy --dtype float64
    python scripts/benchmark_sparse_coding.py --fixed 1                         the 500 fixed iterations of the paper as well

`planted` rows are sums of some twenty random atoms with noise. `leaning` is the same with atoms that all lean one way, as in
residual streams, where codes are several times as hard to find. A file of rows [rows, d_in] gets a dictionary fitted to the
rows after those that are coded. Turns are taken in rotation; numbers are vectors a second of PROCESSOR time of one thread, best
of the turns, so that other work on the machine counts little. scikit-learn stops at the loosest of its tolerances that brings
the summed objective within `--equal` of the least one found; ours stops by its own certificate. `warm` starts from codes under
a dictionary whose atoms were turned by about 0.02, as between two steps of a fit.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sae.factors.dictionary_fit import DictionaryFit
from sae.functional.geometry import unit_rows_
from sae.functional.lasso import code_certificate
from sae.functional.sparse_coding import CodingSettings, SparseCodes, sparse_code

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler says among the tables when it starts and stops

TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
Codes = Callable[[], Tensor]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=["planted", "leaning"], help="planted, leaning or a .npy file")
    parser.add_argument("--count", type=int, default=256, help="rows that are coded")
    parser.add_argument("--d-in", type=int, default=384)
    parser.add_argument("--d-sae", type=int, default=2000)
    parser.add_argument("--l1", type=float, help="coefficient; default: 0.2, of a file a twentieth of the median largest fit")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--equal", type=float, default=1e-5, help="objectives that differ by this share are called equal")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--fixed", type=int, choices=[0, 1], default=0, help="1: also FISTA with 500 iterations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # scikit-learn warns of each row that it does not finish; the table shows what it reached
    print(f"d_sae {options.d_sae}, {options.count} rows, {options.dtype}, one thread, torch {torch.__version__}\n")
    profiles = []
    for name in options.rows:
        rows, dictionary, l1 = problem(name, options)
        profiles.append((name, measure(name, rows, dictionary, l1, options)))
    for name, table in profiles:
        print(f"\nWhere the time of `working sets, cold` goes, {name}:\n\n{table}")


def problem(name: str, options: argparse.Namespace) -> tuple[Tensor, Tensor, float]:
    """Rows, a dictionary and the coefficient, in float64."""
    generator = torch.Generator().manual_seed(0)
    if name not in ("planted", "leaning"):
        array = torch.from_numpy(np.load(Path(name), mmap_mode="r").astype("float32"))
        rows, others = array[: options.count], array[options.count :]
        fits = unit_rows_(others[: options.d_sae].clone()) @ rows.T
        l1 = options.l1 or 0.05 * float(fits.amax(dim=0).median())
        fit = DictionaryFit(d_in=array.shape[1], d_sae=options.d_sae, l1_coefficient=l1, start="rows")
        for batch in others.split(max(4096, options.d_sae)):
            fit.step(batch)
        return rows.double(), fit.dictionary.double(), l1
    lean = 0.0 if name == "planted" else 0.7 * options.d_in**0.5
    common = torch.nn.functional.normalize(torch.randn(1, options.d_in, generator=generator, dtype=torch.float64), dim=1)
    dictionary = unit_rows_(torch.randn(options.d_sae, options.d_in, generator=generator, dtype=torch.float64) + lean * common)
    shape = (options.count, options.d_sae)
    strengths = torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)
    acts = strengths * (torch.rand(shape, generator=generator) < 20 / options.d_sae)
    noise = torch.randn(options.count, options.d_in, generator=generator, dtype=torch.float64)
    return acts @ dictionary + 0.05 * noise, dictionary, options.l1 or 0.2


def measure(name: str, rows: Tensor, dictionary: Tensor, l1: float, options: argparse.Namespace) -> str:
    """One table of all solvers; returns the profile of ours."""
    dtype = getattr(torch, options.dtype)
    x, atoms = rows.to(dtype), dictionary.to(dtype)
    turned = unit_rows_(atoms + 0.02 / atoms.shape[1] ** 0.5 * torch.randn_like(atoms))
    near = sparse_code(x, turned, l1).acts

    def ours(settings: CodingSettings | None = None, *, warm: bool = False) -> Codes:
        return lambda: dense(sparse_code(x, atoms, l1, settings=settings, start=near if warm else None))

    exact = sparse_code(rows, dictionary, l1, settings=CodingSettings(tolerance=1e-10)).acts.to_dense()
    least = float(code_certificate(rows, dictionary, exact, l1).objective.sum())
    fista = CodingSettings(method="fista", max_iterations=2000)
    solvers = {
        "working sets, cold": ours(),
        "working sets, warm": ours(warm=True),
        "FISTA to the gap, cold": ours(fista),
        "FISTA to the gap, warm": ours(fista, warm=True),
    }
    if options.fixed:
        solvers["FISTA, 500 iterations"] = ours(
            CodingSettings(method="fista", tolerance=None, max_iterations=500, restart=False)
        )
    for label, solver in theirs(x.numpy(), atoms.numpy(), l1).items():
        for tolerance in TOLERANCES:
            codes = solver(tolerance)
            if excess(codes, rows, dictionary, l1, least) <= options.equal or tolerance == TOLERANCES[-1]:
                title = label if label == "sparse_encode" else f"{label}, tol {tolerance:g}"
                solvers[title] = lambda solver=solver, tolerance=tolerance: solver(tolerance)
                break
    seconds: dict[str, list[float]] = {label: [] for label in solvers}
    results: dict[str, Tensor] = {}
    for _ in range(options.turns):
        for label, solve in solvers.items():
            began = time.process_time()
            results[label] = solve()
            seconds[label].append(time.process_time() - began)
    density = float((exact > 0).sum(dim=1).double().mean())
    print(f"{name}: d_in {rows.shape[1]}, l1 {l1:.4g}, L0 {density:.1f}\n")
    print("| solver | vectors a second | objective above the least | largest gap of a row |\n|---|---|---|---|")
    for label, codes in results.items():
        reached = code_certificate(rows, dictionary, codes.double(), l1)
        gap = float((reached.gap / reached.objective).max())
        above = excess(codes, rows, dictionary, l1, least)
        print(f"| {label} | {len(rows) / min(seconds[label]):.0f} | {above:.0e} | {gap:.0e} |", flush=True)
    print()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        solvers["working sets, cold"]()
    return profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=32)


def theirs(x: np.ndarray, atoms: np.ndarray, l1: float) -> dict[str, Callable[[float], Tensor]]:
    """scikit-learn's ways to the same codes, each with a tolerance."""
    columns = np.asfortranarray(atoms.T)

    def lasso(tolerance: float, *, gram: bool) -> Tensor:
        model = Lasso(
            alpha=l1 / x.shape[1], positive=True, fit_intercept=False, tol=tolerance, max_iter=20_000, precompute=gram
        )
        return torch.from_numpy(np.atleast_2d(model.fit(columns, x.T).coef_))

    def encode(_: float) -> Tensor:  # it takes no tolerance; max_iter is all that bounds it
        return torch.from_numpy(sparse_encode(x, atoms, algorithm="lasso_cd", positive=True, alpha=l1, max_iter=1000))

    return {
        "Lasso": lambda tolerance: lasso(tolerance, gram=False),
        "Lasso, Gram": lambda tolerance: lasso(tolerance, gram=True),
        "sparse_encode": encode,
    }


def dense(codes: SparseCodes) -> Tensor:
    """Codes with their zeros, as scikit-learn returns them."""
    return codes.acts.to_dense()


def excess(codes: Tensor, rows: Tensor, dictionary: Tensor, l1: float, least: float) -> float:
    """Share by which the summed objective of codes lies above the least."""
    return float(code_certificate(rows, dictionary, codes.double(), l1).objective.sum()) / least - 1


if __name__ == "__main__":
    main()
