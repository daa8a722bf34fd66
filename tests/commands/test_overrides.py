"""What a user types reaches the configuration as typed: paths with any characters, numbers, groups, sweeps."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from sae.commands.entry import compose, merged
from sae.commands.overrides import as_hydra_takes_them, swept_keys

ODD = [
    "runs/l1=2,4",
    "my texts/part one (copy).txt",
    "it's.txt",
    'say "so".txt',
    "back\\slash",
    "trailing\\",
    "texte/été-中文-🙂.jsonl",
    "[draft] {new}: a|b;c&d#e?f*g<h>i%j^k~l!m@n$o`p",
    "C:\\models\\it's",
    "  blanks around  ",
    "123",
    "1e6",
    "true",
    "-1",
    "a,b",
    "=",
    "$HOME/x",
    "line\nbreak",
]


def parsed(line: str) -> object:
    (taken,) = as_hydra_takes_them([line])
    return OverridesParser.create().parse_override(taken).value()


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("key", ["from", "resume", "data.path", "run.name", "+data.sources.mine.path"])
def test_a_path_arrives_as_typed(key, path):
    assert parsed(f"{key}={path}") == path


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_arrives_as_typed(text):
    """But for what is quoted already, and null."""
    if text != "null" and text[0] not in "'\"":
        assert parsed(f"model.path={text}") == text


def test_what_is_quoted_stays_quoted():
    assert parsed("data.path='a,b=c.txt'") == "a,b=c.txt"
    assert parsed('data.path="it\'s"') == "it's"
    assert parsed("data.path='a'b'.txt") == "'a'b'.txt"
    assert parsed("init_from=null") is None
    assert parsed("init_from='null'") == "null"


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("model.path=a,b.txt", "model.path", "a,b.txt"),
        ("model.document_start=<|endoftext|>", "model.document_start", "<|endoftext|>"),
        ("model.path=a=b", "model.path", "a=b"),
        ("run.name=42", "run.name", "42"),
        ("trainer.precision=32", "trainer.precision", "32"),
        ("hook.module=transformer.h.*.[am]*", "hook.module", "transformer.h.*.[am]*"),
        ("train.tokens=1e6", "train.tokens", 1_000_000),
        ("train.tokens=2.5e5", "train.tokens", 250_000),
        ("train.tokens=1_000_000", "train.tokens", 1_000_000),
        ("sae.lr=3e-4", "sae.lr", 3e-4),
        ("seed=7", "seed", 7),
        ("sae.resample_at=[0.5]", "sae.resample_at", [0.5]),
        ("sae.resample_at=[]", "sae.resample_at", []),
        ("logger.tags=[a,b]", "logger.tags", ["a", "b"]),
        ("run.name=${sae.name}-x", "run.name", "relu-x"),
        ("init_from=null", "init_from", None),
        ("run.name=", "run.name", ""),
    ],
)
def test_a_value_reaches_the_configuration(line, key, value):
    node, _, leaf = key.rpartition(".")
    tree = compose("train", as_hydra_takes_them([line]))
    found = (tree[node] if node else tree)[leaf]
    assert found == value
    assert type(found) is type(value)


def test_one_size_takes_the_other_away():
    assert compose("train", ["sae.d_sae=64"])["sae"]["expansion"] is None
    assert compose("train", ["sae.expansion=2"])["sae"]["d_sae"] is None
    both = compose("train", ["sae.expansion=2", "sae.d_sae=64"])["sae"]
    assert (both["expansion"], both["d_sae"]) == (2, 64)


def test_a_group_brings_its_keys():
    """A key may be typed before the choice that has it."""
    assert compose("train", ["data.split_on=blank_lines", "data=text"])["data"]["split_on"] == "blank_lines"
    mixture = compose("train", ["data=mixture", "+data.sources.mine.path=x", "~data.sources.wikipedia"])["data"]
    assert mixture["sources"] == {"mine": {"path": "x"}}


def test_experiments_and_debug_need_no_choice():
    assert compose("train", ["experiment=april_2024"])["sae"]["l1_weighting"] == "decoder_norm"
    assert compose("train", ["experiment=null", "debug=null"]) == compose("train", [])


def test_composing_leaves_an_outer_hydra_as_it_was():
    """A job of a sweep composes its own configuration inside Hydra's."""
    outer = object()
    GlobalHydra.instance().hydra = outer  # pyright: ignore[reportAttributeAccessIssue]
    try:
        compose("train", [])
        assert GlobalHydra.instance().hydra is outer
    finally:
        GlobalHydra.instance().clear()


def test_a_comma_stands_between_values_in_a_sweep():
    lines = as_hydra_takes_them(["data.path=a b.txt,'c,d.txt'", "seed=1,2", "sae.l1_coefficient=1e0,2e0"], sweeping=True)
    parser = OverridesParser.create()
    values = [list(parser.parse_override(line).sweep_string_iterator()) for line in lines]
    assert values == [["'a b.txt'", "'c,d.txt'"], ["1", "2"], ["1", "2"]]
    assert swept_keys([*lines, "train.tokens=1", "hydra/launcher=joblib"]) == ["data.path", "seed", "sae.l1_coefficient"]
    assert as_hydra_takes_them(["model.name=choice(a,b)"], sweeping=True) == ["model.name=choice(a,b)"]


def test_merged_changes_a_copy():
    saved = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merged(saved, {"a.c.d": 4, "e": 5, "f.g": 6}) == {"a": {"b": 1, "c": {"d": 4}}, "e": 5, "f": {"g": 6}}
    assert saved == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_a_prompt_is_text_whatever_is_in_it():
    lines = as_hydra_takes_them(["""dashboard.texts=["x = ${y.z}, {1: [2]}", 'it is "so"']"""])
    assert compose("dashboard", lines)["dashboard"]["texts"] == ["x = ${y.z}, {1: [2]}", 'it is "so"']
