"""The index of factors and a factor's page, in a real browser from disk."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import strings
from tests.dashboards.app.synthetic_factors import (
    LAYERS,
    LEVELS,
    NUM_FACTORS,
    RULE,
    Context,
    FactorNumbers,
    FactorRecord,
    factor_record,
)

pytestmark = pytest.mark.slow
NUMBERS = FactorNumbers()
STRINGS = strings()
WITH_ALL, WITH_TWO, WITHOUT, RARELY = 2, 4, 3, 8  # by the ways in which saliency was measured
WORDS = {"low": "low", "mid": "middle", "high": "high"}


def peak_of(record: FactorRecord) -> int:
    assert record["peak_layer"] is not None
    return record["peak_layer"]


def listed(page: Page) -> set[int]:
    cells = page.locator(".rows .row:not([hidden]) .cell:first-child a").all_inner_texts()
    return {int(cell) for cell in cells}


def classes(weights: list[float], peak: int) -> list[str]:
    """How tokens look by saliency, as the page's text says it: full colour is the largest weight, the boxed token left out."""
    largest = max(abs(weight) for offset, weight in enumerate(weights) if offset != peak)
    found: list[str] = []
    for offset, weight in enumerate(weights):
        size = min(5, int(5 * abs(weight) / largest + 0.5))
        look = f"{'p' if weight > 0 else 'n'}{size}" if size else "a0"
        found.append("t peak target" if offset == peak else f"t {look}")
    return found


def looks(page: Page) -> list[list[str]]:
    rows = "() => [...document.querySelectorAll('.contexts .example')]"
    return page.evaluate(f"{rows}.map((one) => [...one.querySelectorAll('.t')].map((t) => t.className))")


def test_the_index_is_filtered_by_level_and_layer(open_factors: Open):
    page = open_factors("#/?kind=all")
    expect(page.locator("p.status")).to_have_text(f"{NUM_FACTORS} of {NUM_FACTORS} factors")
    level, peak = NUMBERS.columns["level"], NUMBERS.columns["peak_layer"]
    page.locator(".level-choice").get_by_role("button", name="middle").click()
    wanted = np.flatnonzero(level == 1)
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of {NUM_FACTORS} factors")
    assert "level=1..1" in page.url
    page.get_by_label("Peak layer", exact=True).last.select_option("3")
    wanted = np.flatnonzero((level == 1) & (peak == 3))
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of {NUM_FACTORS} factors")
    assert listed(page) <= set(wanted.tolist())
    page.reload()
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of {NUM_FACTORS} factors")
    expect(page.locator(".level-choice").get_by_role("button", name="middle")).to_have_attribute("aria-pressed", "true")
    page.locator(".level-choice").get_by_role("button", name="Any").click()
    expect(page.locator("p.status")).to_have_text(f"{int((peak == 3).sum())} of {NUM_FACTORS} factors")


def test_the_index_says_level_layer_and_importance(open_factors: Open):
    page = open_factors("#/?sort=importance&order=descending")
    strongest = int(np.nanargmax(NUMBERS.columns["importance"]))
    row = page.locator(".rows .row").first
    record = factor_record(NUMBERS, strongest)
    cells = row.locator(".cell").all_inner_texts()
    assert cells[0] == str(strongest)
    assert cells[1] == WORDS[str(record["level"])]
    assert cells[2] == (
        str(LAYERS[peak_of(record)]["number"]) if LAYERS[peak_of(record)]["number"] is not None else "embeddings"
    )
    row.locator("a").hover()
    expect(page.locator("#tip")).to_contain_text(f"Level {cells[1]}, strongest at {LAYERS[peak_of(record)]['name']}")
    page.get_by_text("About this dashboard", exact=True).click()
    expect(page.locator(".about")).to_contain_text(RULE)
    expect(page.locator(".about")).to_contain_text(
        "leave one out (shortlist) of 1,200 of the 4,800 contexts shown, the strongest; of more"
    )
    expect(page.locator(".head .card").first).to_contain_text("resid_post.3")
    expect(page.locator(".head .card").last).to_contain_text("Leave one out and Integrated gradients")


def test_a_number_that_is_typed_is_found(open_factors: Open):
    page = open_factors("#/")
    page.keyboard.press("g")
    page.keyboard.type("17")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Factor 17")
    page.keyboard.press("g")
    page.keyboard.type("120")
    page.keyboard.press("Enter")
    expect(page.locator("#go-to")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("h1")).to_have_text("Factor 17")


def test_numbers_and_the_rule_of_the_level(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}")
    record = factor_record(NUMBERS, WITH_ALL)
    found = {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in page.locator(".numbers > div").all()}
    assert found["Level"] == WORDS[str(record["level"])]
    assert found["Peak layer"] == LAYERS[peak_of(record)]["name"]
    assert found["Fired on"] == f"{record['fired']:,} vectors"
    page.locator(".numbers dd .term").hover()
    expect(page.locator("#tip")).to_contain_text(RULE)
    missing = page.evaluate(
        "() => [...document.querySelectorAll('.term[data-term]')]"
        ".map((term) => term.getAttribute('aria-describedby')).filter((id) => !document.getElementById(id))"
    )
    assert missing == []
    numeric = page.locator("article thead th.number")
    assert numeric.count() == page.locator("article thead th.number .term").count()


