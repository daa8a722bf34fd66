"""The table of which pass each experiment takes, in scripts/BENCHMARKS.md, is what the configurations say."""

import re
from pathlib import Path

import pytest

from sae.commands.entry import compose
from sae.functional.pass_choice import LEAVE
from sae.training.kernels import KernelSettings
from tests.golden.losses import CONF, learner_of_experiment

D_MODEL = 576  # of the default model
TABLE = (Path(__file__).parents[2] / "scripts/BENCHMARKS.md").read_text().split("## Which pass each experiment takes")[1]
WRITTEN = dict(re.findall(r"^\| `(\w+)` \| (sparse|by density|dense|none) \|", TABLE, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF.parent / "experiment").glob("*.yaml")))
def test_each_experiment_takes_the_pass_that_is_written(name):
    assert name in WRITTEN, f"add a line for {name} to the table of passes in scripts/BENCHMARKS.md"
    assert WRITTEN[name] == pass_of(name)


def test_no_line_is_left_over():
    assert all((CONF.parent / "experiment" / f"{name}.yaml").exists() for name in WRITTEN)


def pass_of(name):
    if name.startswith("transformer_factors"):  # of scripts/factors.py
        return "none"
    tree = compose("train", [f"experiment={name}"])
    node, passes = tree["sae"], learner_of_experiment(tree, KernelSettings(kernels=tree["trainer"]["kernels"])).passes
    if not passes.able:
        return "dense"
    if node.get("k") is None:
        return "by density"
    assert not node.get("k_anneal")
    d_sae = node["d_sae"] or node["expansion"] * D_MODEL
    return "sparse" if node["k"] < LEAVE * d_sae else "dense"
