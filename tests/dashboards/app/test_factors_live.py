"""What a server adds to the pages of factors, in a real browser, with a stand-in that answers as the schema says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Watch
from tests.dashboards.app.synthetic import HOSTILE
from tests.dashboards.app.synthetic_factors import FactorNumbers, factor_record, path_page, word_page
from tests.dashboards.app.test_access import violations
from tests.dashboards.app.test_live import HELLO, Answering, serving

pytestmark = pytest.mark.slow
BLOCK = 72  # tokens that the answer of a saliency covers, more than any context


class AnsweringFactors(Answering):
    """Answers words, paths and saliency."""

    def reply(self, name: str, fields: dict[str, Any]) -> Any:
        if name == "word":
            return word_page(HOSTILE[0])
        if name == "path":
            return path_page(fields["text"], hostile=True)
        return {"method": fields["method"], "weights": [float(i - fields["position"]) for i in range(BLOCK)]}


@pytest.fixture
def answering() -> type[AnsweringFactors]:
    return type("Own", (AnsweringFactors,), {"asked": [], "hello": HELLO | {"steer": False, "ablate": False}})


@pytest.fixture
def address(factor_folder: Path, answering: type[AnsweringFactors]) -> Iterator[str]:
    yield from serving(factor_folder, answering)


@pytest.fixture
def served(watch: Watch, address: str) -> Iterator[Page]:
    page = watch.page()
    page.goto(f"{address}#/words")
    page.wait_for_selector("#live-word")
    yield page
    assert {url for url in watch.requests if not url.startswith(address.rsplit("/", 1)[0])} <= {"data:,"}
    watch.requests.clear()


def test_a_word_that_is_typed_in(served: Page, answering: type[AnsweringFactors], axe: str, watch: Watch):
    served.locator("#live-word").fill("apple")
    served.keyboard.press("Enter")
    expect(served.locator(".live-result h2").first).to_contain_text(HOSTILE[0])
    assert answering.asked == [("word", {"word": "apple"})]
    assert served.locator(".sense").count() > 1
    assert violations(served, axe) == []
    served.locator("#live-word").fill("refuse")
    served.keyboard.press("Enter")
    expect(served.locator(".live > .status")).to_have_text("What was asked is refused.")
    watch.complaints.clear()  # the browser notes the status


def test_a_text_that_is_typed_in(served: Page, answering: type[AnsweringFactors], axe: str):
    served.get_by_role("link", name="Paths").click()
    served.locator("#live-path").fill("<b>any</b> text")
    served.get_by_role("button", name="Show its paths").click()
    served.locator(".text-tokens .t").nth(5).click()
    expect(served.locator(".path-page h2")).to_contain_text("bank")
    assert served.locator(".lane").count() == 8
    assert answering.asked == [("path", {"text": "<b>any</b> text"})]
    assert violations(served, axe) == []


def test_saliency_is_measured_on_demand(served: Page, answering: type[AnsweringFactors], address: str):
    served.goto(f"{address}#/factor/3?colour=leave_one_out")
    record = factor_record(FactorNumbers(), 3)
    layer = record["peak_layer"]
    assert layer is not None
    one = record["layers"][layer]["contexts"][1]
    context = served.locator(".contexts .example").nth(1)
    expect(context).to_contain_text("by activation")
    context.get_by_role("button", name="measure").click()
    expect(context).not_to_contain_text("by activation")
    position = one["start"] + one["peak"]
    assert answering.asked == [
        ("saliency", {"factor": 3, "layer": layer, "block": one["block"], "position": position, "method": "leave_one_out"})
    ]
    looks = [(span.get_attribute("class") or "").split()[1][0] for span in context.locator(".t").all()]
    far = [offset for offset in range(len(looks)) if abs(offset - one["peak"]) > 8]
    assert [looks[offset] for offset in far] == ["p" if offset > one["peak"] else "n" for offset in far]
    context.locator(".t").first.hover()
    expect(served.locator("#tip")).to_contain_text(f"Leave one out: \u2212{one['peak']}")
    served.keyboard.press("]")
    served.keyboard.press("[")
    expect(context).not_to_contain_text("by activation")
