"""The server through its test client: every answer, every refusal, and one real process from start to Ctrl-C."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from sae.activations.harvest import Harvester
from sae.dashboards.collect.collector import collect
from sae.dashboards.live import server
from sae.dashboards.live.answers import Answers
from sae.dashboards.live.guard import names_of
from sae.dashboards.live.requests import LIMITS, body_limit
from sae.dashboards.live.server import application, serve
from sae.dashboards.live.steering import continue_text
from sae.errors import UserError
from tests.dashboards.collect.texts import make_blocks
from tests.dashboards.live.subjects import TEXT, reader_of, subject_of
from tests.models.tiny import D_MODEL

ADDRESS = "http://127.0.0.1:8000"
SMALL = {**LIMITS, "characters": 200, "new_tokens": 12, "clamps": 3, "ablations": 4}


@pytest.fixture
def folder(tmp_path):
    """A dashboard's folder with secrets beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "dashboard"
    (folder / "data" / "latents").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "data" / "latents" / "0.js").write_text('dashboard.put("latents/0","");\n')
    (folder / "data" / "link.js").symlink_to(tmp_path / "secret.txt")
    (folder / "outside").symlink_to(tmp_path)
    return folder


def opened(folder, subject=None, *, base_url=ADDRESS, host="127.0.0.1"):
    """A client of a server, and the answers behind it."""
    reader = reader_of(subject or subject_of(), max_characters=SMALL["characters"], max_tokens=20)
    answers = Answers(reader, limits=SMALL, collected=folder / "collected")
    return TestClient(application(folder, answers, host=host), base_url=base_url, raise_server_exceptions=False), answers


@pytest.fixture
def client(folder):
    return opened(folder)[0]


def refused(response, status, *words):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    message = response.json()["error"]
    for word in words:
        assert word in message
    return message


# -- what it answers -----------------------------------------------------------------------------------------------------


def test_hello_says_what_can_be_asked(client, folder):
    answer = client.get("/api/hello").json()
    assert answer["hook_point"] == "layers.1.resid_post"
    assert (answer["model"], answer["d_sae"], answer["steer"], answer["ablate"]) == ("LlamaForCausalLM", 13, True, True)
    assert answer["limits"] == {**SMALL, "tokens": 20}
    assert answer["defaults"] == {"new_tokens": 12, "temperature": 0.0, "seed": 0}
    encoder = opened(folder, subject_of(family="bert"))[0].get("/api/hello").json()
    assert (encoder["steer"], encoder["ablate"]) == (False, False)


def test_a_text_is_answered_with_its_page(folder):
    client, answers = opened(folder)
    response = client.post("/api/text", json={"text": TEXT})
    assert response.status_code == 200
    assert response.json() == answers.reader.page(TEXT)


def test_steering_gives_both_continuations(folder):
    client, answers = opened(folder)
    subject = answers.reader.subject
    asked = {"text": TEXT, "clamps": [{"latent": 3, "value": 20}, {"latent": 0, "value": -1.5}], "new_tokens": 9}
    answer = client.post("/api/steer", json=asked).json()
    prompt = answers.reader.blocks(TEXT).ids[0]
    own = continue_text(subject, prompt, clamps={}, new_tokens=9)
    clamped = continue_text(subject, prompt, clamps={3: 20.0, 0: -1.5}, new_tokens=9)
    assert own != clamped
    for name, (ids, ended) in (("own", own), ("clamped", clamped)):
        assert [token["id"] for token in answer[name]["tokens"]] == ids
        assert answer[name]["tokens"][0]["text"] == f" t{ids[0]}"
        assert answer[name]["text"].split() == [f"w{token - 4}" for token in ids]
        assert answer[name]["ended"] == ended
    drawn = {**asked, "temperature": 1, "seed": 3}
    assert client.post("/api/steer", json=drawn).json() == client.post("/api/steer", json=drawn).json() != answer
    unsteered = client.post("/api/steer", json={"text": TEXT, "new_tokens": 9}).json()
    assert unsteered["own"] == unsteered["clamped"] == answer["own"]