def test_the_curve_is_read_and_chooses_a_layer(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}")
    record = factor_record(NUMBERS, WITH_ALL)
    curve = page.locator("svg.curve")
    assert curve.locator("circle").count() == len(LAYERS)
    heights = [float(circle.get_attribute("cy") or 0) for circle in curve.locator("circle").all()]
    values = [layer["importance"] or 0 for layer in record["layers"]]
    top, ground = min(heights), max(heights)
    assert [(ground - height) / (ground - top) for height in heights] == pytest.approx(
        [value / max(values) for value in values], abs=2e-3
    )
    page.get_by_text("As a table").click()
    rows = page.locator(".numbers-table tbody tr").all()
    assert [float(row.locator("td").nth(0).inner_text().replace("\u2013", "0")) for row in rows] == pytest.approx(
        values, rel=1e-2
    )
    curve.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".chart output").first).to_contain_text(LAYERS[peak_of(record) - 1]["name"])
    page.keyboard.press("Enter")
    expect(page.locator("#contexts-title")).to_contain_text(LAYERS[peak_of(record) - 1]["name"])
    assert f"layer={LAYERS[peak_of(record) - 1]['name']}" in page.url
    box = curve.locator("circle").nth(3).bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 3)
    expect(page.locator("#contexts-title")).to_contain_text(LAYERS[3]["name"])


def test_the_slider_and_its_keys_move_through_the_layers(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}?layer=resid_post.3")
    record = factor_record(NUMBERS, WITH_ALL)
    slider = page.get_by_role("slider", name="Layer")
    expect(slider).to_have_attribute("aria-valuetext", "resid_post.3")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "resid_post.4")
    expect(page.locator(".contexts .value").first).to_have_text(f"{record['layers'][5]['max']:.3g}")
    page.locator("h1").click()
    page.keyboard.press("]")
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.5")
    page.keyboard.press("[")
    page.keyboard.press("[")
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.3")
    tokens = page.locator(".card", has_text="Tokens it fires on at resid_post.3").locator("tbody tr")
    assert [row.locator("td").first.inner_text() for row in tokens.all()] == [
        str(entry["count"]) for entry in record["layers"][4]["tokens"]
    ]


def test_tokens_are_coloured_by_the_way_that_is_said(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}")
    record = factor_record(NUMBERS, WITH_ALL)
    contexts = record["layers"][peak_of(record)]["contexts"]
    largest = record["max"] or 0
    for name, method in (
        ("LIME", "lime"),
        ("Integrated gradients", "integrated_gradients"),
        ("Leave one out", "leave_one_out"),
        ("Leave one out (shortlist)", "leave_one_out_shortlist"),
    ):
        page.locator(".contexts").get_by_role("button", name=name, exact=True).first.click()
        expect(page.locator(".contexts .legend")).to_contain_text(f"Coloured by saliency: {name}")
        for found, one in zip(looks(page), contexts, strict=True):
            weights = next((way["weights"] for way in one["saliency"] if way["method"] == method), None)
            assert found == (classes(weights, one["peak"]) if weights else by_activation(one, largest))
        assert page.locator(".contexts .example", has_text="by activation").count() == 2
        assert f"colour={method}" in page.url
    page.locator(".contexts").get_by_role("button", name="Activation").click()
    expect(page.locator(".contexts .legend")).to_contain_text("Coloured by activation")
    assert looks(page) == [by_activation(one, largest) for one in contexts]


def test_a_factor_without_saliency_says_how_to_get_it(open_factors: Open):
    page = open_factors(f"#/factor/{WITHOUT}")
    expect(page.locator(".unmeasured")).to_contain_text("scripts/factors.py from=RUN serve=true")
    page.goto(page.url.split("#")[0] + f"#/factor/{WITH_TWO}")
    expect(page.locator("h1")).to_have_text(f"Factor {WITH_TWO}")
    assert page.locator(".unmeasured").count() == 0


def by_activation(one: Context, largest: float) -> list[str]:
    acts = dict(zip(one["places"], one["acts"], strict=True))
    steps = [f"t a{int(np.ceil(10 * acts.get(offset, 0.0) / largest - 1e-12))}" for offset in range(len(one["tokens"]))]
    steps[one["peak"]] = "t peak target"
    return steps


