"""Text of documents runs nothing and shows as text, whatever it holds. The `watch` looks for what would have run."""

import json

import pytest
from playwright.sync_api import expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import HOSTILE, file_text

pytestmark = pytest.mark.slow


def test_data_files_hold_no_markup():
    text = file_text("texts/0", {"text": "".join(HOSTILE)}, packed=False)
    assert text.isascii()
    assert "<" not in text
    assert json.loads(text[text.index(", ") + 2 : text.rindex(")")])["text"] == "".join(HOSTILE)


@pytest.mark.parametrize(
    "route", ["#/text/1", "#/texts", "#/latent/7", "#/latent/12", "#/?kind=all&sort=top_token&order=descending"]
)
def test_pages_with_hostile_text_run_nothing(open_page: Open, route: str):
    page = open_page(route)
    page.wait_for_timeout(300)
    assert page.locator("main script, main img, main iframe").count() == 0
    for element in page.locator("[data-tip]").all()[:40]:
        element.dispatch_event("pointerover")
    assert page.locator("#tip script, #tip img").count() == 0


def test_hostile_text_shows_as_it_is(open_page: Open):
    page = open_page("#/text/1")
    words = page.locator(".text-tokens").inner_text()
    for text in HOSTILE[:5]:
        assert text in words
    for sign in ("LS", "PS", "ZWSP", "BOM", "RLO", "LRI", "U+D800", "\\x00", "\\x1b", "1,000,000 characters"):
        assert sign in words, sign
    assert "\u202e" not in words
    assert "\U0001f469\u200d\U0001f4bb" in words  # the joiner of an emoji stays
    assert "\ufffd" not in words
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_searches_run_nothing(open_page: Open):
    page = open_page("#/?kind=all")
    for text in (*HOSTILE[:6], ".*", "(", "*", "**", "#", "\\"):
        page.locator("#search-token").fill(text)
        page.locator("#search-text").fill(text)
        page.wait_for_timeout(20)
    page.locator("#search-text").fill("")
    page.locator("#search-token").fill(HOSTILE[0])
    expect(page.locator("p.status")).not_to_have_text("0 of 300 latents")


def test_hostile_addresses_run_nothing(open_page: Open):
    page = open_page("#/<img src=x onerror='window.hacked=1'>")
    expect(page.get_by_role("alert")).to_contain_text("no page")
    page.goto(page.url.split("#")[0] + "#/?sort=<script>&kind=__proto__&constructor=1..2&__proto__=1..2")
    page.reload()
    expect(page.locator("p.status")).to_contain_text("of 300 latents")
