"""`dashboard.mount`: one view inside another page, as in a notebook's cell, with all data handed over."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Watch
from tests.dashboards.app.synthetic import BUILT, HOSTILE, Numbers, file_text, record, strings, text_page

pytestmark = pytest.mark.slow
NUMBERS = Numbers(300)


def mounted(watch: Watch, folder: Path, options: str) -> Page:
    """A page with an iframe whose srcdoc holds script, style and data, as in a notebook."""
    script, style = ((BUILT / name).read_text() for name in ("app.js", "app.css"))
    inside = (
        f"<!doctype html><html lang='en'><title>View</title><style>{style}</style><div id='view'></div>"
        f"<script>{script}</script><script>dashboard.mount(document.getElementById('view'), {options})</script>"
    )
    outside = (
        "<!doctype html><html lang='en'><title>Notebook</title><h1>Cell</h1><iframe title='view' width='1000' height='600'>"
    )
    (folder / "cell.html").write_text(f"{outside}</iframe></html>")
    page = watch.page()
    page.goto((folder / "cell.html").as_uri())
    page.evaluate("(inside) => document.querySelector('iframe').srcdoc = inside", inside)
    return page


def latent_options(**more: Any) -> str:
    shard = {"first": 12, "strings": strings(), "latents": [record(NUMBERS, 12)]}
    packed = file_text("latents/0", shard, packed=True).split(", ", 1)[1].rstrip(");\n")
    others = "".join(f", {name}: {json.dumps(value)}" for name, value in more.items())
    return f'{{view: "latent", latent: 12, data: {packed}{others}}}'


def test_a_latent(watch: Watch, tmp_path: Path):
    page = mounted(watch, tmp_path, latent_options())
    frame = page.frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text("Latent 12")
    assert frame.locator(".example").count() > 40
    assert frame.locator("a").count() == 0  # nowhere to go to
    frame.locator(".example .t.peak").first.hover()
    expect(frame.locator("#tip")).to_contain_text("activation")
    expect(frame.locator("svg rect.bar").first).to_be_visible()


def test_links_lead_to_the_dashboard_that_is_named(watch: Watch, tmp_path: Path):
    page = mounted(watch, tmp_path, latent_options(base="dashboard/index.html", look="dark"))
    link = page.frame_locator("iframe").locator(".card a").first
    near = record(NUMBERS, 12)["decoder_neighbours"][0]["latent"]
    expect(link).to_have_attribute("href", f"dashboard/index.html#/latent/{near}")
    expect(link).to_have_attribute("target", "_blank")
    ground = page.frame_locator("iframe").locator("#view").evaluate("(view) => getComputedStyle(view).backgroundColor")
    assert ground == "rgb(19, 20, 22)"


def test_a_text_with_hostile_words(watch: Watch, tmp_path: Path):
    data = file_text("texts/0", text_page("Hostile", 300, hostile=True), packed=False).split(", ", 1)[1].rstrip(");\n")
    page = mounted(watch, tmp_path, f'{{view: "text", data: {data}}}')
    frame = page.frame_locator("iframe")
    expect(frame.locator(".text-tokens")).to_contain_text(HOSTILE[0])
    assert frame.locator(".token-rows > li").count() == len(text_page("Hostile", 300, hostile=True)["tokens"])
    assert frame.locator("body").evaluate("() => window.hacked ?? null") is None


def test_a_latent_that_the_data_lacks_is_named(watch: Watch, tmp_path: Path):
    page = mounted(watch, tmp_path, latent_options().replace("latent: 12", "latent: 13"))
    for _ in range(100):
        if watch.complaints:
            break
        page.wait_for_timeout(100)
    assert len(watch.complaints) == 1
    assert "the data holds no latent 13" in watch.complaints.pop()
