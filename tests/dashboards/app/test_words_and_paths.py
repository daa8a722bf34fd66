"""A word's senses and a token's path over the layers, in a real browser from disk."""

from itertools import pairwise

import pytest
from playwright.sync_api import Locator, expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import HOSTILE
from tests.dashboards.app.synthetic_factors import LAYERS, MANY_FACTORS, path_page, word_page

pytestmark = pytest.mark.slow
WORD = word_page("bank")
PATH = path_page("A river bank", hostile=False)


def test_a_words_groups_form_layer_by_layer(open_factors: Open):
    page = open_factors("#/words")
    page.get_by_role("link", name="bank").click()
    expect(page.locator("h1")).to_have_text("“bank”")
    slider = page.get_by_role("slider", name="Layer")
    slider.focus()
    page.keyboard.press("Home")
    for layer, info in enumerate(LAYERS):
        groups = WORD["groups"][layer]
        expect(slider).to_have_attribute("aria-valuetext", info["name"])
        expect(page.locator("#groups-title")).to_contain_text(f"{len(groups)} group")
        sizes = [int(words.split()[0]) for words in page.locator(".sense h3 small").all_inner_texts()]
        assert sizes == [len(group["occurrences"]) for group in groups]
        assert page.locator(".sense .example").count() == sum(min(8, size) for size in sizes)
        page.keyboard.press("ArrowRight")
    assert f"layer={LAYERS[-1]['name']}" in page.url
    page.reload()
    expect(page.locator("#groups-title")).to_contain_text(LAYERS[-1]["name"])


def test_the_chart_of_groups(open_factors: Open):
    page = open_factors("#/word/0?layer=resid_post.3")
    nodes, bands = page.locator(".groups-chart .node"), page.locator(".groups-chart .band")
    assert nodes.count() == sum(len(layer) for layer in WORD["groups"])
    heights = [float(node.get_attribute("height") or 0) for node in nodes.all()]
    assert sum(heights[:1]) == pytest.approx(sum(heights[-5:]), rel=0.02)
    found = [(band.get_attribute("d") or "", band.get_attribute("class") or "") for band in bands.all()]
    for start in {path.split()[0] for path, _ in found}:  # between any two layers, the groups of the chosen one
        assert {name.split()[1] for path, name in found if path.startswith(f"{start} ")} == {f"g{i}" for i in range(1, 6)}
    nodes.last.hover()
    expect(page.locator(".chart output").first).to_contain_text(f"{LAYERS[-1]['name']}, group")
    nodes.last.click()
    expect(page.locator("#groups-title")).to_contain_text(LAYERS[-1]["name"])
    page.get_by_text("As a table").click()
    sizes = [", ".join(str(len(group["occurrences"])) for group in layer) for layer in WORD["groups"]]
    assert [row.locator("td").last.inner_text() for row in page.locator(".numbers-table tbody tr").all()] == sizes


def test_groups_name_the_factors_that_set_them_apart(open_factors: Open):
    page = open_factors("#/word/0?layer=resid_post.3")
    group = WORD["groups"][4][0]
    chips = page.locator(".sense").first.locator(".chip")
    assert [int(chip.locator("a").inner_text()) for chip in chips.all()] == [one["factor"] for one in group["factors"]]
    assert float(chips.first.locator(".number").inner_text()) == pytest.approx(group["factors"][0]["activation"], rel=1e-2)
    page.locator(".sense").first.get_by_role("button", name="more").click()
    assert page.locator(".sense").first.locator(".example").count() == len(group["occurrences"])
    one = WORD["occurrences"][group["occurrences"][0]]
    page.locator(".sense .t.target").first.hover()
    strongest = one["layers"][4][0]
    expect(page.locator("#tip")).to_contain_text(f"factor {strongest['factor']}: activation {strongest['activation']:.3g}")
    expect(page.locator("#tip")).to_contain_text(f"position {one['start'] + one['peak']}")
    chips.first.locator("a").click()
    expect(page.locator("h1")).to_have_text(f"Factor {group['factors'][0]['factor']}")
    expect(page.locator("#contexts-title")).to_contain_text("resid_post.3")