def test_ablation_of_a_text(folder):
    client, answers = opened(folder)
    page = answers.reader.page(TEXT)
    position = next(place for place in (3, 4, 5, 6) if len(page["tokens"][place]["latents"]) > 1)
    latents = [entry["latent"] for entry in page["tokens"][position]["latents"][:2]]
    silent = next(latent for latent in range(13) if latent not in [e["latent"] for e in page["tokens"][position]["latents"]])
    answer = client.post(
        "/api/ablate", json={"text": TEXT, "block": None, "position": position, "latents": [*latents, silent]}
    ).json()
    blocks, count = answers.reader.blocks(TEXT), torch.zeros(2, dtype=torch.long)
    expected = answers.reader.effects.exact(blocks, count, count + position, torch.tensor(latents)).tolist()
    assert answer["effects"] == [*expected, 0.0]
    assert expected[0] != 0


def test_ablation_of_a_collected_block(folder):
    client, answers = opened(folder)
    subject = answers.reader.subject
    blocks = make_blocks()
    source = Harvester(subject.model, subject.inputs, forward_blocks=2, dtype=torch.float64)
    settings = {"belongs_to": {}, "chunk_blocks": 3, "effects": None, "on_rows": lambda done, total: None}
    names = [point.name for point in subject.inputs]
    codes = collect(folder / "collected", sae=subject.sae, source=source, hook_points=names, blocks=blocks, **settings)
    assert len(codes) == 3
    for block, position in ((0, 1), (4, 2), (5, 3), (6, 1)):  # in each of the chunks
        index = torch.tensor([block])
        for latent in range(13):
            expected = answers.reader.effects.exact(blocks, index, torch.tensor([position]), torch.tensor([latent]))
            if expected != 0:
                break
        answer = client.post("/api/ablate", json={"block": block, "position": position, "latents": [latent]}).json()
        assert answer["effects"] == pytest.approx(expected.tolist(), rel=1e-9)
        assert expected != 0
    refused(
        client.post("/api/ablate", json={"block": 7, "position": 1, "latents": [1]}),
        400,
        "no block 7: the dashboard's text has 7",
    )
    refused(client.post("/api/ablate", json={"block": 3, "position": 1, "latents": [1]}), 400, "special token")  # none is kept


# -- what it refuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.0.2.7", "", "[::1", "a b"]
)
def test_other_names_are_refused(client, host):
    for response in (
        client.get("/", headers={"host": host}),
        client.post("/api/text", json={"text": "w1"}, headers={"host": host}),
    ):
        refused(response, 403, "Host header", "open the address that it printed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "127.8.9.1"])
def test_names_of_this_machine_are_accepted(client, host):
    assert client.get("/api/hello", headers={"host": host}).status_code == 200


def test_a_server_that_others_can_reach_is_known_by_addresses_and_its_name(folder):
    assert names_of("0.0.0.0", "Box.Lan") == {"localhost", "0.0.0.0", "box.lan", "box"}
    assert names_of("localhost", "box") == {"localhost"}
    client = opened(folder, host="0.0.0.0")[0]
    assert client.get("/api/hello", headers={"host": "192.0.2.7:8000"}).status_code == 200
    assert client.get("/api/hello", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:8001", "http://localhost:8000", "null", "", "http://127.0.0.1"]
)
def test_pages_of_others_are_refused(client, origin):
    refused(client.post("/api/text", json={"text": "w1"}, headers={"origin": origin}), 403, "may not ask this server")


def test_its_own_pages_may_ask(client):
    headers = {"origin": ADDRESS, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.post("/api/text", json={"text": "w1"}, headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_no_more(client, site):
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 200
    refused(client.get("/data/latents/0.js", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}), 403)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/data/../../secret.txt",
        "/data/%2e%2e/%2e%2e/secret.txt",
        "/data/..%5c..%5csecret.txt",
        "/%252e%252e/secret.txt",
        f"{ADDRESS}//secret.txt",
        "/data/link.js",
        "/outside/secret.txt",
        "/secret.txt%00.js",
        "/data",
        "/" + "a" * 5000,
    ],
)
def test_nothing_outside_the_folder_is_served(client, path):
    response = client.get(path)
    refused(response, 404)
    assert "secret" not in response.text


