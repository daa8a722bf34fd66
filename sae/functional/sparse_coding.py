"""Non-negative sparse codes of rows with a given dictionary: one call over the ways to find them.

`working_sets` (the default) and `fista` end at the same codes, certified by the same duality gap; the first makes a handful of
products with the dictionary where the second makes tens to thousands. `fista` with a fixed number of iterations and no restart
is what Yun et al. 2021 use, `ista` the plain step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae.errors import UserError
from sae.functional.lasso import Certificate
from sae.functional.proximal import proximal_codes
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern
from sae.functional.sparse_rows import select_rows, stack_rows
from sae.functional.working_sets import Entries, working_set_codes

__all__ = ["CodingSettings", "SparseCodes", "sparse_code"]

TILE_ELEMENTS = 1 << 24  # activations of all atoms that exist at a time: 64 MiB in float32, some times over
MOST_ROUNDS = 100  # of working sets, of which some six are needed; whoever is not done by then goes on by FISTA


@dataclass(frozen=True, kw_only=True)
class CodingSettings:
    """How codes are found.

    Attributes:
        method: `working_sets`, `fista` or `ista`.
        tolerance: a row is done when its duality gap is at most this share of its objective. None: not before `max_iterations`.
        max_iterations: products with the whole dictionary at most, for each row.
        restart: of FISTA's momentum where it points the wrong way.

    Raises:
        UserError: a number is out of range, or there is no tolerance where one is needed.
    """

    method: Literal["working_sets", "fista", "ista"] = "working_sets"
    tolerance: float | None = 1e-5
    max_iterations: int = 2000
    restart: bool = True

    def __post_init__(self) -> None:
        if self.tolerance is not None and not self.tolerance > 0:
            raise UserError(f"tolerance={self.tolerance}: expected a share of the objective above 0, or null")
        if self.tolerance is None and self.method == "working_sets":
            raise UserError("method=working_sets stops by the duality gap: set a tolerance, or method=fista for a fixed count")
        if self.max_iterations < 1:
            raise UserError(f"max_iterations={self.max_iterations}: expected at least 1")


@final
@dataclass(frozen=True, kw_only=True)
class SparseCodes:
    """Codes of a batch and what is known of them.

    Attributes:
        acts: the activations that are not zero, all above it.
        objective: P(a) of each row [batch].
        gap: so much P(a) is above the least value at most [batch].
        iterations: products with the whole dictionary that each row took [batch].
        converged: whether the gap is within the tolerance [batch]. Without a tolerance: all True.
    """

    acts: SparseActs
    objective: Float[Tensor, " batch"]
    gap: Float[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]


@torch.no_grad()
def sparse_code(
    rows: Float[Tensor, "batch d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    l1_coefficient: float | int,
    *,
    settings: CodingSettings | None = None,
    start: SparseActs | None = None,
) -> SparseCodes:
    """Argmin over a >= 0 of 1/2 ||x - a D||^2 + l1 sum(a), for each row x.

    Nothing is differentiated. Autocast is off: the work is done in the wider of the two types, float32 at least.

    Args:
        rows: x.
        dictionary: D, on the same device; its rows are usually of unit norm, but may have any.
        l1_coefficient: l1, in the units of the rows.
        settings: how.
        start: codes of rows like these, from which to start; the better they are, the sooner it ends.

    Raises:
        UserError: l1 is not above 0 or not finite, or rows or dictionary hold what is not finite.
    """
    settings = settings or CodingSettings()
    l1 = float(l1_coefficient)
    if not 0 < l1 < float("inf"):
        raise UserError(f"l1_coefficient={l1_coefficient}: expected a number above 0; it is in the units of the rows")
    for name, tensor in (("rows", rows), ("dictionary", dictionary)):
        if not bool(tensor.isfinite().all()):
            raise UserError(f"The {name} hold values that are not finite: sparse codes of them are not defined.")
    dtype = torch.promote_types(torch.promote_types(rows.dtype, dictionary.dtype), torch.float32)
    x, atoms = rows.detach().to(dtype), dictionary.detach().to(dtype)
    with torch.autocast(rows.device.type, enabled=False):
        parts = [
            _code_part(
                x[part], atoms, l1, settings, None if start is None else select_rows(start, part).map(lambda v: v.to(dtype))
            )
            for part in torch.arange(len(x), device=x.device).split(max(1, TILE_ELEMENTS // len(atoms)))
        ]
    return _concatenated(parts)


def _code_part(x: Tensor, atoms: Tensor, l1: float, settings: CodingSettings, start: SparseActs | None) -> SparseCodes:
    iterations = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    objective, gap = x.new_empty(len(x)), x.new_empty(len(x))
    left = torch.arange(len(x), device=x.device)
    found = [(left[:0], left[:0], x.new_empty(0))]  # row, atom and activation of entries
    if settings.method == "working_sets" and settings.tolerance is not None:
        unsolved = []
        for solved in working_set_codes(
            x,
            atoms,
            l1,
            tolerance=settings.tolerance,
            max_rounds=min(settings.max_iterations, MOST_ROUNDS),
            start=None if start is None else _padded(start),
        ):
            objective[solved.rows], gap[solved.rows] = solved.certificate
            iterations[solved.rows] = solved.rounds
            row, place = (solved.entries.acts > 0).nonzero(as_tuple=True)
            found.append((solved.rows[row], solved.entries.indices[row, place], solved.entries.acts[row, place]))
            unsolved.append(solved.rows[~solved.complete])
        left = torch.cat([left[:0], *unsolved]).sort().values
        start = _in_row_order(found, len(x), len(atoms))
    if len(left):
        dense = proximal_codes(
            x[left],
            atoms,
            l1,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            start=None if start is None else select_rows(start, left).to_dense(),
            momentum=settings.method != "ista",
            restart=settings.restart,
        )
        objective[left], gap[left] = dense.objective, dense.gap
        iterations[left] += dense.iterations
        row, atom = (dense.codes > 0).nonzero(as_tuple=True)
        others = [tuple(part[~torch.isin(entry[0], left)] for part in entry) for entry in found]
        found = [*others, (left[row], atom, dense.codes[row, atom])]
    small = torch.ones_like(gap, dtype=torch.bool)
    if settings.tolerance is not None:
        small = Certificate(objective, gap).within(settings.tolerance)
    return SparseCodes(
        acts=_in_row_order(found, len(x), len(atoms)), objective=objective, gap=gap, iterations=iterations, converged=small
    )


def _in_row_order(found: Sequence[tuple[Tensor, ...]], num_rows: int, num_latents: int) -> SparseActs:
    """Entries as activations, each row's in the order of the atoms."""
    row, atom, value = (torch.cat(parts) for parts in zip(*found, strict=True))
    key, order = (row.long() * num_latents + atom).sort()
    return SparseActs(values=value[order], pattern=SparsePattern.at(key, num_rows=num_rows, num_latents=num_latents))


def _padded(acts: SparseActs) -> Entries:
    """The entries of each row side by side; what is missing is atom 0 without activation."""
    row = acts.pattern.rows.long()
    place = torch.arange(len(row), device=row.device) - acts.offsets[row]
    width = int(functional.pad(acts.offsets.diff(), (0, 1), value=1).max())
    indices = row.new_zeros(acts.pattern.num_rows, width)
    values = acts.values.new_zeros(acts.pattern.num_rows, width)
    return Entries(
        indices.index_put((row, place), acts.indices.long()), values.index_put((row, place), acts.values.clamp(min=0))
    )


def _concatenated(parts: Sequence[SparseCodes]) -> SparseCodes:
    return SparseCodes(
        acts=stack_rows([part.acts for part in parts]),
        objective=torch.cat([part.objective for part in parts]),
        gap=torch.cat([part.gap for part in parts]),
        iterations=torch.cat([part.iterations for part in parts]),
        converged=torch.cat([part.converged for part in parts]),
    )
