"""Folders to open in a browser, and the app built anew."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Page

from tests.browser import Watch
from tests.dashboards.app import synthetic, synthetic_factors

ROOT = Path(__file__).parents[3]
TOOLS = Path(sys.prefix) / "dashboard-app"


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
