"""Everyone can use the pages of factors: axe finds nothing, nothing is cut off on a phone or at 200 % zoom."""

import pytest

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.test_access import violations

pytestmark = pytest.mark.slow
ROUTES = {
    "index": "#/",
    "factor": "#/factor/2",
    "side by side": "#/factor/2?view=side",
    "words": "#/words",
    "word": "#/word/0?layer=resid_post.3",
    "hostile word": "#/word/1",
    "path": "#/path/0",
    "hostile path": "#/path/1",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ROUTES)
def test_axe_finds_nothing(open_factors: Open, axe: str, name: str, scheme: str):
    page = open_factors(ROUTES[name], scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(200)
    assert violations(page, axe) == []


@pytest.mark.parametrize("width", [360, 640])
@pytest.mark.parametrize("name", ROUTES)
def test_nothing_is_cut_off_on_a_phone_and_at_200_percent(open_factors: Open, name: str, width: int):
    """200 % zoom of a window of 1,280 pixels is a window of 640."""
    page = open_factors(ROUTES[name], width=width)
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_are_printed_without_controls(open_factors: Open):
    page = open_factors("#/factor/2")
    page.emulate_media(media="print")
    assert page.locator("svg.curve").is_visible()
    assert not page.locator(".layer-slider").is_visible()
    assert not page.locator(".top").is_visible()
