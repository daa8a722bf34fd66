"""How long a dashboard takes to open and to scroll in a real browser, as a table.

    python -m tests.dashboards.app.benchmark                 100,000 latents
    python -m tests.dashboards.app.benchmark 4608 100000     others, a row each

Times count from the request for index.html from disk until the first rows of the table stand in the page; median of five fresh
browser contexts. A frame is what passes between two pictures while the table scrolls by a screen at a time. "CPU" is the time
of the processor in the page's main thread alone, which other work on the machine hardly lengthens.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from tests.browser import FLAGS, find_browser
from tests.dashboards.app.synthetic import write

REPEATS = 5
SIZES = (8192, 32, 8192)  # latents in a file, as the pages are built
SCROLL = """async () => {
    const box = document.querySelector(".table-scroll"), frames = [];
    let last = await new Promise(requestAnimationFrame);
    for (let i = 0; i < 60; i++) {
        box.scrollTop += box.clientHeight * (i % 10 ? 1 : 40);
        const now = await new Promise(requestAnimationFrame);
        frames.push(now - last);
        last = now;
    }
    return frames;
}"""
CLICK = """(label) => new Promise((done) => {
    const began = performance.now();
    [...document.querySelectorAll("button")].find((button) => button.getAttribute("aria-label") === label).click();
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})"""

FOUND = "() => location.hash.includes('token') && !document.querySelector('p.status').textContent.includes('Search')"


def opened(browser: Browser, address: str) -> tuple[Page, CDPSession, float]:
    """A page that shows the index, what measures it, and the seconds that it took."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(120_000)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".rows .row a")
    return page, session, time.perf_counter() - began


def processor_seconds(session: CDPSession) -> float:
    """Of the page's main thread, since it was made."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(entry["value"] for entry in metrics if entry["name"] == "ThreadTime")


def measure(browser: Browser, folder: Path) -> list[str]:
    address = (folder / "index.html").as_uri()
    index, processor, latent = [], [], []
    for _ in range(REPEATS):
        page, session, seconds = opened(browser, address)
        index.append(seconds)
        processor.append(processor_seconds(session))
        page.context.close()
        page = browser.new_context().new_page()
        began = time.perf_counter()
        page.goto(f"{address}#/latent/12")
        page.wait_for_selector(".example")
        latent.append(time.perf_counter() - began)
        page.context.close()
    page, session, _ = opened(browser, address)
    before = processor_seconds(session)
    frames = page.evaluate(SCROLL)
    each = 1000 * (processor_seconds(session) - before) / len(frames)
    sort = statistics.median(page.evaluate(CLICK, "Sort by maximum") for _ in range(REPEATS))
    began = time.perf_counter()
    page.locator("#search-token").fill("river")
    page.wait_for_function(FOUND)
    search = time.perf_counter() - began
    page.context.close()
    times = [statistics.median(index), statistics.median(processor), statistics.median(latent), search]
    milliseconds = [statistics.median(frames), max(frames), each, sort]
    return [*(f"{seconds:.2f} s" for seconds in times), *(f"{value:.0f} ms" for value in milliseconds)]


def main(sizes: list[int]) -> None:
    heads = ["latents", "data", "index opens", "its CPU", "latent opens", "first search"]
    heads += ["frame, median", "frame, longest", "its CPU, mean", "sort"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS.split())
        for size in sizes:
            folder = write(Path(place) / str(size), size, sizes=SIZES, pages=2)
            data = sum(path.stat().st_size for path in (folder / "data" / "index").iterdir())
            print("| " + " | ".join([f"{size:,}", f"{data / 1e6:.1f} MB", *measure(browser, folder)]) + " |", flush=True)
        browser.close()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [100_000])