def test_absolute_paths_are_not_served(client, folder):
    refused(client.get(f"/{folder.parent / 'secret.txt'}"), 404)
    refused(client.get(f"/%2f{folder.parent / 'secret.txt'}"), 404)


def test_files_of_the_folder_are_served(client):
    assert "<title>page</title>" in client.get("/").text
    shard = client.get("/data/latents/0.js")
    assert shard.text.startswith("dashboard.put")
    assert "javascript" in shard.headers["content-type"]


def test_every_answer_has_the_headers_that_keep_pages_apart(client):
    answers = [
        client.get("/"),
        client.get("/data/latents/0.js"),
        client.get("/api/hello"),
        client.get("/nothing"),
        client.get("/", headers={"host": "evil.example"}),
        client.post("/api/text", json={"text": "w1"}),
        client.post("/api/text", content=b"{"),
    ]
    for response in answers:
        headers = response.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-cache"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", ["text", "steer", "ablate"])
def test_the_body_must_be_json_of_a_bounded_length(client, name):
    path = f"/api/{name}"
    limit = body_limit(SMALL)
    refused(client.post(path, content=b'{"text": "w1"}', headers={"content-type": "text/plain"}), 415, "application/json")
    refused(client.post(path, content=b'{"text": "w1"}'), 415, "missing")
    refused(client.post(path, data={"text": "w1"}), 415, "x-www-form-urlencoded")
    long = json.dumps({"text": "w" * (limit + 1)})
    refused(client.post(path, content=long, headers={"content-type": "application/json"}), 413, f"{limit:,} bytes", "Shorten")
    parts = (b" " * 1000 for _ in range(limit // 1000 + 2))  # no length is announced
    refused(client.post(path, content=parts, headers={"content-type": "application/json"}), 413, f"{limit:,} bytes")
    refused(client.get(path), 405)
    refused(client.post(f"{path}s", json={}), 404)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"text": NaN}', "NaN is no JSON number"),
        (b"[" * 900, "is not JSON"),
        (b'["w1"]', "JSON of a list. Expected an object"),
        (b"null", "JSON of missing or null"),
        (b"{}", "text is missing or null. Expected a string"),
        (b'{"text": 3}', "text is a number. Expected a string"),
        (b'{"text": ["w1"]}', "text is a list"),
        (b'{"txt": "w1"}', "unknown field 'txt'. Did you mean 'text'?"),
        (b'{"text": "w1", "a": 1}', "unknown field 'a'. Expected text."),
        (b'{"text": ""}', "The text holds no token"),
    ],
)
def test_bad_texts_are_answered_in_words(client, body, words):
    refused(client.post("/api/text", content=body, headers={"content-type": "application/json"}), 400, words)