def test_a_tokens_path(open_factors: Open):
    page = open_factors("#/path/0?token=5")
    token = PATH["tokens"][5]
    expect(page.locator("article h2")).to_contain_text("bank")
    first: dict[int, int] = {}
    for layer, factors in enumerate(token["layers"]):
        for one in factors:
            first.setdefault(one["factor"], layer)
    lanes = page.locator("svg.lanes .lane")
    found = [int(number) for number in page.locator(".lane-number").all_text_contents()]
    assert set(found) == set(first)
    assert [first[factor] for factor in found] == sorted(first.values())
    page.get_by_text("As a table").click()
    rows = {
        int(row.locator("th").inner_text()): row.locator("td").all_inner_texts()
        for row in page.locator(".numbers-table tbody tr").all()[:-1]
    }
    for factor, cells in rows.items():
        acts = [next((one["activation"] for one in layer if one["factor"] == factor), 0.0) for layer in token["layers"]]
        for layer, cell in enumerate(cells):
            before = layer > 0 and acts[layer - 1] > 0
            assert ("appears" in cell) == (layer > 0 and not before and acts[layer] > 0)
            assert ("vanishes" in cell) == (before and not acts[layer] > 0)
            if acts[layer] > 0:
                assert float(cell.split()[0]) == pytest.approx(acts[layer], rel=1e-2)
    counts = page.locator(".numbers-table tbody tr").last.locator("td").all_inner_texts()
    stay = [{one["factor"] for one in layer} for layer in token["layers"]]
    wanted = [f"{len(a & b)} stay, {len(b - a)} appear, {len(a - b)} vanish" for a, b in pairwise(stay)]
    assert counts == [str(len(stay[0])), *wanted]
    lanes.first.hover()
    expect(page.locator(".lit")).to_contain_text(f"Factor {found[0]}")
    assert page.locator(".text-tokens .t:not(.a0)").count() >= 1
    lanes.first.click()
    expect(page.locator("h1")).to_have_text(f"Factor {found[0]}")


def top_of(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None
    return box["y"]


def test_many_lanes_name_the_layers_above_them_too(open_factors: Open):
    for number, axes in ((MANY_FACTORS, 2), (5, 1)):
        page = open_factors(f"#/path/0?token={number}")
        expect(page.locator("article h2")).to_contain_text(f"position {number}")
        expect(page.locator("svg.lanes").get_by_text("layer", exact=True)).to_have_count(axes)
        words = [top_of(axis) for axis in page.locator("svg.lanes").get_by_text("layer", exact=True).all()]
        lanes = [top_of(lane) for lane in page.locator("svg.lanes .lane-ground").all()]
        assert max(words) > max(lanes)
        assert (min(words) < min(lanes)) == (axes == 2)


def test_tokens_are_chosen_by_click_and_keyboard(open_factors: Open):
    page = open_factors("#/path/0")
    tokens = page.locator(".text-tokens .t")
    expect(tokens.nth(8)).to_have_attribute("aria-pressed", "true")  # the last word
    tokens.nth(2).click()
    expect(page.locator("article h2")).to_contain_text("sat")
    assert page.url.endswith("token=2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("article h2")).to_contain_text("position 3")
    expect(tokens.nth(3)).to_have_attribute("aria-pressed", "true")
    tokens.first.click()
    expect(page.locator("article")).to_contain_text("A special token: no factor is read on it.")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_contain_text("Hostile")


def test_hostile_words_and_texts_show_as_they_are(open_factors: Open):
    page = open_factors("#/word/1")
    expect(page.locator("h1")).to_contain_text(HOSTILE[0])
    page.goto(page.url.split("#")[0] + "#/path/1")
    expect(page.locator("h1")).to_contain_text(HOSTILE[1])
    words = page.locator(".text-tokens").inner_text()
    for text in HOSTILE[:5]:
        assert text in words
    page.goto(page.url.split("#")[0] + "#/path/1?token=99999999999")
    for element in page.locator("[data-tip]").all()[:30]:
        element.dispatch_event("pointerover")
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_numbers_of_groups_and_paths_say_what_they_are(open_factors: Open):
    page = open_factors("#/word/0")
    tip = page.locator("#tip")
    page.locator(".sense h3 small").first.hover()
    expect(tip).to_contain_text("Occurrences in this group")
    page.locator(".sense .chip .number").first.hover()
    expect(tip).to_contain_text("less its mean in the word's other occurrences")
    page.goto(page.url.split("#")[0] + "#/path/0")
    page.locator("article h2 small").hover()
    expect(tip).to_contain_text("special tokens counted too")
