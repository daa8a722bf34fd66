"""Twenty training steps of every file in `conf/sae` and `conf/experiment`, and of two more recipes of the ReLU SAE.

Their losses are in `losses.json`. Of the experiments two kinds are left out: end-to-end ones, whose loss goes on through a
model, and those of `scripts/factors.py`, which are not trained by gradient.

A refactoring leaves them as they are. Who means to change numbers runs `python -m tests.golden.regolden` and says why.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sae.commands.binding import bound
from sae.commands.entry import compose
from sae.formats.registry import architecture_class
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget, Recipe
from sae.training.schedule import ScheduleSettings
from tests.cases import CASES, Case, ramp
from tests.training.nodes import CONF, NAMES, POINT, build_optimizer, learner_of, one_step, widths_of

FILE = Path(__file__).parent / "losses.json"
# Losses of float32 and float64 runs differ by at most 2.0e-7 of their size (measured; a test holds it to twice that): another
# processor or order of summation moves them by about as much, and ten times that is allowed. What is meant to be seen moves
# some entry by more: Adam's eps 1e-8 -> 1e-6 by 3e-3, its second beta 0.99 -> 0.9901 by 6e-5.
TOLERANCE = 2e-6
STEPS, ROWS, D_IN, D_SAE = 20, 32, 12, 40
DENSE = KernelSettings(kernels="dense")
BUDGET = Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS)

RECIPES: dict[str, dict[str, Any]] = {
    "towards_monosemanticity": {"resample_at": (0.5,), "resample_window": 0.05, "resample_pool_rows": 100},
    "april_2024": {
        "scaling": "norm",
        "decoder_norm": 0.1,
        "unit_norm_decoder": False,
        "b_dec_init": "zero",
        "clip_norm": 1.0,
    },
}
RELU_CASES = ("relu", "relu_without_input_bias")
MIXED_LAYERS = 4
LEFT_OUT = ("end_to_end_", "transformer_factors")  # beginnings of experiments' names
VARIANTS = ("experiment=topk_2024 sae.multi_topk_coefficient=0.125",)
# At a power of 0.2, steered to few latents or clipped to this size's sqrt(d_in), the slope of small activations makes much of a
# rounding.
ADDED = {"p_annealing_2024": " sae.lp_p_end=0.3 sae.l0_target=null sae.clip_norm=24.0"}


def names() -> list[str]:
    of_relu = [f"{case}/{recipe}" for case in RELU_CASES for recipe in RECIPES]
    experiments = sorted(path.stem for path in (CONF.parent / "experiment").glob("*.yaml"))
    of_experiments = [f"experiment={name}{ADDED.get(name, '')}" for name in experiments if not name.startswith(LEFT_OUT)]
    return [*of_relu, *(f"sae={name}" for name in NAMES), *of_experiments, *VARIANTS]


def compute(name: str, dtype: torch.dtype = torch.float32, kernels: KernelSettings = DENSE) -> list[float]:
    """The losses of one entry, in order of the steps."""
    kind, _, choice = name.partition("=")
    settings, mixed, points = OptimizerSettings(), False, {POINT: D_IN}
    if kind == "experiment":
        tree = _composed(name)
        learner = learner_of_experiment(tree, kernels)
        settings, mixed = _bound(tree, "optimizer", OptimizerSettings), tree["hook"]["mix"]
        points = widths_of(tree["sae"]["name"], D_IN, alike=bool(tree["sae"].get("shared_fraction")))
    elif choice:
        learner = learner_of(choice, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, lr=0.01, kernels=kernels)
        points = widths_of(choice, D_IN)
    else:
        case_name, recipe = kind.split("/")
        learner = _relu_learner(next(case for case in CASES if case.name == case_name), recipe, kernels)
    learner.to(dtype)
    values = {
        point: (3 * ramp(400, width, phase=13.0 * number) * torch.arange(1, width + 1) + 5).to(dtype)
        for number, (point, width) in enumerate(points.items())
    }
    if mixed:
        values = {POINT: _mixed(values[POINT])}
    learner.start_from(values)
    with torch.no_grad():  # silent from the start, so that there is something to bring back
        if "b_enc" in dict(learner.sae.named_parameters()):
            learner.sae.get_parameter("b_enc")[::9] = -1e3
    optimizer = build_optimizer(learner, settings)
    losses = []
    for step in range(STEPS):
        index = (torch.arange(ROWS) * 11 + step * 37) % 400
        losses.append(one_step(learner, optimizer, {point: value[index] for point, value in values.items()}, step))
        if learner.course.resamples_after(step + 1):
            learner.resample(values, optimizer, step)
    return losses


def _relu_learner(case: Case, recipe: str, kernels: KernelSettings) -> Learner:
    return Learner(
        name=case.name,
        inputs=[POINT],
        sae=architecture_class(case.architecture)(d_in=D_IN, d_sae=D_SAE, **case.settings),
        objective=Objective({"mse": SquaredError(), "l1": L1(weighting="decoder_norm" if recipe == "april_2024" else "none")}),
        coefficients={"mse": (1.0, 0.0), "l1": (2.0, 0.05)},
        recipe=Recipe(lr=0.01, **RECIPES[recipe]),
        schedule=ScheduleSettings(),
        kernels=kernels,
        budget=BUDGET,
        seed=0,
    )


@cache
def _composed(overrides: str) -> dict[str, Any]:
    return compose("train", overrides.split())


def _bound(tree: dict[str, Any], node: str, kind: type) -> Any:
    problems: list[str] = []
    found = bound(node, tree[node], kind, problems)
    assert found is not None, problems
    return found


def learner_of_experiment(tree: dict[str, Any], kernels: KernelSettings) -> Learner:
    """Its SAE at this size and, where it names none, this rate; the rest as it says."""
    node = tree["sae"] | {"expansion": None, "d_sae": D_SAE}
    small = {key: 6 for key in ("k", "l0_target") if node.get(key) is not None}
    rate = {"lr": 0.01} if node["lr"] is None else {}
    schedule = _bound(tree, "schedule", ScheduleSettings)
    return learner_of(d_in=D_IN, budget=BUDGET, schedule=schedule, kernels=kernels, **(node | small | rate))


def _mixed(rows: torch.Tensor) -> torch.Tensor:
    """Rows as of layers mixed, one after another, each of another size and mean than the others."""
    layer = torch.arange(len(rows))[:, None] % MIXED_LAYERS
    return rows * (1 + layer) + 10 * layer


def kept() -> dict[str, Any]:
    """What the file says: `losses` by entry, and the `reasons` of its changes."""
    return json.loads(FILE.read_text()) if FILE.exists() else {"reasons": [], "losses": {}}
