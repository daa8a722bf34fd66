"""Where the residual stream runs through a transformer block, proved by arithmetic.

There is no list of model names. One short forward pass shows what the modules of a block receive and give, and these tensors
must add up to the bit: one addition rounds the same way whoever does it, in every number format, so that a wrong module does
not pass by chance. With x and y what goes into and comes out of a block, a and m what attention and MLP add, and r the residual
stream between the two, a block is one of

    pre-norm     r = x + a              y = r + m
    post-norm    r = norm(x + a)        y = norm(r + m)
    parallel     y = x + a + m          (there is no r)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.models.language_model import LanguageModel
from sae.models.structure import ModuleCall, blocks_path, holds_weights, trace
from sae.models.taps import Side

__all__ = ["BlockPlan", "Place", "plan_block"]

Wiring = Literal["pre-norm", "post-norm", "parallel", "unknown"]
Hidden = Float[Tensor, "blocks context d_model"]


@dataclass(frozen=True)
class Place:
    """Input or output of a module: its path inside the model, the side, and the size of the last axis."""

    module: str
    side: Side
    width: int


@dataclass(frozen=True)
class BlockPlan:
    """How one transformer block is wired.

    Attributes:
        block: path of the block.
        wiring: which of the three sums came out, or "unknown".
        sites: site name -> place, for the sites that were found and proved; `resid_pre` and `resid_post` are always there.
    """

    block: str
    wiring: Wiring
    sites: dict[str, Place]


@dataclass(frozen=True, eq=False)
class Branch:
    """A module and what it gives to the residual stream."""

    module: str
    added: Hidden


@dataclass(frozen=True, eq=False)
class Branches:
    """What was proved: which modules give a and m, the stream that the MLP reads (r, or x where parallel), and where r is."""

    wiring: Wiring
    attention: Branch
    mlp: Branch
    stream: Hidden
    middle: Place | None


def plan_block(model: LanguageModel, layer: int) -> BlockPlan:
    """Find the sites of one block and prove them.

    Args:
        model: the model.
        layer: 0-based number of the block, in range.

    Returns:
        The wiring and the proved sites.

    Raises:
        UserError: the model's blocks were not recognised.
        ValueError: the block does not turn hidden states into hidden states.
    """
    block = f"{blocks_path(model.module)}.{layer}"
    submodules = dict(model.module.get_submodule(block).named_modules(prefix=block))
    calls = trace(model, submodules, stop_after=block)
    whole = calls.pop()
    if whole.input is None or whole.output is None or whole.input.shape != whole.output.shape:
        raise ValueError(f"{block} of {type(model.module).__name__} does not turn hidden states into hidden states.")
    x, y = whole.input, whole.output
    width = x.shape[-1]
    sites = {"resid_pre": Place(block, "input", width), "resid_post": Place(block, "output", width)}
    names = [call.module for call in calls]
    once = [call for call in calls if names.count(call.module) == 1]  # one dropout may serve two branches: no place to hook
    matrices = [call for call in once if holds_weights(submodules[call.module])]
    children = [call for call in matrices if call.module.rpartition(".")[0] == block]
    mixing = [call for call in children if _mixes_positions(call.module, submodules[call.module])]
    branches = _find_branches(once, x, y, mixing[0].module) if len(mixing) == 1 else None
    if branches is None:
        return BlockPlan(block, "unknown", sites)
    sites["attn_out"] = Place(branches.attention.module, "output", width)
    sites["mlp_out"] = Place(branches.mlp.module, "output", width)
    if branches.middle is not None:
        sites["resid_mid"] = branches.middle
    entry = next((call for call in children if call not in mixing), None)
    if entry is not None and _reads(once, entry.input, branches.stream):
        sites["mlp_in"] = Place(entry.module, "input", width)
    for call in reversed(matrices):
        leaf = next(submodules[call.module].children(), None) is None
        if not (leaf and _inside(call.module, mixing[0].module)) or call.input is None:
            continue
        if _reads(once, branches.attention.added, call.output):
            sites["attn_z"] = Place(call.module, "input", call.input.shape[-1])
            break
    return BlockPlan(block, branches.wiring, sites)


def _find_branches(calls: Sequence[ModuleCall], x: Hidden, y: Hidden, attention: str) -> Branches | None:
    """Try the three sums; of modules that give the same tensor the outermost is named."""
    ended = {call.module: number for number, call in enumerate(calls)}
    outermost_first = sorted(calls, key=lambda call: call.module.count("."))
    given = [Branch(call.module, call.output) for call in outermost_first if call.output is not None]
    given = [branch for branch in given if branch.added.shape == x.shape]
    early = [a for a in given if _inside(a.module, attention) or ended[a.module] > ended[attention]]
    late = [m for m in given if not _inside(m.module, attention)]
    for a in early:
        r = x + a.added
        for reader in _readers(outermost_first, r):
            for m in late:
                if _same(r + m.added, y):
                    return Branches("pre-norm", a, m, r, Place(reader.module, "input", x.shape[-1]))
                normed = reader.output
                if normed is None or normed.shape != x.shape:
                    continue
                if any(_same(last.output, y) for last in _readers(outermost_first, normed + m.added)):
                    return Branches("post-norm", a, m, normed, Place(reader.module, "output", x.shape[-1]))
    for a in early:
        for m in late:
            sums = ((x + a.added) + m.added, x + (a.added + m.added), (x + m.added) + a.added)
            if any(_same(total, y) for total in sums):
                return Branches("parallel", a, m, x, None)
    return None


def _mixes_positions(path: str, module: nn.Module) -> bool:
    """Whether a part of a block is its attention: the one thing that is told by how the model's authors call it."""
    return "att" in f"{path.rpartition('.')[2]} {type(module).__name__}".lower()


def _inside(path: str, parent: str) -> bool:
    """Whether a path is `parent` or lies inside it."""
    return path == parent or path.startswith(f"{parent}.")


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Equal to the bit."""
    return one is not None and other is not None and one.shape == other.shape and torch.equal(one, other)


def _readers(calls: Iterable[ModuleCall], value: Tensor) -> list[ModuleCall]:
    """Calls that received `value`."""
    return [call for call in calls if _same(call.input, value)]


def _reads(calls: Iterable[ModuleCall], value: Tensor | None, source: Tensor | None) -> bool:
    """Whether `value` is `source`, or what one module (a norm) makes of it."""
    return _same(value, source) or any(_same(call.input, source) and _same(call.output, value) for call in calls)