def test_texts_beyond_the_limits_are_answered_with_the_limit(client):
    refused(client.post("/api/text", json={"text": "w" * 201}), 413, "201 characters; at most 200")
    refused(client.post("/api/text", json={"text": "w1 " * 20}), 413, "20 tokens; at most 20")
    assert (
        client.post("/api/text", json={"text": "\U0001f600" * 200}).status_code == 200
    )  # the longest way to write 200 characters


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clamps": {}}, "clamps is an object. Expected a list"),
        ({"clamps": [3]}, "clamps[0] is a number"),
        ({"clamps": [{"latent": 3}]}, "clamps[0].value is missing or null. Expected a number"),
        ({"clamps": [{"value": 3}]}, "clamps[0].latent is missing"),
        ({"clamps": [{"latent": 3, "value": 1}, {"latent": 3, "value": 2}]}, "clamps[1] holds latent 3 a second time"),
        ({"clamps": [{"latent": 3, "value": 1, "vale": 2}]}, "clamps[0] has the unknown field 'vale'. Did you mean 'value'?"),
        ({"clamps": [{"latent": 13, "value": 1}]}, "no latent 13: the SAE has 13"),
        ({"clamps": [{"latent": -1, "value": 1}]}, "clamps[0].latent is -1. Expected a whole number from 0"),
        ({"clamps": [{"latent": 1.0, "value": 1}]}, "clamps[0].latent is 1.0. Expected a whole number"),
        ({"clamps": [{"latent": True, "value": 1}]}, "clamps[0].latent is true or false"),
        ({"clamps": [{"latent": 1, "value": 1e300}]}, "clamps[0].value is 1e+300. Expected a number from -1e+09 to 1e+09"),
        ({"clamps": [{"latent": 1, "value": 10**400}]}, "clamps[0].value is 1000000000"),
        ({"clamps": [{"latent": n, "value": 1} for n in range(4)]}, "clamps has 4 entries. Expected at most 3"),
        ({"new_tokens": 13}, "new_tokens is 13. Expected a whole number from 1 to 12"),
        ({"new_tokens": 0}, "new_tokens is 0"),
        ({"new_tokens": "5"}, "new_tokens is a string"),
        ({"temperature": -0.1}, "temperature is -0.1. Expected a number from 0 to 100"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"sed": 1}, "unknown field 'sed'. Did you mean 'seed'?"),
    ],
)
def test_bad_steering_is_answered_in_words(client, fields, words):
    refused(client.post("/api/steer", json={"text": "w1 w2", "new_tokens": 2, **fields}), 400, words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latents": [1]}, "Give either text or block"),
        ({"text": None, "block": None, "position": 1, "latents": [1]}, "Give either text or block"),
        ({"text": TEXT, "block": 1, "position": 1, "latents": [1]}, "Give either text or block"),
        ({"text": TEXT, "position": 1}, "latents is empty or missing"),
        ({"text": TEXT, "position": 1, "latents": [13]}, "There is no latent 13"),
        ({"text": TEXT, "position": 1, "latents": ["1"]}, "latents[0] is a string"),
        ({"text": TEXT, "position": 1, "latents": [1] * 5}, "latents has 5 entries. Expected at most 4"),
        ({"text": TEXT, "latents": [1]}, "position is missing or null"),
        ({"text": TEXT, "position": 0, "latents": [1]}, "Position 0 holds a special token or lies outside the 10 tokens"),
        ({"text": TEXT, "position": 10, "latents": [1]}, "Position 10 holds a special token or lies outside"),
        ({"block": 0, "position": 1, "latents": [1]}, "collected text is no longer in its folder"),
    ],
)
def test_bad_ablations_are_answered_in_words(client, fields, words):
    refused(client.post("/api/ablate", json=fields), 400, words)


def test_an_encoder_says_what_it_cannot_do(folder):
    client = opened(folder, subject_of(family="bert"))[0]
    assert client.post("/api/text", json={"text": TEXT}).status_code == 200
    refused(client.post("/api/steer", json={"text": TEXT}), 400, "BertModel predicts no next tokens")
    refused(client.post("/api/ablate", json={"text": TEXT, "position": 1, "latents": [1]}), 400, "there is no loss")


def test_a_continuation_beyond_what_the_model_reads_is_refused(folder):
    subject = subject_of()
    subject.model.tokenizer.model_max_length = 15
    client = opened(folder, subject)[0]
    refused(client.post("/api/steer", json={"text": TEXT, "new_tokens": 6}), 413, "10 tokens and 6 new ones", "reads 15")
    assert client.post("/api/steer", json={"text": TEXT, "new_tokens": 5}).status_code == 200


# -- what it survives ----------------------------------------------------------------------------------------------------


