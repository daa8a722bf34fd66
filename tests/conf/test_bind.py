"""Every file under conf/ composes and binds to what it configures, and holds every keyword of it."""

import importlib.util
import inspect
import re
import shutil
import sys
from pathlib import Path

import hydra
import pytest
import yaml
from hydra.utils import get_class
from omegaconf.errors import ConfigAttributeError

import sae
from sae.commands import source_config
from sae.commands.binding import bind as mistakes_of
from sae.commands.binding import parameters_of, typed
from sae.commands.dashboard_node import DashboardNode
from sae.commands.entry import compose, value_at
from sae.commands.factors_node import FactorsNode, PagesNode
from sae.commands.factors_settings import read_factors_config
from sae.commands.nodes import ActivationsNode, DataNode, EvaluationNode, HookNode, RunNode, TrainerNode
from sae.commands.overrides import groups
from sae.commands.sae_node import FROM_THE_RUN, known_keys, read_sae_node
from sae.commands.settings import read_train_config
from sae.commands.show_node import ShowNode
from sae.commands.source_config import read_source_config
from sae.errors import UserError
from sae.formats.registry import ARCHITECTURES, FITTED
from sae.models.loading import ModelOutline
from sae.tokens.registry import SOURCES
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.run import CheckpointSettings
from sae.training.schedule import ScheduleSettings

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
COMMANDS = [path.stem for path in FILES if len(path.parts) == 1]
SHARED = ("model", "hook", "data", "trainer", "seed")
OTHERS = [("factors", "model"), ("factors", "hook")]  # a model of the paper's architecture, and all of its layers
CHOICES = [path for path in FILES if len(path.parts) == 2]
LAUNCHERS = [path for path in FILES if path.parts[:2] == ("hydra", "launcher")]
OWNERS = {
    "activations": ActivationsNode,
    "evaluation": EvaluationNode,
    "logger": LoggerSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "hook": HookNode,
    "trainer": TrainerNode,
}


@pytest.fixture
def bind(tmp_path, monkeypatch):
    """Compose and bind a choice, with what it leaves to the user given and nothing fetched."""
    monkeypatch.setattr(
        source_config, "read_model_outline", lambda **_: ModelOutline(d_model=64, num_layers=30, vocabulary_size=100)
    )
    monkeypatch.setattr(source_config, "_check_readable", lambda source: None)
    monkeypatch.setattr("sae.training.optimizers._installed", lambda package: True)
    for name in ("a.txt", "a.jsonl", "a.npy"):
        (tmp_path / name).touch()
    given = {
        "activations/stored": [f"activations.path={tmp_path}"],
        "data/hub": ["data.path=org/name"],
        "data/jsonl": [f"data.path={tmp_path / 'a.jsonl'}"],
        "data/text": [f"data.path={tmp_path / 'a.txt'}"],
        "data/tokenised": [f"data.path={tmp_path / 'a.npy'}"],
        "model/hub": ["model.name=org/name"],
        "optimizer/adam8bit": ["sae.resample_at=[]"],
        "model/local": [f"model.path={tmp_path}"],
    }

    def compose_and_bind(group: str, choice: str):
        changes = [f"{group}={choice}", *given.get(f"{group}/{choice}", [])]
        if command_of(Path(group, choice)) == "factors":
            return read_factors_config(compose("factors", changes))
        return read_train_config(compose("train", changes))

    return compose_and_bind


def command_of(path: Path) -> str:
    """The command that a choice is for: an experiment says so itself."""
    return "factors" if path.parts[0] == "experiment" and path.stem in groups("factors")["experiment"] else "train"


def parameters(owner) -> set[str]:
    return set(inspect.signature(owner).parameters)


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice_composes_and_binds(path, bind):
    assert bind(path.parent.name, path.stem) is not None


@pytest.mark.parametrize("path", LAUNCHERS, ids=str)
def test_every_launcher_composes(path):
    """Onto the launcher's own typed settings, which refuse a key or a type that they do not know."""
    with hydra.initialize_config_module("sae.conf", version_base="1.3"):
        config = hydra.compose("train", [f"hydra/launcher={path.stem}"], return_hydra_config=True)
        node = config.hydra.launcher
        with pytest.raises(ConfigAttributeError):
            node.no_such_key = 1
    get_class(node._target_)
    assert f"hydra/launcher={path.stem}" in (CONF / path).read_text()


