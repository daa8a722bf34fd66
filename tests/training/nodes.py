"""Learners as `conf/sae/NAME.yaml` describes them, at a test's size."""

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sae.architectures.base import SparseAutoencoder
from sae.commands.reading import has_target, pairs_layers, reads_several
from sae.commands.sae_node import SAENode, read_sae_node
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.schedule import ScheduleSettings

CONF = Path(__file__).parents[2] / "conf" / "sae"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
POINT, OTHER, PREDICTED, LATER = "layers.1.here", "layers.1.there", "layers.1.predicted", "layers.2.predicted"
# For a few tens of latents, in every file that has the key and does not leave it null.
SMALL: dict[str, Any] = {"k": 4, "l0_target": 4, "group_fractions": [0.25, 0.25, 0.5]}


def keys_of(name: str) -> dict[str, Any]:
    """What the file says."""
    return yaml.safe_load((CONF / f"{name}.yaml").read_text())


def read_node(name: str, *, d_sae: int, **changes: Any) -> SAENode:
    node = keys_of(name) | {"expansion": None, "d_sae": d_sae}
    small = {key: value for key, value in SMALL.items() if node.get(key) is not None}
    problems: list[str] = []
    found = read_sae_node(node | small | changes, problems)
    assert found is not None, problems
    return found


def widths_of(name: str, d_in: int, *, alike: bool = False) -> dict[str, int]:
    """Hook point -> width: a transcoder's target is another one, two wider; a crosscoder reads two, alike or one narrower.

    A cross-layer transcoder reads two of one width, and predicts two others.
    """
    if pairs_layers(name):
        return {POINT: d_in, OTHER: d_in, PREDICTED: d_in + 2, LATER: d_in - 1}
    if has_target(name):
        return {POINT: d_in, OTHER: d_in + 2}
    return {POINT: d_in, OTHER: d_in if alike else d_in - 1} if reads_several(name) else {POINT: d_in}


def free_decoder(name: str, *, decoder_norm: float) -> dict[str, Any]:
    """Keys that leave the decoder's norms free, with a penalty that knows them where the file has one that does not."""
    weighting = {"l1_weighting": "frozen_decoder_norm"} if keys_of(name).get("l1_weighting") == "none" else {}
    return {"unit_norm_decoder": False, "decoder_norm": decoder_norm, **weighting}


def learner_of(
    name: str,
    *,
    d_in: int,
    d_sae: int,
    budget: Budget,
    seed: int = 0,
    schedule: ScheduleSettings | None = None,
    kernels: KernelSettings | None = None,
    **changes: Any,
) -> Learner:
    node = read_node(name, d_sae=d_sae + d_sae % 2 if pairs_layers(name) else d_sae, **changes)  # as many of both layers
    widths = widths_of(name, d_in, alike=bool(changes.get("shared_fraction")))
    if pairs_layers(name):
        inputs, targets = (POINT, OTHER), (PREDICTED, LATER)
        of_inputs, of_targets = ([widths[point] for point in points] for points in (inputs, targets))
        sae, objective = node.build(sum(of_inputs), widths=of_inputs, target_widths=of_targets)
    elif reads_several(name):
        sae, objective = node.build(sum(widths.values()), widths=tuple(widths.values()))
        inputs, targets = tuple(widths), None
    elif has_target(name):
        sae, objective = node.build(d_in, d_out=widths[OTHER])
        inputs, targets = (POINT,), (OTHER,)
    else:
        sae, objective = node.build(d_in)
        inputs, targets = (POINT,), None
    return Learner(
        name=name,
        inputs=inputs,
        targets=targets,
        sae=sae,
        objective=objective,
        coefficients=node.coefficients_at(sae.d_in),
        recipe=node.recipe,
        schedule=schedule or ScheduleSettings(),
        budget=budget,
        seed=seed,
        kernels=kernels,
    )


@cache
def sae_of(name: str) -> SparseAutoencoder:
    """To ask what it is; not to be changed."""
    return learner_of(name, d_in=6, d_sae=20, budget=Budget(train_tokens=640, batch_tokens=64)).sae


def names_of_those_that(holds: Callable[[SparseAutoencoder], bool]) -> list[str]:
    """Those files of whose SAE something holds: a new file is sorted by what it describes, not by its name."""
    return [name for name in NAMES if holds(sae_of(name))]


def takes(sae: SparseAutoencoder, keyword: str) -> bool:
    """Whether the architecture has a setting."""
    return keyword in inspect.signature(type(sae)).parameters


every_node = pytest.mark.parametrize("name", NAMES)


def every_node_that(holds: Callable[[SparseAutoencoder], bool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names_of_those_that(holds))


def rows_of(name: str, values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and target of an SAE that reads raw rows."""
    if pairs_layers(name):
        read, predicted = ((POINT, OTHER), (PREDICTED, LATER))
        return tuple(torch.cat([values[point] for point in points], dim=1) for points in (read, predicted))
    if reads_several(name):
        x = torch.cat([values[POINT], values[OTHER]], dim=1)
        return x, x
    return values[POINT], values[OTHER if has_target(name) else POINT]


def build_optimizer(learner: Learner, settings: OptimizerSettings | None = None) -> torch.optim.Optimizer:
    return learner.build_optimizer(settings or OptimizerSettings())


def one_step(learner: Learner, optimizer: torch.optim.Optimizer, values: dict[str, torch.Tensor], step: int) -> float:
    """What the Lightning module does with one SAE; gives the loss."""
    loss = learner.loss(values, step, measure=False)
    loss.backward()
    learner.before_update(optimizer, measure=False)
    for group in optimizer.param_groups:
        group["lr"] = learner.course.learning_rate_at(step)
    optimizer.step()
    optimizer.zero_grad()
    rows = len(next(iter(values.values())))
    learner.after_update(rows, step, optimizer)
    return float(loss.detach())
