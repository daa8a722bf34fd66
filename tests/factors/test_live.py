"""What the server answers about a dashboard of factors."""

import pytest
from starlette.testclient import TestClient

from sae.dashboards.live.requests import LIMITS
from sae.dashboards.live.server import application
from tests.dashboards.collect.mixed import LAYERS
from tests.dashboards.collect.texts import LATENTS
from tests.dashboards.live.subjects import TEXT
from tests.factors.test_write import WORD, answers_of, built, read  # noqa: F401


@pytest.fixture
def client(built):  # noqa: F811
    folder, subject, *_ = built
    answers = answers_of(subject, folder / "collected", limits={**LIMITS, "characters": 200, "tokens": 64})
    app = application(folder, answers, host="127.0.0.1")
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def test_the_server_says_the_same_as_the_folder(client, built):  # noqa: F811
    folder, *_ = built
    hello = client.get("/api/hello").json()
    assert (hello["steer"], hello["ablate"], hello["d_sae"]) == (False, False, LATENTS)
    assert hello["hook_point"] == ", ".join(LAYERS)
    assert hello["limits"] == {**LIMITS, "characters": 200, "tokens": 64}
    assert client.post("/api/path", json={"text": TEXT}).json() == read(folder, "paths/0")
    assert client.post("/api/word", json={"word": f"t{WORD}"}).json() == read(folder, "words/0")
    record = next(r for n in range(4) for r in read(folder, f"factors/{n}")["factors"] if r["factor"] == 2)
    layer = record["peak_layer"]
    context = record["layers"][layer]["contexts"][0]
    for known in context["saliency"]:
        asked = {"factor": 2, "layer": layer, "block": context["block"], "position": context["start"] + context["peak"]}
        answer = client.post("/api/saliency", json={**asked, "method": known["method"]}).json()
        assert len(answer["weights"]) == 16
        shown = answer["weights"][context["start"] : context["start"] + len(context["tokens"])]
        assert shown == pytest.approx(known["weights"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("path", {"text": ""}, "holds no token"),
        ("path", {"text": 3}, "text is a number"),
        ("path", {"txt": "a"}, "Did you mean 'text'"),
        ("word", {"word": " "}, "0 characters"),
        ("word", {"word": "nowhere"}, "is nowhere in the dashboard's text"),
        ("word", {"word": ["a"]}, "word is a list"),
        ("word", {"word": f"t{WORD}", "words": 1}, "Did you mean 'word'"),
        ("saliency", {"factor": LATENTS, "layer": 0, "block": 0, "position": 1, "method": "lime"}, "from 0 to 12"),
        ("saliency", {"factor": 0, "layer": 3, "block": 0, "position": 1, "method": "lime"}, "layer is 3"),
        ("saliency", {"factor": 0, "layer": 0, "block": 7, "position": 1, "method": "lime"}, "block is 7"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 16, "method": "lime"}, "position is 16"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 0, "method": "lime"}, "holds a special token"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 1, "method": "x" * 41}, f"method is '{'x' * 40}'."),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "place": 1, "method": "lime"}, "unknown field 'place'"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 1, "method": "shap"}, "method is 'shap'. Expected one"),
        ("saliency", {"factor": 0, "layer": 0, "block": 0, "position": 1}, "method is missing"),
    ],
)
def test_a_request_that_is_wrong_is_refused_in_words(client, name, fields, words):
    response = client.post(f"/api/{name}", json=fields)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]


def test_a_long_text_another_site_and_a_dashboard_without_its_text_are_refused(client, built, tmp_path):  # noqa: F811
    folder, subject, *_ = built
    assert client.post("/api/path", json={"text": "w3 " * 90}).status_code == 413
    assert "at most 64 are read at once" in client.post("/api/path", json={"text": "w3 " * 64}).json()["error"]
    assert client.post("/api/word", json={"word": f"t{WORD}"}, headers={"origin": "http://elsewhere"}).status_code == 403
    assert client.post("/api/steer", json={"text": TEXT}).status_code in (404, 405)
    positions = subject.model.most_positions
    assert positions is not None
    gone = answers_of(subject, tmp_path / "none", limits={**LIMITS, "tokens": positions + 1})
    other = TestClient(application(folder, gone, host="127.0.0.1"), base_url="http://127.0.0.1:8000")
    assert other.get("/api/hello").json()["limits"]["tokens"] == positions
    assert "no longer in its folder" in other.post("/api/word", json={"word": f"t{WORD}"}).json()["error"]
