"""The app's sources: in step with Python's schema, no way from text to markup, and what is committed is built from them."""

import re
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints, is_typeddict

import pytest

from sae.dashboards import factor_schema, schema
from sae.dashboards.live import messages
from tests.dashboards.app.synthetic import BUILT

SOURCES = BUILT.parent / "src"
TYPESCRIPT = {path: path.read_text() for path in sorted(SOURCES.rglob("*.ts"))}


PAIRS = pytest.mark.parametrize(
    ("module", "name"), [(schema, "schema.ts"), (factor_schema, "factor_schema.ts"), (messages, "messages.ts")]
)


def interfaces(name: str) -> dict[str, dict[str, str]]:
    """Fields and types of each interface of a file, with those of what it extends, which schema.ts has."""
    text = (SOURCES / name).read_text()
    found = re.findall(r"^export interface (\w+)(?: extends (\w+))? \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    fields = {key: dict(re.findall(r"^  (\w+\??): (.+);$", body, re.MULTILINE)) for key, _, body in found}
    return {key: interfaces("schema.ts")[base] | fields[key] if base else fields[key] for key, base, _ in found}


def typescript_type(hint: object) -> str:
    """How TypeScript writes a type of Python."""
    simple = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
    if hint in simple:
        return simple[hint]  # type: ignore[index]
    if is_typeddict(hint):
        return hint.__name__  # type: ignore[union-attr]
    arguments = get_args(hint)
    kind = getattr(hint, "__origin__", None)
    if kind is list:
        return f"{typescript_type(arguments[0])}[]"
    if kind is dict:
        return f"Record<string, {typescript_type(arguments[1])}>"
    if kind is tuple:
        return f"[{', '.join(map(typescript_type, arguments))}]"
    if str(hint).startswith("typing.Literal"):
        return " | ".join("null" if one is None else f'"{one}"' for one in arguments)
    return " | ".join(dict.fromkeys(typescript_type(one) for one in arguments))


def defined(module: ModuleType) -> dict[str, type]:
    """Dictionaries of a module, without those that it imports."""
    return {key: value for key, value in vars(module).items() if is_typeddict(value) and value.__module__ == module.__name__}


@PAIRS
def test_typescript_and_python_have_the_same_schema(module: ModuleType, name: str):
    wanted = {
        key: {
            f"{field}{'?' * (field in value.__optional_keys__)}": typescript_type(hint)
            for field, hint in get_type_hints(value).items()
        }
        for key, value in defined(module).items()
    }
    assert interfaces(name) == wanted


@PAIRS
def test_every_dictionary_is_exported(module: ModuleType, name: str):
    assert sorted(defined(module)) == sorted(module.__all__)


@pytest.mark.parametrize("path", TYPESCRIPT, ids=lambda path: path.name)
def test_no_text_becomes_markup_or_code(path: Path):
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|setHTML"
    code = r"\beval\(|new Function|setTimeout\(['\"`]"
    assert re.findall(f"{markup}|{code}", TYPESCRIPT[path]) == []


def test_the_network_is_reached_in_one_place():
    """`fetch` stands in live.ts alone, and asks for addresses beside the page."""
    users = [
        path.name
        for path, text in TYPESCRIPT.items()
        if re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon", text)
    ]
    assert users == ["live.ts"]
    assert not any(re.search(r"https?://(?!www\.w3\.org/2000/svg)", text) for text in TYPESCRIPT.values())


def test_the_page_allows_scripts_of_its_folder_alone():
    page = (BUILT / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.group(1).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == rules["style-src"] == "'self'"
    assert re.findall(r"<script(?! src=)", page) == []


@pytest.mark.slow
def test_what_is_committed_is_what_the_sources_give(rebuilt: Path):
    """Else: bash scripts/build_app.sh."""
    names = sorted(path.name for path in rebuilt.iterdir())
    assert names == sorted(path.name for path in BUILT.iterdir()) == ["app.css", "app.js", "index.html"]
    for name in names:
        assert (rebuilt / name).read_bytes() == (BUILT / name).read_bytes(), name
