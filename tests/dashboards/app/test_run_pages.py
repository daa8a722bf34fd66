"""The run's page and the comparison of runs, in a real browser from disk."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sae.dashboards.comparison import render_comparison
from tests.browser import Watch
from tests.dashboards.app.test_access import violations
from tests.dashboards.test_comparison import RUNS
from tests.dashboards.test_run_page import HISTOGRAM, HOSTILE, render

pytestmark = pytest.mark.slow
PAGES = {
    "run": lambda: render(name=HOSTILE, histograms={"relu": HISTOGRAM}),
    "sweep": lambda: render_comparison([*RUNS, {**RUNS[0], "group": HOSTILE}]),
}
SVG = "{http://www.w3.org/2000/svg}"


def opened(watch: Watch, folder: Path, name: str, **settings: object) -> Page:
    path = folder / f"{name}.html"
    path.write_text(PAGES[name]())
    page = watch.page(**settings)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(watch: Watch, tmp_path: Path, axe: str, name: str, scheme: str):
    page = opened(watch, tmp_path, name, scheme=scheme)
    expect(page.locator("h1")).to_be_visible()
    assert violations(page, axe) == []


@pytest.mark.parametrize("width", [360, 640])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_on_a_phone_and_at_200_percent(watch: Watch, tmp_path: Path, name: str, width: int):
    page = opened(watch, tmp_path, name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def saved(page: Page, title: str, folder: Path) -> tuple[str, ET.Element, str]:
    """Name, root and text of the file that a chart is saved as."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save as SVG: {title}", exact=True).click()
    path = folder / "saved.svg"
    download.value.save_as(path)
    text = path.read_text()
    return download.value.suggested_filename, ET.fromstring(text), text


def test_charts_are_saved_as_svg_that_stands_alone(watch: Watch, tmp_path: Path):
    page = opened(watch, tmp_path, "run", scheme="dark")
    log = page.get_by_label("L0 on a log scale")
    views = []
    for wanted in (True, False):
        log.set_checked(wanted)
        page.locator("figure", has=log).locator("svg:visible").hover()  # the crosshair stays out of the file
        name, root, text = saved(page, "L0", tmp_path)
        assert name == "l0.svg"
        assert root.find(f"{SVG}title").text == "L0"  # type: ignore[union-attr]
        assert "class=" not in text
        assert "var(" not in text
        assert "data-" not in text
        assert '"hidden"' not in text
        assert root.get("viewBox") == "0 0 400 261"  # two lines of legend below
        words = [node.text for node in root.iter(f"{SVG}text")]
        assert words[-2:] == ["held out", "training"]
        strokes = {node.get("stroke") for node in root.iter(f"{SVG}path")}
        assert "rgb(95, 178, 230)" in strokes
        views.append(words)
    assert views[0] != views[1]
    _, root, _ = saved(page, "Latent density on held-out text", tmp_path)
    assert len([node for node in root.iter(f"{SVG}rect") if node.get("fill") == "rgb(95, 178, 230)"]) == 3


def test_the_frontier_is_saved_with_its_legend(watch: Watch, tmp_path: Path):
    page = opened(watch, tmp_path, "sweep")
    name, root, _ = saved(page, "L0 and FVU", tmp_path)
    assert name == "l0-and-fvu.svg"
    assert [node.text for node in root.iter(f"{SVG}text")][-3:] == ["layer 4", "layer 8", HOSTILE]
    assert len(list(root.iter(f"{SVG}circle"))) == 4
