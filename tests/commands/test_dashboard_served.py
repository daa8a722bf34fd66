"""`scripts/dashboard.py serve=true` as a process of its own, and a real browser that types, clamps and sees the model fail."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

# Fixtures, which pytest finds by these names.
from tests.browser import Watch

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TEXT = "w3 w14 w15 w9 w26"
PATIENCE_MS = 60_000

# The command itself; the model fails while a file is there.
CHILD = """
import sys
from pathlib import Path
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from sae.commands.dashboard import main

def fail(module, _):
    if isinstance(module, nn.Embedding) and Path(sys.argv[1]).exists():
        raise RuntimeError("out of memory: tried to allocate 2 GB\\nand more lines")

register_module_forward_pre_hook(fail)
sys.exit(main(sys.argv[2:]))
"""


@contextmanager
def serving(run: Path, failing: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a server that has built its dashboard before, and the lines that it prints; Ctrl-C ends it."""
    settings = ["dashboard.tokens=600", "dashboard.exact_effects=4", "serve=true", "port=0"]
    command = [sys.executable, "-c", CHILD, str(failing), f"from={run}", *settings]
    lines, addresses, known = [], [], threading.Event()

    def read(stream):
        for line in stream:
            lines.append(line)
            addresses.extend(re.findall(r"Serving .* at (http://127\.0\.0\.1:\d+)/", line))
            if addresses:
                known.set()
        known.set()

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=read, args=(process.stderr,))
        reader.start()
        try:
            assert known.wait(300)
            assert addresses, "".join(lines)
            lines.clear()
            yield addresses[0], lines
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0, "".join(lines)
            reader.join(10)
        finally:
            process.kill()


def status(page: Page, place: str, words: str) -> None:
    expect(page.locator(place)).to_contain_text(words, timeout=PATIENCE_MS)


def continuations(page: Page) -> list[str]:
    """The model's own, and the one with clamps."""
    with page.expect_response("**/api/steer"):
        page.get_by_role("button", name="Continue the text").click()
    expect(page.locator(".steering .status")).to_be_empty(timeout=PATIENCE_MS)
    return page.locator(".continuation").all_inner_texts()


def test_typing_clamping_and_a_model_that_fails(run_folder: Path, tmp_path: Path, watch: Watch):
    failing = tmp_path / "failing"
    with serving(run_folder, failing) as (address, said):
        page = watch.page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}/#/live")
        page.locator("#live-text").fill(TEXT)
        page.get_by_role("button", name="Show latents").click()
        status(page, ".live > .status", "6 tokens")
        assert [token.inner_text().strip() for token in page.locator(".row-token").all()] == ["<s>", *TEXT.split()]

        own, clamped = continuations(page)
        assert own.split()
        assert clamped == own
        page.get_by_role("button", name="Clamp latent").first.click()
        page.locator("#steer-latent").fill(page.locator(".clamps a").inner_text())
        page.locator("#steer-value").fill("1000")
        page.get_by_role("button", name="Add clamp").click()
        assert page.locator(".clamps li").count() == 1
        again, clamped = continuations(page)
        assert again == own
        assert clamped != own

        assert said == []
        failing.touch()
        page.get_by_role("button", name="Show latents").click()
        status(
            page, ".live > .status", "The model failed on this request (RuntimeError: out of memory: tried to allocate 2 GB)"
        )
        failing.unlink()
        assert watch.complaints
        watch.complaints.clear()  # the browser notes the status
        page.locator("#live-text").fill("w1 w2")
        page.get_by_role("button", name="Show latents").click()
        status(page, ".live > .status", "3 tokens")
        assert continuations(page)[0] != own
        assert {url for url in watch.requests if not url.startswith(f"{address}/")} <= {"data:,"}
        watch.requests.clear()
    reason = "RuntimeError: out of memory: tried to allocate 2 GB"
    assert said == [f"The model failed on /api/text ({reason}); the server goes on.\n"]
