"""Data files: ASCII scripts of one call, equal to the byte when made again, that run nothing whatever the text."""

import base64
import gzip
import json
import re
import time

import numpy as np
import pytest

from sae.dashboards.pages.shards import column, column_values, read_script, script
from sae.errors import UserError

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"'`\\${x}\n\r\t\0",
    "\u2028\u2029\u200b\u200d\ufeff\u202eabc\u2066",
    "🙂\udfff\ud800 \udc00",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("key", ["manifest", "texts/0", "latents/17", "search/2", "factors/0"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_comes_back_and_the_file_is_one_call_of_plain_ascii(key, text):
    payload = {"strings": [{"id": 1, "text": text}], text[:50]: 0.1}
    content = script(key, payload)
    assert read_script(content) == (key, payload)
    assert content.isascii()
    assert b"<" not in content  # neither a closing tag nor a comment, should it ever stand in a page
    call = re.fullmatch(rb'dashboard\.put\("([a-z]+(?:/\d+)?)",(.*)\);\n', content)
    assert call  # one line: no dot matches a line's end
    json.loads(call[2])


@pytest.mark.parametrize("kind", ["latents", "search", "factors", "words", "paths"])
def test_large_kinds_are_base64_of_gzip_of_json(kind):
    content = script(f"{kind}/3", {"first": 96})
    packed = json.loads(content.removeprefix(f'dashboard.put("{kind}/3",'.encode()).removesuffix(b");\n"))
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == {"first": 96}


def test_the_same_payload_gives_the_same_bytes_at_another_time(monkeypatch):
    once = script("latents/0", {"latents": [1, 2]})
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert script("latents/0", {"latents": [1, 2]}) == once


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_hold_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        script("manifest", {"rows": value})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0.5, np.nan, -1e30]), "f32"),
        (np.array([1, -2, 2**31 - 1]), "i32"),
        (np.array([0, 200], dtype=np.uint8), "u8"),
        (np.array([True, False]), "u8"),
        (np.array([], dtype=np.float32), "f32"),
    ],
)
def test_a_column_comes_back(values, kind):
    written = column(values)
    assert written["type"] == kind
    np.testing.assert_array_equal(column_values(written), values.astype(np.float32) if kind == "f32" else values)


def test_a_column_is_little_endian():
    assert base64.b64decode(column(np.array([1], dtype=">i4"))["data"]) == b"\x01\0\0\0"


def test_a_column_of_whole_numbers_beyond_32_bits_is_refused():
    with pytest.raises(ValueError, match="32 bits"):
        column(np.array([2**31]))


@pytest.mark.parametrize("damage", [lambda c: c[:-4], lambda c: b"x" + c, lambda c: c.replace(b"H4", b"H5"), lambda c: b"\xff"])
def test_a_damaged_file_is_told(damage):
    with pytest.raises(UserError, match="damaged"):
        read_script(damage(script("latents/0", {"first": 0})))
