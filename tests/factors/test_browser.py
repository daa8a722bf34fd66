"""A dashboard of factors as it is written and served, in a real browser: the app reads what Python really gives."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import expect

from sae.dashboards.live.server import application
from tests.browser import Watch
from tests.dashboards.app.synthetic import BUILT
from tests.dashboards.live.subjects import TEXT
from tests.factors.test_write import HOSTILE, LAYERS, WORD, answers_of, built  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def address(built, tmp_path: Path) -> Iterator[str]:  # noqa: F811
    folder, subject, *_ = built
    served = shutil.copytree(folder, tmp_path / "served")
    shutil.copytree(BUILT, served, dirs_exist_ok=True)
    answers = answers_of(subject, served / "collected")
    server = uvicorn.Server(uvicorn.Config(application(served, answers, host="127.0.0.1"), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_every_page_opens_and_the_server_answers(address: str, watch: Watch):
    page = watch.page()
    page.goto(f"{address}/#/?kind=all")
    expect(page.locator("p.status")).to_contain_text("factors")
    page.goto(f"{address}/#/factor/2")
    expect(page.locator("h1")).to_have_text("Factor 2")
    assert page.locator("svg.curve circle").count() == len(LAYERS)
    page.get_by_role("group", name="Colour of tokens").get_by_role("button", name="Integrated gradients").click()
    unmeasured = page.locator(".contexts .example", has_text="by activation")
    before = unmeasured.count()
    assert before
    unmeasured.last.get_by_role("button", name="measure").click()
    expect(unmeasured).to_have_count(before - 1)
    page.goto(f"{address}/#/words")
    page.locator("#live-word").fill(f"t{WORD}")
    page.keyboard.press("Enter")
    expect(page.locator(".live-result .sense").first).to_contain_text("occurrences")
    page.get_by_role("link", name="nowhere").click()
    expect(page.locator("main")).to_contain_text("nowhere in the text")
    page.goto(f"{address}/#/paths")
    page.locator("#live-path").fill(TEXT)
    page.get_by_role("button", name="Show its paths").click()
    page.locator(".text-tokens .t").nth(2).click()
    assert page.locator(".lane").count() > 0
    page.goto(f"{address}/#/path/0")
    expect(page.locator(".text-tokens")).to_contain_text(HOSTILE[:20])
    assert page.locator("main script, main img").count() == 0
    assert {url for url in watch.requests if not url.startswith(f"{address}/")} <= {"data:,"}
    watch.requests.clear()
