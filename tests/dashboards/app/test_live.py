"""The part that needs a server, in a real browser, with a stand-in that answers as `sae.dashboards.live.messages` says."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sae.dashboards.live.messages import HelloAnswer
from tests.browser import Watch
from tests.dashboards.app.synthetic import HOSTILE, Numbers, record, text_page

pytestmark = pytest.mark.slow
HELLO: HelloAnswer = {
    "version": "0.1.0",
    "model": "tiny",
    "hook_point": "blocks.1",
    "d_sae": 300,
    "steer": True,
    "ablate": True,
    "limits": {"characters": 200, "tokens": 64, "new_tokens": 16, "clamps": 4, "ablations": 6},
    "defaults": {"new_tokens": 16, "temperature": 0.5, "seed": 0},
}


class Answering(SimpleHTTPRequestHandler):
    """Hands out the folder, and answers; keeps what it was asked."""

    asked: list[tuple[str, dict[str, Any]]]
    hello: HelloAnswer | None

    def do_GET(self) -> None:
        if self.path != "/api/hello":
            super().do_GET()
        elif self.hello is None:
            self.send_error(404)
        else:
            self.answer(200, self.hello)

    def do_POST(self) -> None:
        name = self.path.removeprefix("/api/")
        fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((name, fields))
        if "refuse" in str(fields):
            self.answer(400, {"error": "What was asked is refused."})
        else:
            self.answer(200, self.reply(name, fields))

    def reply(self, name: str, fields: dict[str, Any]) -> Any:
        if name == "text":
            return text_page("A river", 300, hostile=True) | {"text": fields["text"]}
        if name == "steer":
            own = {"text": " flows\non", "tokens": [], "ended": False}
            return {"own": own, "clamped": {"text": HOSTILE[0], "tokens": [], "ended": True}}
        return {"effects": [0.125 + i for i in range(len(fields["latents"]))]}

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answering() -> type[Answering]:
    return type("Own", (Answering,), {"asked": [], "hello": HELLO})


def serving(folder: Path, answering: type[Answering]) -> Iterator[str]:
    """The address of the page while the folder is handed out."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(answering, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()


@pytest.fixture
def address(folder: Path, answering: type[Answering]) -> Iterator[str]:
    yield from serving(folder, answering)


@pytest.fixture
def served(watch: Watch, address: str) -> Iterator[Page]:
    page = watch.page()
    page.goto(f"{address}#/live")
    page.wait_for_selector("#live-text")
    yield page
    assert {url for url in watch.requests if not url.startswith(address.rsplit("/", 1)[0])} <= {"data:,"}
    watch.requests.clear()


def test_text_that_is_typed_in(served: Page, answering: type[Answering]):
    served.locator("#live-text").fill("<b>any</b> text")
    served.get_by_role("button", name="Show latents").click()
    expect(served.locator(".token-rows > li").nth(1)).to_contain_text("The")
    assert answering.asked == [("text", {"text": "<b>any</b> text"})]
    expect(served.locator(".live > .status")).to_contain_text("tokens")


def test_clamped_latents_and_the_continuation(served: Page, answering: type[Answering]):
    served.locator("#live-text").fill("The river")
    served.get_by_role("button", name="Show latents").click()
    chip = served.locator(".token-rows > li").nth(1).locator(".chip").first
    latent = int(chip.locator("a").inner_text())
    chip.get_by_role("button", name="Clamp latent").click()
    served.locator("#steer-latent").fill("7")
    served.locator("#steer-value").fill("-2.5")
    served.get_by_role("button", name="Add clamp").click()
    served.locator("#steer-seed").fill("3")
    served.get_by_role("button", name="Continue the text").click()
    expect(served.locator(".continuation").first).to_contain_text("flows")
    expect(served.locator(".continuation").nth(1)).to_contain_text(HOSTILE[0])
    name, fields = answering.asked[-1]
    assert name == "steer"
    assert [clamp["latent"] for clamp in fields["clamps"]] == [latent, 7]
    assert fields["clamps"][1]["value"] == -2.5
    activation = {one["latent"]: one["activation"] for one in text_page("A river", 300, hostile=True)["tokens"][1]["latents"]}
    assert fields["clamps"][0]["value"] == pytest.approx(2 * activation[latent])
    assert (fields["text"], fields["seed"], fields["new_tokens"]) == ("The river", 3, 16)
    served.get_by_role("button", name="Take off the clamp of latent 7").click()
    assert served.locator(".clamps li").count() == 1


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("latent", "300", "Latent is “300”. Expected a whole number from 0 to 299."),
        ("latent", "-1", "Latent is “-1”. Expected a whole number from 0 to 299."),
        ("latent", "1.5", "Latent is “1.5”. Expected a whole number from 0 to 299."),
        ("latent", "", "Latent is empty. Expected a whole number from 0 to 299."),
        ("value", "<b>", "Value is “<b>”. Expected a number from \u22121e9 to 1e9."),
        ("value", "1e99", "Value is “1e99”. Expected a number from \u22121e9 to 1e9."),
    ],
)
def test_bad_clamps_are_refused_beside_their_field(served: Page, field: str, typed: str, words: str):
    box = served.locator(f"#steer-{field}")
    box.fill(typed)
    served.get_by_role("button", name="Add clamp").click()
    expect(served.locator(f"#steer-{field}-said")).to_have_text(words)
    expect(box).to_be_focused()
    expect(box).to_have_attribute("aria-invalid", "true")
    assert served.locator(".clamps li").count() == 0
    box.fill("7")
    expect(served.locator(f"#steer-{field}-said")).to_be_empty()
    served.get_by_role("button", name="Add clamp").click()
    assert served.locator(".clamps li").count() == 1


