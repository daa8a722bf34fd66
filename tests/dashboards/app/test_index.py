"""The index, in a real browser from disk: table, order, filters, search, histogram, map."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import WORDS, Numbers

pytestmark = pytest.mark.slow
NUMBERS = Numbers(300)


def status(page: Page) -> str:
    return page.locator("p.status").inner_text()


def shown(page: Page) -> list[int]:
    """The latents of the rows that are seen, from the top."""
    rows = page.locator(".rows .row:visible")
    found = [(row.get_attribute("aria-rowindex"), row.locator("a").first.inner_text()) for row in rows.all()]
    return [int(latent) for _, latent in sorted(found, key=lambda pair: int(pair[0] or 0))]


def expected(name: str, kept: np.ndarray, *, descending: bool) -> list[int]:
    values = NUMBERS.columns[name].astype(float)
    key = np.where(np.isnan(values), np.inf, -values if descending else values)
    return [int(latent) for latent in np.argsort(key, kind="stable") if kept[latent]]


ACTIVE = NUMBERS.columns["density"] >= np.float32(1e-5)


def test_the_index_lists_active_latents_first_by_number(open_page: Open):
    page = open_page()
    assert page.title().startswith("Latents")
    assert status(page) == f"{ACTIVE.sum()} of 300 latents"
    assert shown(page)[:5] == [int(latent) for latent in np.flatnonzero(ACTIVE)[:5]]
    expect(page.locator(".grid-table")).to_have_attribute("aria-rowcount", str(ACTIVE.sum() + 1))


@pytest.mark.parametrize("name", ["density", "max", "entropy"])
def test_columns_sort_both_ways(open_page: Open, name: str):
    page = open_page()
    label = {"density": "density", "max": "maximum", "entropy": "entropy"}[name]
    button = page.get_by_role("button", name=f"Sort by {label}", exact=True)
    button.click()
    assert shown(page)[:8] == expected(name, ACTIVE, descending=True)[:8]
    expect(page.locator("[role=columnheader][aria-sort=descending]")).to_contain_text(re.compile(label, re.IGNORECASE))
    button.click()
    assert shown(page)[:8] == expected(name, ACTIVE, descending=False)[:8]
    assert f"sort={name}" in page.url


def test_exact_effects_come_before_estimates_either_way(open_page: Open):
    exact, page = NUMBERS.columns["effect_exact"] == 1, open_page("#/?sort=effect&order=descending")
    heads = [head.split("\n")[0] for head in page.get_by_role("columnheader").all_inner_texts()]
    effect = heads.index("Effect")

    def written(latent: int) -> str:
        row = page.locator(".rows .row:visible").filter(has=page.get_by_role("link", name=str(latent), exact=True))
        return row.get_by_role("cell").nth(effect).inner_text()

    for descending in (True, False):
        order = [latent for kind in (exact, ~exact) for latent in expected("effect", ACTIVE & kind, descending=descending)]
        assert shown(page)[:8] == order[:8]
        assert "≈" not in written(order[0])
        page.locator(".table-scroll").evaluate("box => box.scrollTop = box.scrollHeight")
        page.wait_for_timeout(200)
        assert shown(page)[-8:] == order[-8:]
        assert written(order[-1]).startswith("≈ ")
        page.get_by_role("button", name="Sort by effect", exact=True).click()
    page.locator(".grid-table").get_by_role("button", name="Effect", exact=True).hover()
    expect(page.locator("#tip")).to_contain_text("Large estimates are poor")
    expect(page.locator("#tip")).to_contain_text("Here 90 firings were measured")
    expect(page.locator("#tip")).to_contain_text("a rank correlation of 0.13")
    page.get_by_text("About this dashboard", exact=True).click()
    expect(page.locator(".about")).to_contain_text("90 firings, agreement with their estimates 0.13")


def test_latents_without_a_number_come_last(open_page: Open):
    page = open_page("#/?kind=all&sort=max")
    everything = np.ones(300, bool)
    assert shown(page)[:8] == expected("max", everything, descending=False)[:8]
    page.locator(".table-scroll").evaluate("box => box.scrollTop = box.scrollHeight")
    page.wait_for_timeout(200)
    assert set(shown(page)[-int(NUMBERS.dead.sum()) :]) == set(np.flatnonzero(NUMBERS.dead).tolist())


def test_dead_and_ultra_low_latents_stand_apart(open_page: Open):
    page = open_page()
    density = NUMBERS.columns["density"]
    for kind, kept in {"Dead": density == 0, "Ultra-low": (density > 0) & ~ACTIVE, "All": density >= 0}.items():
        button = page.locator(".kinds button", has_text=kind)
        button.click()
        expect(page.locator("#tip")).to_contain_text(re.compile("Number of (all )?latents"))
        assert status(page) == f"{kept.sum()} of 300 latents"
        assert shown(page)[:4] == [int(latent) for latent in np.flatnonzero(kept)[:4]]


def test_numbers_at_the_head_are_defined_and_written_short(open_page: Open):
    page = open_page()
    for name, words in {
        "Dead": "none of the tokens read",
        "Tokens read": "but special tokens",
        "Documents": "consists of",
    }.items():
        page.locator(".facts").get_by_role("button", name=name, exact=True).hover()
        expect(page.locator("#tip")).to_contain_text(words)
    assert page.locator(".facts dt").count() == page.locator(".facts dt .term").count()
    page.get_by_text("About this dashboard", exact=True).click()
    about = page.locator(".about")
    expect(about).to_contain_text("L038.8note")
    about.get_by_role("button", name="Ultra-low").hover()
    expect(page.locator("#tip")).to_contain_text("smaller share of the tokens")


def test_scrolling_shows_every_row_once(open_page: Open):
    page = open_page()
    seen: list[int] = []
    box = page.locator(".table-scroll")
    for top in range(0, int(ACTIVE.sum()) * 36, 400):
        box.evaluate("(box, top) => box.scrollTop = top", top)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen += [latent for latent in shown(page) if latent not in seen]
    assert seen == [int(latent) for latent in np.flatnonzero(ACTIVE)]
    assert page.locator(".rows .row").count() < 60


def test_search_by_token(open_page: Open):
    page = open_page()
    page.keyboard.press("/")
    expect(page.locator("#search-token")).to_be_focused()
    page.keyboard.type(" River")
    top = NUMBERS.columns["top_token"]
    river = WORDS.index(" river")
    wanted = np.flatnonzero(ACTIVE & ((top == river) | (top + 1 == river)))
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    assert shown(page) == wanted.tolist()
    page.locator("#search-token").fill("riv*")
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    page.locator("#search-token").fill(f"#{1000 + river}")
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    the = WORDS.index(" the")  # and not " theory"
    number = int((ACTIVE & ((top == the) | (top + 1 == the))).sum())
    page.locator("#search-token").fill("THE")
    expect(page.locator("p.status")).to_have_text(f"{number} of 300 latents")
    page.locator("#search-token").fill("no such token")
    expect(page.locator("p.status")).to_have_text("0 of 300 latents")
    page.locator("#search-token").fill("")
    expect(page.locator("p.status")).to_have_text(f"{ACTIVE.sum()} of 300 latents")


def test_search_by_text_and_by_explanation(open_page: Open):
    page = open_page("#/?kind=all")
    page.locator("#search-text").fill("RIVER number 41 ")
    expect(page.locator("p.status")).to_have_text("1 of 300 latents")
    assert shown(page) == [41]
    page.locator("#search-text").fill("subject 9,")
    wanted = [latent for latent in range(0, 300, 3) if latent % 17 == 9 and latent % 40 != 7]
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    assert shown(page) == wanted


def test_limits_filter_and_stand_in_the_address(open_page: Open):
    page = open_page("#/?kind=all")
    page.locator("details.limits summary").click()
    low = page.get_by_label("Maximum at least")
    low.fill("10")
    low.press("Enter")
    wanted = np.flatnonzero(NUMBERS.columns["max"] >= 10)
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    assert "max=10.." in page.url
    page.reload()
    expect(page.locator("p.status")).to_have_text(f"{len(wanted)} of 300 latents")
    page.locator("details.limits summary").click()
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("p.status")).to_have_text("300 of 300 latents")


def test_brushing_the_histogram_filters(open_page: Open):
    page = open_page("#/?kind=all")
    chart = page.locator(".charts svg").first
    box = chart.bounding_box()
    assert box
    y = box["y"] + 100
    page.mouse.move(box["x"] + box["width"] * 0.45, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=4)
    page.mouse.up()
    match = re.search(r"density=([\d.e-]+)\.\.([\d.e-]+)", page.url)
    assert match
    low, high = map(float, match.groups())
    density = NUMBERS.columns["density"].astype(float)
    between = int(((density >= low) & (density <= high)).sum())
    assert 20 < between < 280
    assert abs(int(status(page).split()[0]) - between) <= 2  # the address is rounded to four digits
    assert page.locator("rect.brush").count() == 1
    page.mouse.move(box["x"] + box["width"] * 0.9, y)  # a click, by a hand that is not quite still, takes the choice back
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9 + 1, y)
    page.mouse.up()
    expect(page.locator("p.status")).to_have_text("300 of 300 latents")


def test_histogram_is_read_by_arrow_keys(open_page: Open):
    page = open_page()
    page.locator(".charts svg").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".charts output").first).to_contain_text("latents between")
    page.get_by_label("log", exact=True).check()
    assert page.locator(".charts svg").first.locator("rect.bar").count() > 20


def test_the_map_points_and_opens(open_page: Open):
    page = open_page()
    canvas = page.locator("canvas.map")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator("#tip")
    expect(tip).to_contain_text("Latent ")
    pointed = int(re.search(r"Latent (\d+)", tip.inner_text()).group(1))  # type: ignore[union-attr]
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(f"Latent {pointed}")


def test_a_click_on_the_map_opens_the_latent_under_it(open_page: Open):
    page = open_page()
    x, y = NUMBERS.columns["x"], NUMBERS.columns["y"]
    box = page.locator("canvas.map").bounding_box()
    assert box
    scale = min((box["width"] - 24) / np.ptp(x), (box["height"] - 24) / np.ptp(y))
    lone = max(np.flatnonzero(ACTIVE), key=lambda i: np.partition(np.hypot(x - x[i], y - y[i]), 1)[1])
    px = float((x[lone] - (x.max() + x.min()) / 2) * scale + box["width"] / 2)
    py = float(((y.max() + y.min()) / 2 - y[lone]) * scale + box["height"] / 2)
    page.mouse.move(box["x"] + px, box["y"] + py)
    expect(page.locator("#tip")).to_contain_text(f"Latent {lone}")
    page.mouse.click(box["x"] + px, box["y"] + py)
    expect(page.locator("h1")).to_have_text(f"Latent {lone}")


def test_rows_by_keyboard_and_back_again(open_page: Open):
    page = open_page("#/?sort=density&order=descending")
    wanted = expected("density", ACTIVE, descending=True)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".rows a:focus")).to_have_text(str(wanted[1]))
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(f"Latent {wanted[1]}")
    expect(page.locator(".walk .quiet")).to_have_text(f"2 of {len(wanted)} listed")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text(f"Latent {wanted[2]}")
    page.keyboard.press("i")
    page.wait_for_selector(".table-scroll")
    assert "sort=density" in page.url
    assert shown(page)[:4] == wanted[:4]


def test_go_to_a_latent(open_page: Open):
    page = open_page()
    page.locator("#go-to").fill("3000")
    page.locator("#go-to").press("Enter")
    expect(page.locator("#go-to")).to_have_attribute("aria-invalid", "true")
    page.locator("#go-to").fill("250")
    page.locator("#go-to").press("Enter")
    expect(page.locator("h1")).to_have_text("Latent 250")


def test_a_missing_file_is_named(open_page: Open, tmp_path: Path, watch):
    page = watch.page()
    for name in ("index.html", "app.js", "app.css"):
        (tmp_path / name).write_bytes((Path(__file__).parents[3] / "sae/dashboards/app/built" / name).read_bytes())
    page.goto((tmp_path / "index.html").as_uri())
    expect(page.get_by_role("alert")).to_contain_text("data/manifest.js could not be read. Is the folder whole?")
    watch.complaints.clear()  # the browser says that the file is not there


def test_unknown_addresses_say_so(open_page: Open):
    page = open_page("#/latent/300")
    expect(page.get_by_role("alert")).to_contain_text("numbered from 0 to 299")
    page.goto(page.url.replace("latent/300", "nothing"))
    expect(page.get_by_role("alert")).to_contain_text("no page")