def test_only_ways_that_were_used_are_offered(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_TWO}?colour=lime")
    buttons = page.get_by_role("group", name="Colour of tokens").get_by_role("button")
    assert buttons.all_inner_texts() == ["Integrated gradients", "Leave one out", "Activation"]
    expect(buttons.first).to_have_attribute("aria-pressed", "true")
    page.goto(page.url.split("#")[0] + f"#/factor/{WITHOUT}")
    expect(page.locator("h1")).to_have_text(f"Factor {WITHOUT}")
    assert buttons.all_inner_texts() == ["Activation"]
    assert page.locator(".contexts .measure").all_inner_texts() == [""] * 8


def test_without_a_choice_the_way_that_was_used_most_is_shown(open_factors: Open):
    page = open_factors(f"#/factor/{RARELY}")
    pressed = page.get_by_role("group", name="Colour of tokens").locator("[aria-pressed=true]")
    expect(pressed).to_have_text("Leave one out")
    page.keyboard.press("[")
    expect(pressed).to_have_text("Activation")
    page.get_by_role("button", name="LIME").click()
    page.keyboard.press("]")
    expect(pressed).to_have_text("LIME")


def test_a_token_tells_what_is_known_of_it(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}")
    record = factor_record(NUMBERS, WITH_ALL)
    one = record["layers"][peak_of(record)]["contexts"][0]
    target = page.locator(".contexts .t.target").nth(1)
    target.hover()
    tip = page.locator("#tip")
    expect(tip).to_contain_text(f"token {STRINGS[one['tokens'][one['peak']]]['id']}")
    expect(tip).to_contain_text("100 % of the largest")
    for name in ("LIME", "Integrated gradients", "Leave one out"):
        expect(tip).to_contain_text(f"{name}: +{2 * one['acts'][one['places'].index(one['peak'])]:.3g}")
    position = one["start"] + one["peak"]
    expect(tip).to_contain_text(f"document {one['document']}, block {one['block']}, position {position}")
    target.focus()
    page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text(f"position {position - 1}")
    assert "↵" in page.locator(".contexts").inner_text()


def test_layers_side_by_side(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}")
    record = factor_record(NUMBERS, WITH_ALL)
    page.get_by_role("button", name="Side by side").click()
    parts = page.locator(".side-by-side > section")
    assert parts.count() == len(LAYERS)
    assert [parts.nth(i).locator(".example").count() for i in range(len(LAYERS))] == [
        min(4, len(layer["contexts"])) for layer in record["layers"]
    ]
    expect(parts.first).to_contain_text("never active")
    assert "view=side" in page.url
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text(f"Factor {WITH_ALL + 1}")
    assert page.locator(".side-by-side").count() == 1
    page.locator(".side-by-side .layer-name", has_text="resid_post.1").click()
    expect(page.locator("#contexts-title")).to_contain_text("Contexts at resid_post.1")
    assert "view=side" not in page.url


def test_an_address_holds_factor_layer_and_view(open_factors: Open):
    page = open_factors(f"#/factor/{WITH_ALL}?layer=resid_post.2&colour=leave_one_out")
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.2")
    expect(page.locator(".contexts .legend")).to_contain_text("Leave one out")
    page.get_by_role("link", name="Next").click()
    expect(page.locator("h1")).to_have_text(f"Factor {WITH_ALL + 1}")
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.2")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("h1")).to_have_text(f"Factor {WITH_ALL}")
    expect(page.locator(".contexts .legend")).to_contain_text("Leave one out")
    page.locator(".card", has_text="Nearest in the dictionary").get_by_role("link").first.click()
    near = factor_record(NUMBERS, WITH_ALL)["neighbours"][0]["latent"]
    expect(page.locator("h1")).to_have_text(f"Factor {near}")
    page.go_back()
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.2")


def test_a_dead_factor_and_a_layer_that_is_unknown(open_factors: Open):
    dead = int(np.flatnonzero(NUMBERS.dead)[0])
    page = open_factors(f"#/factor/{dead}?layer=resid_post.99&view=none&colour=<script>")
    expect(page.locator(".contexts")).to_contain_text("never active at this layer")
    expect(page.locator(".numbers")).to_contain_text("none: it never fired")
    page.get_by_role("button", name="Side by side").click()
    assert page.locator(".side-by-side", has_text="never active").count() == 1
    page.goto(page.url.split("#")[0] + "#/latent/1")
    expect(page.get_by_role("alert")).to_contain_text("no page")


def test_the_curve_is_saved_as_svg_that_stands_alone(open_factors: Open, tmp_path: Path):
    page = open_factors(f"#/factor/{WITH_ALL}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SVG: Importance").click()
    path = tmp_path / "curve.svg"
    download.value.save_as(path)
    assert download.value.suggested_filename == f"importance-of-factor-{WITH_ALL}-over-the-layers.svg"
    root = ET.fromstring(path.read_text())
    name = "{http://www.w3.org/2000/svg}"
    fills = {node.get("fill") for node in root.iter(f"{name}circle")}
    assert len(fills) > 3
    assert "class=" not in path.read_text()
    assert LEVELS[0] not in path.read_text()