def test_no_file_is_left_out():
    assert sorted([*(Path(f"{name}.yaml") for name in COMMANDS), *CHOICES, *LAUNCHERS]) == FILES


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_composes_and_binds(name, bind):
    """And its groups have choices."""
    tree = compose(name, [])
    problems: list[str] = []
    assert read_source_config(tree, problems) is not None, problems
    assert all(groups(name).values())


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parent.name in OWNERS], ids=str)
def test_a_choice_holds_every_keyword_of_its_owner(path):
    """A key that no YAML holds could not be typed."""
    assert set(yaml.safe_load((CONF / path).read_text())) == parameters(OWNERS[path.parent.name])


def test_the_dashboard_s_file_holds_every_keyword_and_nothing_else():
    tree = yaml.safe_load((CONF / "dashboard.yaml").read_text())
    assert set(tree["dashboard"]) == parameters(DashboardNode)
    assert set(tree) - {"defaults", "dashboard", "from", "seed"} == parameters(ShowNode)
    assert mistakes_of("dashboard", tree["dashboard"], parameters_of(DashboardNode)) == []
    assert DashboardNode() == DashboardNode(**typed(tree["dashboard"], parameters_of(DashboardNode)))
    assert ShowNode() == ShowNode(**{key: tree[key] for key in parameters(ShowNode)})


def test_the_factors_file_holds_every_keyword_and_nothing_else():
    tree = yaml.safe_load((CONF / "factors.yaml").read_text())
    for node, owner in (("factors", FactorsNode), ("pages", PagesNode), ("checkpoint", CheckpointSettings), ("run", RunNode)):
        assert set(tree[node]) == parameters(owner)
        assert mistakes_of(node, tree[node], parameters_of(owner)) == []
        assert owner() == owner(**typed(tree[node], parameters_of(owner)))
    assert parameters(ShowNode) < set(tree)


