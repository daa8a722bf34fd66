"""A real browser for tests, one a process, and a watch on what pages do in it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
)
LOCAL = ("file", "data", "blob", "about")


def find_browser() -> str | None:
    """A Chromium or Chrome on the path."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser_path() -> str:
    found = find_browser()
    if found is None:
        pytest.skip(f"No browser: none of {', '.join(BROWSERS)} is on the path. On Debian and Ubuntu: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright, browser_path: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS.split())
    yield browser
    browser.close()


class Watch:
    """Opens pages, and keeps what they say on the console and what they ask for."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def page(self, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))
        return page

    def close(self) -> None:
        for context in list(self.browser.contexts):
            context.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Watch]:
    """After the test: nothing on the console, no request beyond the machine's own files."""
    watch = Watch(browser)
    yield watch
    try:
        hacked = [page.evaluate("window.hacked") for context in browser.contexts for page in context.pages]
    except Error:
        hacked = []
    watch.close()
    assert watch.complaints == []
    assert {url.split(":")[0] for url in watch.requests} <= set(LOCAL)
    assert set(hacked) <= {None}
