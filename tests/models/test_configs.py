"""The YAMLs of `conf/model` and `conf/hook` hold exactly the keywords of what they configure."""

import inspect
from pathlib import Path

import pytest
import yaml

from sae.commands.nodes import HookNode
from sae.models.hook_points import resolve_hook_point
from sae.models.loading import load_model
from sae.models.packaged import PACKAGED

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "model").rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_models_yaml_binds_to_load_model(path):
    text = path.read_text()
    settings = yaml.safe_load(text)
    assert settings.keys() == inspect.signature(load_model).parameters.keys() - {"dtype", "device"}
    assert f"model={path.stem}" in text.split("source:")[0]
    assert settings["source"] in ("packaged", "local", "hub")
    assert (settings["source"] == "packaged") == (path.stem in PACKAGED)
    assert path.stem not in PACKAGED or settings["name"] == path.stem


def test_every_packaged_model_has_a_yaml():
    assert PACKAGED.keys() <= {path.stem for path in FILES}


def test_the_hook_s_yaml_holds_what_places_are_found_by():
    settings = yaml.safe_load((CONF / "hook" / "default.yaml").read_text())
    assert settings.keys() == inspect.signature(HookNode).parameters.keys()
    assert inspect.signature(resolve_hook_point).parameters.keys() - {"model"} <= settings.keys()