def test_an_experiment_is_offered_by_the_command_that_it_is_for():
    for name in ("train", "factors"):
        assert groups(name)["experiment"]
    assert not set(groups("train")["experiment"]) & set(groups("factors")["experiment"])
    offered = {*groups("train")["experiment"], *groups("factors")["experiment"]}
    assert offered == {path.stem for path in CHOICES if path.parent.name == "experiment"}


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parent.name == "data"], ids=str)
def test_a_text_holds_every_keyword_of_its_source(path):
    node = yaml.safe_load((CONF / path).read_text())
    assert set(node) == {"source"} | parameters(SOURCES[node["source"]]) | parameters(DataNode)


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parent.name == "sae"], ids=str)
def test_an_sae_holds_its_size_and_its_architectures_keywords_and_no_unknown_key(path):
    """Terms and settings that it does not use may be left out: they can be typed all the same."""
    node = yaml.safe_load((CONF / path).read_text())
    own = {"name", "expansion", "d_sae"}
    of_architecture = parameters(ARCHITECTURES[node["name"]]) - set(FROM_THE_RUN)
    # What an architecture shares with others and leaves as it is need not be written down.
    assert of_architecture - {"bandwidth", "threshold_start"} <= set(node)
    assert own <= set(node) <= own | set(known_keys(node["name"]))
    assert compose("train", [f"sae={path.stem}", "sae.tanh_scale=3", "sae.average_half_life=0.1"])["sae"]["tanh_scale"] == 3


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in FITTED])
def test_every_architecture_has_a_file_of_its_name(name):
    """Without one it could not be trained by name, and no test would train it."""
    assert Path("sae", f"{name}.yaml") in FILES, f"write conf/sae/{name}.yaml: with the keys of {ARCHITECTURES[name].__name__}"
    assert yaml.safe_load((CONF / "sae" / f"{name}.yaml").read_text())["name"] == name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_the_same_defaults_as_the_others(name):
    tree, training = compose(name, []), compose("train", [])
    shared = [key for key in SHARED if (name, key) not in OTHERS]
    assert {key: tree.get(key) for key in shared} == {key: training[key] for key in shared}


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parent.name == "experiment"], ids=str)
def test_an_experiment_says_how_it_is_typed_and_where_it_comes_from(path):
    text = (CONF / path).read_text()
    assert f"experiment={path.stem}" in text
    assert "# Differs from" in text


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parent.name == "experiment"], ids=str)
def test_an_experiment_numbers_what_differs(path):
    """From 1 on, without a gap."""
    text = (CONF / path).read_text().partition("# Differs from")[2]
    numbers = [int(number) for number in re.findall(r"^# (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_end_to_end_takes_the_same_rate_and_ramp_with_topk():
    """Its header says how both are typed, and one rate and ramp for them."""
    typed_as, budget = ["experiment=end_to_end_2024"], Budget(train_tokens=40000, batch_tokens=512)
    found = []
    for more in ([], ["sae=topk"]):
        problems: list[str] = []
        node = read_sae_node(compose("train", [*typed_as, *more])["sae"], problems)
        assert node is not None, problems
        found.append((node.recipe.peak_learning_rate(budget, 4608), node.coefficients["l1"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("experiment", "values"),
    [
        ("crosscoder_2024", {"sae.l1_coefficient": 2.0, "optimizer.betas": [0.9, 0.999]}),
        ("circuit_tracing_2025", {"sae.activation": "jumprelu", "sae.pre_act_coefficient": 3e-6, "hook.site": "resid_mid"}),
        ("transcoder_2024", {"sae.auxk_coefficient": None, "sae.activation": "relu", "optimizer.betas": [0.9, 0.999]}),
        ("topk_2024", {"sae.clip_norm": "d_in", "optimizer.betas": [0.9, 0.999]}),
        (
            "towards_monosemanticity",
            {"sae.l1_coefficient": "2.25/d_in", "optimizer.betas": [0.9, 0.999], "schedule.decay": 0.0},
        ),
        ("ghost_gradients_2024", {"optimizer.betas": [0.9, 0.999]}),
        ("p_annealing_2024", {"optimizer.betas": [0.9, 0.999]}),
        ("end_to_end_downstream_2024", {"optimizer.betas": [0.9, 0.999], "sae.kl_coefficient": 0.5}),
        ("multi_layer_sae_2024", {"hook.mix": True, "sae.k": 32, "schedule.decay": 0.0, "optimizer.eps": 6.25e-10}),
        ("april_2024", {"sae.l1_coefficient": 5.0, "schedule.warmup": 0.0}),
    ],
)
def test_an_experiment_composes_to_what_its_header_says(experiment, values):
    """Whatever the group that it stands on says."""
    tree = compose("train", [f"experiment={experiment}"])
    assert {key: value_at(tree, key) for key in values} == values


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("sae/relu.yaml", "l1_weighting: none", "l1_wieghting: none", r"sae.l1_wieghting.*Did you mean 'l1_weighting'"),
        ("sae/relu.yaml", "tied_init: true", "tied_init: 3", "sae.tied_init: expected true or false, got 3"),
        ("schedule/linear.yaml", "warmup: 0.05", "warmup: 1.5", "schedule.warmup is a fraction"),
        ("model/local.yaml", "attention: sdpa", "atention: sdpa", "model.atention.*Did you mean 'attention'"),
        ("hook/default.yaml", "\nsite: null", "\nsite: resid_pots", "hook.site='resid_pots' is unknown"),
        ("optimizer/adam.yaml", "[0.9, 0.99]", "[0.9]", "optimizer.betas: expected a list of 2"),
        ("data/text.yaml", "context_length: 128", "context_length: long", "data.context_length: expected a whole number"),
        ("experiment/april_2024.yaml", "override /sae: relu", "override /sae: rleu", "rleu"),
        ("debug/tiny.yaml", "  tokens: 8192", "  tokenz: 8192", "train.tokenz: there is no such key"),
    ],
)
def test_a_broken_file_is_caught(file, old, new, said, bind, tmp_path, monkeypatch):
    """The same check on a copy of conf/ with one mistake in it."""
    shutil.copytree(CONF, tmp_path / "conf")
    broken = tmp_path / "conf" / file
    text = broken.read_text()
    assert text.count(old) == 1
    broken.write_text(text.replace(old, new))
    spec = importlib.util.spec_from_file_location(
        "sae.conf", tmp_path / "conf" / "__init__.py", submodule_search_locations=[str(tmp_path / "conf")]
    )
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sae.conf", module)
    monkeypatch.setattr(sae, "conf", module)
    with pytest.raises(UserError, match=said):
        bind(broken.parent.name, broken.stem)
