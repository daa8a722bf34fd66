"""Everyone can use the pages: axe finds nothing, nothing is cut off on a phone or at 200 % zoom, every control has a name."""

import pytest
from playwright.sync_api import Page

from tests.dashboards.app.conftest import Open

pytestmark = pytest.mark.slow
ROUTES = {
    "index": "#/",
    "latent": "#/latent/12",
    "text": "#/text/0",
    "hostile": "#/text/1",
    "texts": "#/texts",
    "missing": "#/none",
}


def violations(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate(
        "() => axe.run(document, {resultTypes: ['violations'], preload: false}).then((result) => result.violations)"
    )
    return [f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ROUTES)
def test_axe_finds_nothing(open_page: Open, axe: str, name: str, scheme: str):
    page = open_page(ROUTES[name], scheme=scheme)
    page.wait_for_timeout(200)
    assert violations(page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_what_opens(open_page: Open, axe: str, scheme: str):
    page = open_page("#/", scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert violations(page, axe) == []
    page.keyboard.press("?")
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.goto(page.url.split("#")[0] + "#/latent/12")
    page.get_by_role("button", name="Wrapped").click()
    page.locator(".example .t.peak").first.focus()
    assert page.locator("#tip").is_visible()
    assert violations(page, axe) == []
    page.goto(page.url.split("#")[0] + "#/text/0")
    page.get_by_role("button", name="keep the text coloured").first.click()
    assert violations(page, axe) == []


@pytest.mark.parametrize("width", [360, 640])
@pytest.mark.parametrize("name", ROUTES)
def test_nothing_is_cut_off_on_a_phone_and_at_200_percent(open_page: Open, name: str, width: int):
    """200 % zoom of a window of 1,280 pixels is a window of 640."""
    page = open_page(ROUTES[name], width=width)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_that_is_not_there_says_so_in_the_title_too(open_page: Open):
    page = open_page("#/none")
    assert page.title().startswith("This page cannot be shown: relu")
    page.goto(page.url.replace("#/none", "#/latent/12"))
    page.wait_for_selector(".example")
    assert page.title().startswith("Latent 12")


def test_the_page_can_be_skipped_to(open_page: Open):
    page = open_page("#/latent/12")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
