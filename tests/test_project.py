"""The project as a whole: what it ships, what its files say and must not say."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scripts.pin import constraints

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXT = {".cff", ".cfg", ".css", ".html", ".ipynb", ".js", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
GENERATED = {"__pycache__", "build", "dist", "multirun", "node_modules", "runs", "wandb"}
DOT_FILES = {".ci", ".editorconfig", ".gitattributes", ".gitignore", ".pre-commit-config.yaml"}


@functools.cache
def project_files() -> tuple[Path, ...]:
    """Every text file of the project, without what tools and runs leave behind."""
    files = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in GENERATED and not name.endswith(".egg-info")]
        folders[:] = sorted(name for name in folders if not name.startswith(".") or name in DOT_FILES)
        files += [Path(folder, name) for name in sorted(names) if not name.startswith(".") or name in DOT_FILES]
    return tuple(path for path in files if path.suffix in TEXT)


def python_files() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_package_list_is_the_folders():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sae").rglob("__init__.py")}
    assert sorted({*folders, "sae.conf"}) == PROJECT["tool"]["setuptools"]["packages"]
    assert {path.parent for path in (ROOT / "sae").rglob("*.py")} == {
        path.parent for path in (ROOT / "sae").rglob("__init__.py")
    }


def test_every_test_folder_is_a_package():
    """Two files of one name would collide otherwise."""
    assert [path.parent for path in (ROOT / "tests").rglob("*.py") if not (path.parent / "__init__.py").exists()] == []


def test_no_file_names_a_machine_or_a_registry():
    places = re.compile(
        r"/(?:home|root|Users|work|opt|mnt)/\w"  # absolute paths of some machine
        r"|(?:pypi|pythonhosted|npmjs|download\.pytorch|conda|anaconda)\.(?:org|com|io)"  # registries
        r"|\b(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b"  # private networks
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in project_files()
        if path != Path(__file__)
        for match in places.finditer(path.read_text())
    ]
    assert found == []


def test_every_yaml_parses_and_has_no_twin_keys():
    files = [path for path in project_files() if path.suffix in (".yaml", ".yml")]
    assert len(files) > 10

    def keys_once(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{node.start_mark}: a key stands twice"
            for _, value in node.value:
                keys_once(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                keys_once(value)

    for path in files:
        text = path.read_text()
        yaml.safe_load(text)
        if text.strip():
            keys_once(yaml.compose(text))


def test_no_postponed_annotations():
    found = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                found.append(path)
    assert found == []


def test_constraints_are_the_versions_that_are_installed():
    """`scripts/pin.py` writes the file: a dependency that was added or raised by hand shows here."""
    assert pins() == constraints()


def test_constraints_satisfy_the_ranges_of_pyproject():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    wanted = [Requirement(line) for group in groups for line in group]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name not in ("sae", "torch"):
            assert requirement.specifier.contains(pins()[name]), f"{requirement} against {pins()[name]}"


def test_the_scripts_name_the_versions_that_pyproject_does():
    script = (ROOT / "scripts/install.sh").read_text()
    match = re.search(r'^readonly versions="(.+)"$', script, re.MULTILINE)
    assert match
    pythons = SpecifierSet(PROJECT["project"]["requires-python"])
    assert match.group(1).split() == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in pythons]
    torch = re.search(r'^readonly default_torch="torch==(.+)"$', script, re.MULTILINE)
    assert torch
    core = {Requirement(line).name: Requirement(line) for line in PROJECT["project"]["dependencies"]}
    assert torch.group(1) in core["torch"].specifier


def test_the_hooks_are_the_checks_of_the_test_script():
    script = (ROOT / "scripts/test.sh").read_text()
    match = re.search(r'^readonly static="(.+)"$', script, re.MULTILINE)
    assert match
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == [*match.group(1).split(), "fast"]
    assert all(hook["entry"] == f"bash scripts/test.sh {hook['id']}" for hook in hooks)


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert metadata.version("sae") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_ships_the_settings_and_the_types(tmp_path):
    """Built and unpacked elsewhere, as a user without the repository has it."""
    source = tmp_path / "source"  # a copy: what an earlier build left in build/ would be shipped too
    for folder in ("sae", "conf"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    settings = {f"sae/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name for name in names if name.endswith(".yaml")} == settings
    assert "sae/py.typed" in names
    assert {f"sae/dashboards/app/built/{name}" for name in ("app.css", "app.js", "index.html")} <= names
    assert {name for name in names if name.endswith(".py")} == {
        *(str(path.relative_to(ROOT)) for path in (ROOT / "sae").rglob("*.py")),
        "sae/conf/__init__.py",
    }
    child = "import sys; sys.path.insert(0, sys.argv[1]); import sae, sae.conf; print(sae.__file__, sae.conf.__file__)"
    command = [sys.executable, "-P", "-c", child, str(tmp_path / "site")]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "site" / file) for file in ("sae/__init__.py", "sae/conf/__init__.py")]
