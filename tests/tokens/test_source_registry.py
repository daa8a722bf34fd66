import inspect
from pathlib import Path

import pytest
import yaml

from sae.errors import UserError
from sae.tokens.mixture import Mixture
from sae.tokens.registry import SHARED_KEYS, SOURCES, build_source
from sae.tokens.text_files import TextFiles
from sae.tokens.wikipedia_sample import WikipediaSample

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


def test_every_source_has_a_config_of_its_name():
    assert sorted(path.stem for path in CONFIGS) == sorted(SOURCES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_has_exactly_its_constructors_keywords(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert settings["source"] == path.stem
    parameters = inspect.signature(SOURCES[path.stem]).parameters
    assert set(settings) == {"source", *SHARED_KEYS, *parameters}
    for key, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert settings[key] == parameter.default, key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_or_says_what_must_be_given(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "path" not in settings:
        assert type(build_source(settings)) is SOURCES[path.stem]
        return
    with pytest.raises(UserError, match=r"^`data.path` must be given.$"):
        build_source(settings)


def test_keys_reach_the_constructor(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo", encoding="utf-8")
    source = build_source({"source": "text", "path": str(tmp_path), "split_on": "blank_lines", "context_length": 64})
    assert isinstance(source, TextFiles)
    assert [document.text for document in source.documents()] == ["one", "two"]


def test_a_mixture_builds_its_parts(tmp_path):
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    parts = {"wiki": {"source": "wikipedia-sample"}, "mine": {"source": "text", "path": str(tmp_path)}}
    mixture = build_source({"source": "mixture", "sources": parts, "weights": {"wiki": 1, "mine": 2}, "packing": "concat"})
    assert isinstance(mixture, Mixture)
    assert isinstance(mixture.sources["wiki"], WikipediaSample)
    assert isinstance(mixture.sources["mine"], TextFiles)


@pytest.mark.parametrize(
    ("settings", "matches"),
    [
        ({"source": "jsonlines"}, ["`data.source` is 'jsonlines'. Expected one of", "Did you mean 'jsonl'?"]),
        ({}, ["`data.source` is None"]),
        (
            {"source": "text", "splitt": "x", "split": "y"},
            [
                "`data.splitt` is no key of 'text'",
                "`data.split` is no key",
                "Did you mean 'split_on'?",
                "`data.path` must be given",
            ],
        ),
        (
            {"source": "mixture", "sources": {"a": {"source": "text"}, "b": {"source": "x"}}, "weights": {}},
            ["In `data.sources.a`: `data.sources.a.path` must be given", "`data.sources.b.source` is 'x'"],
        ),
        (
            {"source": "mixture", "sources": {"a": {"source": "text", "path": "/nowhere/at/all"}}, "weights": {}},
            ["In `data.sources.a`: `data.path` is '/nowhere/at/all'"],
        ),
    ],
)
def test_mistakes_come_all_at_once(settings, matches):
    with pytest.raises(UserError) as caught:
        build_source(settings)
    for match in matches:
        assert match in str(caught.value)