def test_it_goes_on_when_the_model_errs(folder, caplog):
    subject = subject_of()
    client = opened(folder, subject)[0]
    before = client.post("/api/text", json={"text": TEXT}).json()

    def fail(*_):
        raise RuntimeError("out of memory: tried to allocate\nmore lines")

    handle = subject.model.module.get_submodule("model.layers.0").register_forward_hook(fail)
    for path, fields in (("text", {}), ("steer", {}), ("ablate", {"position": 2, "latents": [1]})):
        message = refused(client.post(f"/api/{path}", json={"text": TEXT, **fields}), 500, "RuntimeError: out of memory")
        assert "more lines" not in message
        assert "Traceback" not in message
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == [
        f"The model failed on /api/{path} (RuntimeError: out of memory: tried to allocate); the server goes on."
        for path in ("text", "steer", "ablate")
    ]
    assert "Traceback" not in caplog.text
    handle.remove()
    assert subject.model.lock.acquire(timeout=1)
    subject.model.lock.release()
    assert client.post("/api/text", json={"text": TEXT}).json() == before


def test_clamps_that_overflow_are_no_failure(folder):
    client, answers = opened(folder)
    with torch.no_grad():
        answers.reader.subject.sae.W_dec.mul_(1e300)
    asked = {"text": TEXT, "clamps": [{"latent": 1, "value": 1e9}, {"latent": 2, "value": -1e9}]}
    refused(client.post("/api/steer", json=asked), 400, "overflow")


def test_requests_at_once_get_the_answers_of_requests_in_turn(folder):
    client, answers = opened(folder)
    texts = [f"w{number} w{number + 1} w7 w9" for number in range(8)]
    running, most, page = [], [], answers.reader.page

    def counted(text):
        running.append(text)
        most.append(len(running))
        time.sleep(0.02)
        found = page(text)
        running.remove(text)
        return found

    answers.reader.page = counted
    with client, ThreadPoolExecutor(8) as pool:  # one event loop for all
        pages = list(pool.map(lambda text: client.post("/api/text", json={"text": text}).json(), texts))
    assert pages == [page(text) for text in texts]
    assert max(most) == 1


def test_more_requests_than_can_wait_are_sent_away(folder, monkeypatch):
    monkeypatch.setattr(server, "MOST_REQUESTS", 3)
    client, answers = opened(folder)
    begun, go, page = threading.Semaphore(0), threading.Event(), answers.reader.page

    def held(text):
        begun.release()
        go.wait(60)
        return page(text)

    def ask(_=None):
        return client.post("/api/text", json={"text": TEXT})

    answers.reader.page = held
    with client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask)
        begun.acquire()
        others = [pool.submit(ask) for _ in range(5)]
        sent_away = [next(as_completed(others)) for _ in range(1)]
        go.set()
        statuses = sorted(one.result().status_code for one in [first, *others])
    assert sent_away[0].result().json() == {"error": "3 requests wait already. Ask again when some are answered."}
    assert statuses == [200] * 3 + [503] * 3
    assert ask().status_code == 200


def test_serving_what_is_no_dashboard_is_refused(tmp_path):
    subject = subject_of()
    settings = {"sae": subject.sae, "model": subject.model, "inputs": subject.inputs, "targets": subject.targets}
    rest = {"unembedding": None, "host": "127.0.0.1", "port": 0, "open_browser": False, "say": print}
    with pytest.raises(UserError, match=r"holds no dashboard \(index\.html is missing\): build it first"):
        serve(tmp_path, **settings, **rest)


