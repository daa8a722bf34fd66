"""The public names: one table, each documented, each argument too."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import sae
from tests.cases import build, every_architecture

FUNCTIONS = [name for name in sae.__all__ if inspect.isfunction(getattr(sae, name))]


def imported_for_type_checkers() -> dict[str, str]:
    """Public name -> module, of the imports that only type checkers see."""
    found = {}
    for node in ast.walk(ast.parse(Path(str(sae.__file__)).read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sae."):
            found |= {alias.asname: node.module for alias in node.names}
    return found


def test_type_checkers_see_what_is_there():
    assert sorted(sae.__all__) == list(sae.__all__)
    assert imported_for_type_checkers() == sae._MODULE_OF
    assert set(sae.__all__) == set(sae._MODULE_OF)
    assert set(sae.__all__) <= set(dir(sae))


@pytest.mark.parametrize("name", sae.__all__)
def test_a_public_name_is_public_where_it_comes_from(name):
    module = importlib.import_module(sae._MODULE_OF[name])
    assert getattr(sae, name) is getattr(module, name)
    assert name in getattr(module, "__all__", [name])
    assert len((inspect.getdoc(getattr(sae, name)) or "").splitlines()[0]) > 20


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented(name):
    function = getattr(sae, name)
    text = inspect.getdoc(function) or ""
    arguments = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert arguments, f"sae.{name} has no Args section"
    described = re.findall(r"^    \**(\w+): \S", arguments[1], re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    assert re.search(r"^(Returns|Yields):$", text, re.MULTILINE)


def test_the_names_that_the_readme_promises_are_functions():
    assert {"capture", "evaluate", "fit", "load", "load_model", "resolve_hook_point", "save", "splice"} <= set(FUNCTIONS)


@every_architecture
def test_every_sae_has_the_names_that_are_promised(case):
    dictionary = build(case)
    assert isinstance(dictionary, sae.SparseAutoencoder)
    for name in ("d_in", "d_sae", "encode", "decode", "W_enc", "W_dec", "b_dec"):
        assert hasattr(dictionary, name), name
    if "W_enc" in dict(dictionary.named_parameters()):  # matching pursuit's encoder is its dictionary, which has no such bias
        assert dictionary.get_parameter("b_enc").shape == (dictionary.d_sae,)
