"""A text's page, in a real browser from disk."""

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import text_page

pytestmark = pytest.mark.slow
PAGE = text_page("A river", 300, hostile=False)


def chips(page: Page, at: int) -> list[int]:
    return [int(link.inner_text()) for link in page.locator(".token-rows > li").nth(at).locator(".chip a").all()]


@pytest.mark.parametrize(
    ("button", "key"),
    [("Activation", "activation"), ("Quantile", "quantile"), ("Loss effect", "effect"), ("Logit effect", "logit_effect")],
)
def test_latents_stand_by_the_measure_that_is_chosen(open_page: Open, button: str, key: str):
    page = open_page("#/text/0")
    page.locator(".kinds").get_by_role("button", name=button).click()
    for at in (1, 2, len(PAGE["tokens"]) - 1):
        known = [entry for entry in PAGE["tokens"][at]["latents"] if entry[key] is not None]
        wanted = sorted(known, key=lambda entry: -abs(entry[key]))
        assert chips(page, at) == [entry["latent"] for entry in wanted[:6]]
    expect(page.locator(".token-rows > li").first).to_contain_text("special token")


def test_the_rest_of_the_latents_on_demand(open_page: Open):
    page = open_page("#/text/0")
    row = page.locator(".token-rows > li").nth(1)
    row.locator(".more").click()
    assert len(chips(page, 1)) == len(PAGE["tokens"][1]["latents"])


def test_pointing_at_a_latent_colours_the_text(open_page: Open):
    page = open_page("#/text/0")
    chip = page.locator(".token-rows > li").nth(1).locator(".chip").first
    latent = int(chip.locator("a").inner_text())
    chip.hover()
    acts = [{one["latent"]: one["activation"] for one in entry["latents"]}.get(latent, 0) for entry in PAGE["tokens"]]
    lit = [span.get_attribute("class") != "t a0" for span in page.locator(".text-tokens .t").all()]
    assert lit == [act > 0 for act in acts]
    page.mouse.move(0, 0)
    coloured = page.locator(".text-tokens .t:not(.a0)")
    expect(coloured).to_have_count(0)
    chip.hover()
    chip.get_by_role("button", name="keep the text coloured").click()
    page.mouse.move(0, 0)
    page.get_by_role("heading", level=1).click()
    expect(coloured).to_have_count(sum(lit))
    page.get_by_role("button", name="take colours off").click()
    expect(coloured).to_have_count(0)


def test_a_latent_leads_to_its_page_and_a_token_to_its_row(open_page: Open):
    page = open_page("#/text/0")
    page.locator(".text-tokens .t").nth(30).click()
    expect(page.locator(".token-rows > li").nth(30)).to_be_focused()
    expect(page.locator(".token-rows > li").nth(30)).to_be_in_viewport()
    page.locator(".text-tokens .t").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_contain_text("position 1")
    latent = chips(page, 2)[0]
    page.locator(".token-rows > li").nth(2).locator(".chip a").first.click()
    expect(page.locator("h1")).to_have_text(f"Latent {latent}")


def test_texts_are_listed(open_page: Open):
    page = open_page("#/texts")
    page.get_by_role("link", name="A river").click()
    expect(page.locator("h1")).to_have_text("A river")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_contain_text("Hostile")