def test_settings_begin_as_the_server_says_and_are_refused_beside_their_fields(served: Page, answering: type[Answering]):
    fields = {name: served.locator(f"#steer-{name}") for name in ("tokens", "temperature", "seed")}
    assert [field.input_value() for field in fields.values()] == ["16", "0.5", "0"]
    served.locator("#live-text").fill("The river")
    for name, typed in (("tokens", "17"), ("temperature", "-0.1"), ("seed", "-1")):
        before = fields[name].input_value()
        fields[name].fill(typed)
        served.get_by_role("button", name="Continue the text").click()
        expect(served.locator(f"#steer-{name}-said")).to_contain_text(f"is “{typed}”. Expected a")
        fields[name].fill(before)
    assert answering.asked == []
    served.get_by_role("button", name="Continue the text").click()
    expect(served.locator(".continuation").first).to_contain_text("flows")
    assert {key: answering.asked[-1][1][key] for key in ("new_tokens", "temperature", "seed")} == {
        "new_tokens": 16,
        "temperature": 0.5,
        "seed": 0,
    }


def test_more_clamps_than_the_server_takes_are_refused(served: Page):
    for latent in range(5):
        served.locator("#steer-latent").fill(str(latent))
        served.get_by_role("button", name="Add clamp").click()
    assert served.locator(".clamps li").count() == 4
    expect(served.locator(".steering .status")).to_contain_text("4 latents are clamped, which is the most")


def test_exact_effects_at_a_token(served: Page, answering: type[Answering]):
    served.locator("#live-text").fill("The river")
    served.get_by_role("button", name="Show latents").click()
    served.locator(".kinds").get_by_role("button", name="Loss effect").click()
    row = served.locator(".token-rows > li").nth(2)
    strongest = [int(link.inner_text()) for link in row.locator(".chip a").all()]
    row.get_by_role("button", name="Exact effects").click()
    expect(row.locator(".chip").first).to_contain_text("+5.13 exact")
    name, fields = answering.asked[-1]
    assert name == "ablate"
    assert (fields["text"], fields["position"], fields["latents"]) == ("The river", 2, strongest)


def test_exact_effect_at_an_example(served: Page, answering: type[Answering], address: str):
    served.goto(f"{address}#/latent/12")
    example = record(Numbers(300), 12)["groups"][0]["examples"][5]
    view = served.locator(".example").nth(5)
    view.get_by_role("button", name="exact effect").click()
    expect(view.locator("output")).to_contain_text("+0.125 nats, exact")
    asked = {"block": example["block"], "position": example["start"] + example["peak"], "latents": [12]}
    assert answering.asked == [("ablate", asked)]
    view.locator(".t.peak").focus()
    expect(served.locator("#tip")).to_contain_text("raises the loss by 0.125 nats (exact")


def test_refusals_are_said(served: Page, watch: Watch):
    served.locator("#live-text").fill("refuse this")
    served.get_by_role("button", name="Show latents").click()
    expect(served.locator(".live > .status")).to_have_text("What was asked is refused.")
    served.get_by_role("button", name="Continue the text").click()
    expect(served.locator(".steering .status")).to_have_text("What was asked is refused.")
    watch.complaints.clear()  # the browser notes the status


def test_a_model_that_writes_nothing_is_not_steered(watch: Watch, answering: type[Answering], address: str):
    answering.hello = HELLO | {"steer": False, "ablate": False}  # type: ignore[assignment]
    page = watch.page()
    page.goto(f"{address}#/live")
    page.wait_for_selector("#live-text")
    assert page.locator(".steering").count() == 0
    page.goto(f"{address}#/latent/12")
    page.wait_for_selector(".example")
    assert page.locator(".measure").count() == 0
    watch.requests.clear()


def test_axe_finds_nothing_live(served: Page, axe: str):
    served.locator("#live-text").fill("The river")
    served.get_by_role("button", name="Show latents").click()
    served.locator(".chip").first.wait_for()
    served.get_by_role("button", name="Clamp latent").first.click()
    served.get_by_role("button", name="Continue the text").click()
    served.locator(".continuation").first.wait_for()
    served.locator("#steer-latent").fill("none")
    served.get_by_role("button", name="Add clamp").click()
    served.evaluate(axe)
    found = served.evaluate(
        "() => axe.run(document, {preload: false}).then((result) => result.violations.map((one) => one.id))"
    )
    assert found == []


def test_from_disk_the_page_says_what_it_needs(watch: Watch, folder: Path):
    page = watch.page()
    page.goto((folder / "index.html").as_uri() + "#/live")
    expect(page.locator("main")).to_contain_text("serve=true")
