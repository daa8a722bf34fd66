"""A latent's page, in a real browser from disk."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.app.conftest import Open
from tests.dashboards.app.synthetic import Numbers, record, strings

pytestmark = pytest.mark.slow
NUMBERS = Numbers(300)
STRINGS = strings()


def numbers(page: Page) -> dict[str, str]:
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in page.locator(".numbers > div").all()}


def test_numbers_and_their_definitions(open_page: Open):
    page = open_page("#/latent/12")
    found, wanted = numbers(page), record(NUMBERS, 12)
    assert found["Fired on"] == f"{wanted['fired']:,} tokens"
    assert float(found["Maximum"]) == pytest.approx(wanted["max"], rel=1e-2)
    assert float(found["Density"].removesuffix(" %")) == pytest.approx(100 * wanted["density"], rel=1e-2)
    assert len(found) == 11
    term = page.get_by_role("button", name="Kurtosis")
    term.focus()
    expect(page.locator("#tip")).to_contain_text("3 for a normal distribution")
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()
    described = term.get_attribute("aria-describedby")
    assert "3 for a normal distribution" in (page.locator(f"#{described}").text_content() or "")


def test_numbers_without_a_name_say_what_they_are_too(open_page: Open):
    page = open_page("#/latent/9")
    page.locator(".group small").nth(1).hover()
    expect(page.locator("#tip")).to_contain_text("of the firings that they were taken from")
    page.locator(".example .value").first.hover()
    expect(page.locator("#tip")).to_contain_text("token that the example was chosen for")
    heads = page.locator(".side thead th.number")
    assert heads.count() == page.locator(".side thead th.number .term").count() + page.locator("text='Value'").count()


def test_every_definition_that_is_referred_to_exists(open_page: Open):
    page = open_page("#/latent/9")
    missing = page.evaluate(
        "() => [...document.querySelectorAll('.term')]"
        ".map((term) => term.getAttribute('aria-describedby')).filter((id) => !document.getElementById(id))"
    )
    assert missing == []
    assert page.locator(".term").count() >= 15


def test_tokens_are_coloured_by_activation_and_underlined_by_effect(open_page: Open):
    page = open_page("#/latent/12")
    wanted = record(NUMBERS, 12)
    largest_act = wanted["max"]
    assert largest_act
    examples = [example for group in wanted["groups"] for example in group["examples"]]
    sizes = sorted(
        abs(one["exact"].get(str(place), effect))
        for one in examples
        for place, effect in zip(one["places"], one["effects"] or [], strict=True)
    )
    strong = sizes[int(0.95 * len(sizes))]  # a few larger ones do not hide the others
    rows = (
        "() => [...document.querySelectorAll('.example')].map((one) => [...one.querySelectorAll('.t')].map((t) => t.className))"
    )
    found = page.evaluate(rows)
    assert [len(row) for row in found] == [len(example["tokens"]) for example in examples]
    seen: set[str] = set()
    for example, row in zip(examples, found, strict=True):
        acts = dict(zip(example["places"], example["acts"], strict=True))
        effects = dict(zip(example["places"], example["effects"] or [], strict=True))
        for offset, names in enumerate(row):
            effect = example["exact"].get(str(offset), effects.get(offset, 0.0))
            size = min(3, int(3 * abs(effect) / strong + 0.5))
            expected = {"t", f"a{int(np.ceil(10 * acts.get(offset, 0.0) / largest_act - 1e-12))}"}
            expected |= {"peak"} if offset == example["peak"] else set()
            expected |= {"raises" if effect > 0 else "lowers", f"u{size}"} if size else set()
            assert set(names.split()) == expected
            seen |= expected
    assert {"raises", "lowers", "u1", "u2", "u3", "a0", "a1", "a10"} <= seen


def test_hover_and_arrow_keys_tell_about_a_token(open_page: Open):
    page = open_page("#/latent/12")
    example = record(NUMBERS, 12)["groups"][0]["examples"][0]
    peak = page.locator(".example .t.peak").first
    peak.hover()
    tip = page.locator("#tip")
    expect(tip).to_contain_text(f"token {STRINGS[example['tokens'][example['peak']]]['id']}")
    expect(tip).to_contain_text("100 % of the largest")
    expect(tip).to_contain_text("its estimate to first order was")
    expect(tip).to_contain_text("exact: removed, and the model run again")
    position = example["start"] + example["peak"]
    expect(tip).to_contain_text(f"document {example['document']}, block {example['block']}, position {position}")
    peak.focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text(f"position {position + 1}")
    focused = page.locator(".example .t:focus")
    expect(focused).to_have_attribute("aria-describedby", "tip")
    assert page.url.endswith("#/latent/12")


def test_the_largest_effect_stands_among_the_numbers_and_says_whether_it_is_exact(open_page: Open):
    effect, exact = NUMBERS.columns["effect"], NUMBERS.columns["effect_exact"]
    for latent, sign in ((int(np.flatnonzero(exact)[0]), ""), (int(np.flatnonzero(~NUMBERS.dead & (exact == 0))[0]), "≈ ")):
        number = open_page(f"#/latent/{latent}").locator(".numbers div").filter(has_text="Effect").locator("dd")
        words = number.inner_text()
        assert words.startswith(sign)
        assert ("≈" in words) == (sign != "")
        assert float(words.removeprefix(sign).removesuffix(" nats").replace("\u2212", "-")) == pytest.approx(
            effect[latent], rel=0.06
        )


def test_co_activation_says_on_how_many_tokens_it_was_counted(open_page: Open):
    card = open_page("#/latent/12").locator(".card", has_text="Most often active together")
    expect(card).to_contain_text("Counted on 120,000 tokens, drawn at random from the 500,000 read.")


def test_groups_and_layouts(open_page: Open):
    page = open_page("#/latent/12")
    wanted = record(NUMBERS, 12)
    titles = page.locator(".group h3").all_inner_texts()
    assert titles[0].startswith("Strongest")
    assert [title.split(":")[0] for title in titles[1:11]] == [f"Interval {n} of 10" for n in range(10, 0, -1)]
    assert titles[-1].startswith("Random")
    assert page.locator(".example").count() == sum(len(group["examples"]) for group in wanted["groups"])
    lines = page.locator(".example .tokens")
    assert max(line.bounding_box()["height"] for line in lines.all()[:10]) < 45  # type: ignore[index]
    assert "↵" in page.locator(".groups").inner_text()
    page.get_by_role("button", name="Wrapped").click()
    assert max(line.bounding_box()["height"] for line in lines.all()[:10]) > 45  # type: ignore[index]
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text("Latent 13")
    expect(page.get_by_role("button", name="Wrapped")).to_have_attribute("aria-pressed", "true")


def test_the_chosen_tokens_of_all_lines_stand_below_one_another(open_page: Open):
    page = open_page("#/latent/12", width=700)
    page.wait_for_timeout(200)
    for line in page.locator(".example .tokens").all()[:12]:
        box, peak = line.bounding_box(), line.locator(".peak").bounding_box()
        assert box
        assert peak
        assert peak["x"] + peak["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=2)


def test_previous_next_and_links(open_page: Open):
    page = open_page("#/latent/0")
    assert page.locator(".walk a").count() == 1
    page.get_by_role("link", name="Next").click()
    expect(page.locator("h1")).to_have_text("Latent 1")
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("h1")).to_have_text("Latent 2")
    page.keyboard.press("k")
    expect(page.locator("h1")).to_have_text("Latent 1")
    near = record(NUMBERS, 1)["decoder_neighbours"][0]["latent"]
    page.locator(".card", has_text="Nearest by decoder").get_by_role("link").first.click()
    expect(page.locator("h1")).to_have_text(f"Latent {near}")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Latent 1")
    page.reload()
    expect(page.locator("h1")).to_have_text("Latent 1")
    assert page.title().startswith("Latent 1:")


def test_logits_neurons_neighbours_scores(open_page: Open):
    page = open_page("#/latent/9")
    wanted = record(NUMBERS, 9)
    cards = {card.locator("h3").first.inner_text(): card for card in page.locator(".side > .card").all()}
    assert list(cards) == [
        "Tokens it fires on",
        "Direct effect on logits",
        "Nearest by decoder",
        "Most often active together",
        "Neurons it lies along",
        "Scores",
    ]
    assert cards["Direct effect on logits"].locator(".logits li").count() == 20
    assert cards["Direct effect on logits"].locator("rect.bar").count() > 30
    assert wanted["neurons"][1]["dimension"] == 37
    expect(cards["Neurons it lies along"].locator("tbody tr").nth(1)).to_have_text(re.compile(r"^37\+0\.18"))
    expect(cards["Scores"]).to_contain_text("AUROC")


def test_a_dead_latent_has_a_page(open_page: Open):
    dead = int(np.flatnonzero(NUMBERS.dead)[0])
    page = open_page(f"#/latent/{dead}")
    expect(page.locator(".examples")).to_contain_text("No token of the text makes this latent fire")
    expect(page.locator(".card", has_text="Direct effect on logits")).to_be_visible()


def test_charts_are_saved_as_svg_that_stands_alone(open_page: Open, tmp_path: Path):
    page = open_page("#/latent/12", scheme="dark")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SVG: Activations").click()
    path = tmp_path / "chart.svg"
    download.value.save_as(path)
    assert download.value.suggested_filename == "activations-of-latent-12.svg"
    root = ET.fromstring(path.read_text())
    name = "{http://www.w3.org/2000/svg}"
    bars = [node for node in root.iter(f"{name}rect") if node.get("fill") == "rgb(95, 178, 230)"]
    assert len(bars) > 20
    assert root.find(f"{name}title") is not None
    assert "class=" not in path.read_text()
    assert "var(" not in path.read_text()
    page.goto(page.url.split("#")[0])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SVG: map").click()
    download.value.save_as(path)
    root = ET.fromstring(path.read_text())
    assert len(list(root.iter(f"{name}circle"))) == 300


def test_keys_are_listed(open_page: Open):
    page = open_page("#/latent/12")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("h1")).to_have_text("Latent 12")


def test_light_and_dark_are_chosen_and_kept(open_page: Open):
    page = open_page("#/latent/12")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button = page.get_by_role("button", name="Colours: system")
    button.click()
    page.get_by_role("button", name="Colours: light").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(ground) == dark


def test_the_run_page_is_linked(open_page: Open):
    page = open_page("#/latent/12")
    page.get_by_role("link", name="Run").click()
    expect(page.locator("h1")).to_have_text("Run")
