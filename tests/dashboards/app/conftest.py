"""A real browser, a folder to open in it, and a watch on what the pages do."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright

from tests.dashboards.app import synthetic, synthetic_factors

ROOT = Path(__file__).parents[3]
TOOLS = Path(sys.prefix) / "dashboard-app"
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


def build(out: Path) -> None:
    """Runs the build script; one at a time, for it may have to fetch its tools."""
    with FileLock(Path(sys.prefix) / "dashboard-app.lock"):
        command = ["bash", str(ROOT / "scripts" / "build_app.sh"), str(out)]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "VENV": sys.prefix,
            "HOME": str(Path.home()),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app built anew from its sources."""
    out = tmp_path_factory.mktemp("rebuilt")
    build(out)
    return out


@pytest.fixture(scope="session")
def axe(rebuilt: Path) -> str:
    """The source of axe-core, which building brings along."""
    return (TOOLS / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="session")
def factor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_factors.write(tmp_path_factory.mktemp("factors"))


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


Open = Callable[..., Page]


def opener(watch: Watch, folder: Path) -> Open:
    """Opens an address of the folder from disk, and waits until its page stands."""

    def opened(route: str = "#/", **settings: object) -> Page:
        page = watch.page(**settings)  # type: ignore[arg-type]
        page.goto((folder / "index.html").as_uri() + route)
        page.wait_for_selector("main h1")
        return page

    return opened


@pytest.fixture
def open_page(watch: Watch, folder: Path) -> Open:
    return opener(watch, folder)


@pytest.fixture
def open_factors(watch: Watch, factor_folder: Path) -> Open:
    return opener(watch, factor_folder)