def test_an_address_that_cannot_be_had_is_told(folder):
    subject = subject_of()
    settings = {"sae": subject.sae, "model": subject.model, "inputs": subject.inputs, "targets": subject.targets}
    rest = {"unembedding": torch.zeros(97, D_MODEL), "open_browser": False, "say": print}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"Port {port} of 127\.0\.0\.1 is in use.* take port={port + 1}"):
            serve(folder, **settings, **rest, host="127.0.0.1", port=port)
    with pytest.raises(UserError, match=r"host=no such host port=8000 is no address"):
        serve(folder, **settings, **rest, host="no such host", port=8000)
    with pytest.raises(UserError, match=r"port=99999 is no port: expected 0 .* to 65535"):
        serve(folder, **settings, **rest, host="127.0.0.1", port=99999)
    with pytest.raises(UserError, match=r"host=192\.0\.2\.7 port=8000 cannot be listened on"):
        serve(folder, **settings, **rest, host="192.0.2.7", port=8000)


def test_ctrl_c_ends_a_request_in_progress_between_two_passes(folder, capsys):
    subject = subject_of()
    settings = {"sae": subject.sae, "model": subject.model, "inputs": subject.inputs, "targets": subject.targets}
    passes, addresses, answers = [], [], []

    def slow(*_):
        passes.append(1)
        if len(passes) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

    def ask():
        while not addresses:
            time.sleep(0.01)
        try:
            answer_of(addresses[0], "/api/steer", {"text": "w1 w2", "new_tokens": 40})
        except urllib.error.HTTPError as error:
            answers.append((error.code, json.loads(error.read())["error"]))

    def told(line):
        addresses.extend(re.findall(r"http://[^/]*", line))

    subject.model.module.base_model.register_forward_pre_hook(slow)
    client = threading.Thread(target=ask)
    client.start()
    assert serve(folder, **settings, unembedding=None, host="127.0.0.1", port=0, open_browser=False, say=told) == 0
    client.join(10)
    assert answers == [(503, "The server ends.")]
    assert len(passes) <= 5
    assert capsys.readouterr().err == ""


def test_connections_that_ask_nothing_do_not_count(folder):
    subject = subject_of()
    settings = {"sae": subject.sae, "model": subject.model, "inputs": subject.inputs, "targets": subject.targets}
    addresses, answers = [], []

    def ask():
        while not addresses:
            time.sleep(0.01)
        host, _, port = addresses[0].removeprefix("http://").partition(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(100)]
        try:
            answers.append(json.loads(answer_of(addresses[0], "/api/text", {"text": TEXT}))["text"])
        except urllib.error.HTTPError as error:
            answers.append(error.code)
        for one in idle:
            one.close()
        os.kill(os.getpid(), signal.SIGINT)

    def told(line):
        addresses.extend(re.findall(r"http://[^/]*", line))

    client = threading.Thread(target=ask)
    client.start()
    assert serve(folder, **settings, unembedding=None, host="127.0.0.1", port=0, open_browser=False, say=told) == 0
    client.join(10)
    assert answers == [TEXT]


CHILD = """
import sys
from pathlib import Path
from sae.dashboards.live.server import serve
from tests.dashboards.collect.texts import make_blocks
from tests.dashboards.live.subjects import subject_of

subject = subject_of()
print(serve(
    Path(sys.argv[1]), sae=subject.sae, model=subject.model, inputs=subject.inputs, targets=subject.targets, unembedding=None,
    host="127.0.0.1", port=0, open_browser=False, say=lambda text: print(text, flush=True),
))
"""


def answer_of(address, path, fields=None):
    """What a real server says to a real client."""
    data = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(address + path, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read().decode()


@pytest.mark.slow
def test_a_real_process_serves_until_ctrl_c(folder):
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        address = re.fullmatch(rf"Serving {folder} at (http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)\n", child.stdout.readline())
        assert address, child.communicate()
        assert json.loads(answer_of(address[1], "/api/hello"))["d_sae"] == 13
        assert "<title>page</title>" in answer_of(address[1], "/")
        page = json.loads(answer_of(address[1], "/api/text", {"text": TEXT}))
        expected = reader_of(subject_of()).page(TEXT)
        assert [token["latents"] for token in page["tokens"]] == [token["latents"] for token in expected["tokens"]]
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    assert (child.returncode, output, errors) == (0, "0\n", "")
