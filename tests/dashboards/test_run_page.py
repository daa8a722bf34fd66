"""The run page: everything that was logged is on it, nothing else gets in, and nothing gets out."""

import base64
import hashlib
import json
import math

import pytest

from sae.dashboards.curves import thin
from sae.dashboards.definitions import NUMBERS, written
from sae.dashboards.run_page import render_run_page
from sae.dashboards.theme import SCRIPT, STYLE
from sae.evaluation.cross_entropy import SPLICE_KEYS
from tests.dashboards.pages import Page, assert_harmless

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)">'"&amp;`${x}`]]>"""
REPORT = {
    "fvu": 0.2871,
    "explained_variance": 0.7129,
    "l0": 55.31,
    "dead_fraction": 0.0213,
    "ce_increase": None,
    "ce_reason": None,
    "tokens_trained": 983040,
    "density_histogram": {"edges": [-1, 0], "counts": [3], "never_fired": 0},
}
HISTOGRAM = {"edges": [-2.0, -1.5, -1.0, -0.5, 0.0], "counts": [0, 4, 9, 1], "never_fired": 7}
CONFIG = {"model": {"name": "tiny"}, "hook": {"site": "resid_post", "layer": 2}, "train": {"tokens": 1000}, "seed": 0}


def rows(sae="relu"):
    for step in range(1, 11):
        yield {
            "tokens": 100 * step,
            "step": step,
            "sae": sae,
            "split": "train",
            "fvu": 1 / step,
            "l0": 2000 / step**2,
            "lr": 1e-3,
        }
        if step % 5 == 0:
            yield {"tokens": 100 * step, "step": step, "sae": sae, "split": "held_out", "fvu": 1.1 / step, "kl": None}


def render(**changes):
    given = {"name": "run", "config": CONFIG, "metrics": list(rows()), "reports": {"relu": REPORT}, "histograms": {}}
    return render_run_page(**{**given, **changes})


def figures(page):
    return [json.loads(attributes["data-series"]) for attributes in page.all("figure") if "data-series" in attributes]


def test_a_page_is_whole_and_stays_at_home():
    page = assert_harmless(render(histograms={"relu": HISTOGRAM}))
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("h1")
    assert any(attributes.get("name") == "viewport" for attributes in page.all("meta"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'" in policy
    assert "prefers-color-scheme: dark" in STYLE


def test_the_first_lines_say_what_was_trained():
    assert "tiny · resid_post of layer 2 · 983,040 tokens" in Page(render()).text
    named = {"model": {"name": None, "path": "here"}, "hook": {"site": "resid_post", "layer": None, "module": "a.b"}}
    assert "here · a.b · 983,040 tokens" in Page(render(config=named)).text
    assert "run 983,040 tokens" in Page(render(config={})).text


def test_places_and_parts_of_a_crosscoder_are_written():
    part = {"hook_point": "layers.<b>", "fvu": 0.125, "exclusive_fraction": 0.25, "ce_clean": 3.5, "ce_sae": None}
    report = {**REPORT, "hook_point": "layers.<b> + c", "parts": [part, {**part, "hook_point": "c"}]}
    page = assert_harmless(render(reports={"a": report}))
    assert "tiny · layers.<b> + c · 983,040 tokens" in page.text
    assert "layers.<b> 0.125 25.00 % 3.5 n/a c" in page.text  # and no column that no part has
    assert "Parts of" not in Page(render()).text


def test_mixed_layers_are_written():
    layer = {
        "hook_point": "layers.<0>",
        "fvu": 0.25,
        "l0": 31.5,
        "never_fired": 0.125,
        "ce_sae": None,
        "ce_reason": "no <head>",
    }
    report = {**REPORT, "layers": [layer, {**layer, "hook_point": "layers.1", "ce_sae": 3.5}]}
    page = assert_harmless(render(reports={"a": report}))
    assert "layers.<0> 0.25 31.5 12.50 % n/a layers.1" in page.text  # likewise
    assert "layers.1 0.25 31.5 12.50 % 3.5" in page.text
    assert page.text.count("No cross-entropy: no <head>") == 1
    assert "Layers of" not in Page(render()).text


def test_curves_hold_what_was_logged():
    fvu = next(series for series in figures(Page(render())) if len(series) == 2)
    by_name = {one["name"]: one for one in fvu}
    assert by_name["training"]["x"] == [100 * step for step in range(1, 11)]
    assert by_name["training"]["y"] == pytest.approx([1 / step for step in range(1, 11)], rel=1e-4)
    assert by_name["held out"]["x"] == [500, 1000]


def test_a_log_view_is_offered_where_values_span_much():
    page = Page(render())
    boxes = page.all("input")
    assert len(boxes) == 2  # L0 over two decades, FVU over one
    assert sum("checked" in attributes for attributes in boxes) == 1


def test_what_is_no_number_draws_nothing():
    strange = [
        {"tokens": 100, "sae": "a", "split": "train", "fvu": math.nan, "l0": math.inf, "flag": True, "word": "x", "kl": None},
        {"tokens": 100, "sae": "a", "split": "held_out", "density_histogram": HISTOGRAM},
        {"step": 3, "fvu": 0.5},
    ]
    page = assert_harmless(render(metrics=strange))
    assert figures(page) == []
    assert "No step has been logged yet" in page.text


def test_one_row_is_enough_for_a_curve():
    page = assert_harmless(render(metrics=[{"tokens": 0, "sae": "a", "split": "train", "fvu": 0.0}]))
    assert figures(page) == [[{"name": "training", "x": [0], "y": [0.0]}]]


def test_every_reported_number_is_defined_and_written():
    page = assert_harmless(render())
    assert "Fraction of variance unexplained" in page.text
    for text in ("0.2871", "55.31", "2.13 %", "983,040", "n/a"):
        assert text in page.text
    reported = {*SPLICE_KEYS, *REPORT, "l1", "cosine", "norm_ratio", "relative_bias", "never_fired", "tokens_evaluated"}
    assert reported - {"ce_reason", "density_histogram"} <= set(NUMBERS)
    assert all(definition.meaning for definition in NUMBERS.values())


def test_why_there_is_no_cross_entropy_is_said():
    text = Page(render(reports={"relu": {**REPORT, "ce_reason": "BertModel has no head"}})).text
    assert "No cross-entropy: BertModel has no head" in text


def test_several_dictionaries_share_a_page():
    metrics = [*rows("a"), *rows("b"), *rows("c")]
    page = assert_harmless(
        render(metrics=metrics, reports={"a": REPORT, "b": REPORT, "c": REPORT}, histograms={"a": HISTOGRAM, "b": HISTOGRAM})
    )
    assert "3 dictionaries" in page.text
    assert "b, held out" in page.text
    for script in ("dashboard", "evaluate"):
        assert page.text.count(f"scripts/{script}.py from=runs/run/saes/") == 3


def test_a_run_that_has_not_been_evaluated_has_a_page():
    page = assert_harmless(render(metrics=[], reports={}))
    assert "has not been evaluated yet" in page.text
    assert "resume=runs/run" in page.text


@pytest.mark.parametrize("place", ["name", "config", "metrics", "reports", "histograms", "folder"])
def test_hostile_text_stays_text(place):
    changes = {
        "name": {"name": HOSTILE},
        "config": {"config": {HOSTILE: {HOSTILE: HOSTILE}, "model": {"name": HOSTILE}, "hook": {"module": HOSTILE}}},
        "metrics": {
            "metrics": [
                {"tokens": 1, "sae": sae, "split": HOSTILE, HOSTILE: 1.0, "fvu": 1.0} for sae in (HOSTILE, f"{HOSTILE} again")
            ]
        },
        "reports": {"reports": {HOSTILE: {**REPORT, "l0": HOSTILE, "ce_reason": HOSTILE}, "other": REPORT}},
        "histograms": {"histograms": {HOSTILE: HISTOGRAM, "other": HISTOGRAM}},
        "folder": {"folder": HOSTILE},
    }[place]
    page = assert_harmless(render(**changes))
    assert "alert(1)" in page.text


def test_values_are_read_by_keyboard_and_by_ear():
    page = Page(render(histograms={"relu": HISTOGRAM}))
    curves = [a for a in page.all("svg") if "data-low" in a]
    assert curves
    assert all(a["tabindex"] == "0" and a["aria-label"] and a["role"] == "img" for a in curves)
    assert all(a.get("tabindex") == "0" and a["aria-label"] for a in page.all("div") if a.get("role") == "region")
    assert "7 never fired" in next(a["aria-label"] for a in page.all("svg") if "density" in a.get("aria-label", ""))


def test_commands_name_the_run_and_are_quoted():
    text = Page(render(folder="my runs/a b")).text
    assert "'from=my runs/a b/saes/relu'" in text
    assert "'resume=my runs/a b' train.tokens=2000" in text


def test_config_lists_what_one_would_type():
    page = Page(render(config={"a": {"b": {"c": None}, "on": True}, "empty": {}}))
    assert "a.b.c null a.on true empty {}" in page.text


def test_thinning_keeps_ends_and_spikes():
    points = [(float(i), 0.1) for i in range(10_000)]
    points[4321] = (4321.0, 99.0)
    points[777] = (777.0, -5.0)
    kept = thin(points, 300)
    assert len(kept) <= 310
    assert {points[0], points[-1], points[4321], points[777]} <= set(kept)
    assert kept == sorted(kept)
    assert thin(points[:300], 300) == points[:300]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "share", "n/a"),
        (0.0213, "share", "2.13 %"),
        (1234567, "count", "1,234,567"),
        (0.28714, "number", "0.2871"),
        ("x", "count", "x"),
    ],
)
def test_numbers_as_people_read_them(value, kind, text):
    assert written(value, kind) == text


def test_what_one_would_type_next_is_of_the_command_that_made_the_run_and_of_pages_that_it_can_have():
    assert "python scripts/dashboard.py from=runs/run/saes/relu" in render()
    assert "python scripts/train.py resume=runs/run train.tokens=2000" in render()
    mixed = {**CONFIG, "hook": {"site": "resid_post", "mix": True}}
    assert "python scripts/factors.py from=runs/run/saes/relu" in render(config=mixed)
    assert "scripts/dashboard.py" not in render(config=mixed)
    del mixed["train"]
    fitted = render(config={**mixed, "factors": {"tokens": 500}})
    assert "python scripts/factors.py resume=runs/run factors.tokens=1000" in fitted
