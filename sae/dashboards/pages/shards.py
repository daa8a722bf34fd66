"""Data files of a dashboard: ASCII scripts of one call, which a browser may load from disk; equal to the byte when made again.

`dashboard.put("KEY", PAYLOAD);` where PAYLOAD is JSON, or for the kinds in `PACKED` a string: base64 of gzip of JSON. Text of
documents stands in JSON strings with every character beyond ASCII escaped, and with `<` escaped too, so that a file that is
written into a page between `<script>` tags cannot close them.
"""

import base64
import json
import sys
import zlib
from typing import Any, Literal

import numpy as np

from sae.dashboards.schema import Column
from sae.errors import UserError

__all__ = ["PACKED", "column", "column_values", "read_script", "script"]

PACKED = ("latents", "search", "factors", "words", "paths")
"""Kinds of files (the part of a key before its slash) that are compressed: the large ones, loaded when they are needed."""

NUMPY_TYPES: dict[Literal["f32", "i32", "u8"], str] = {"f32": "<f4", "i32": "<i4", "u8": "|u1"}
CALL, END = 'dashboard.put("', ");\n"
GZIP = 16 + zlib.MAX_WBITS  # zlib's way of asking for a gzip header, which then holds no time


def script(key: str, payload: Any) -> bytes:
    """The content of a data file.

    Args:
        key: `manifest`, or a kind and a number, as in `latents/3`.
        payload: of one of the shapes in `sae.dashboards.schema`.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    text = _json(payload)
    if key.partition("/")[0] in PACKED:
        text = _json(base64.b64encode(zlib.compress(text.encode("ascii"), 6, GZIP)).decode("ascii"))
    return f'{CALL}{key}",{text}{END}'.encode("ascii")


def read_script(content: bytes) -> tuple[str, Any]:
    """Key and payload of a data file.

    Raises:
        UserError: it is none, or is damaged.
    """
    try:
        text = content.decode("ascii")
        key, separator, rest = text.removeprefix(CALL).partition('",')
        if not text.startswith(CALL) or not separator or not rest.endswith(END):
            raise ValueError("it is no call of dashboard.put")
        payload = json.loads(rest.removesuffix(END))
        if key.partition("/")[0] in PACKED:
            payload = json.loads(zlib.decompress(base64.b64decode(payload, validate=True), GZIP))
    except (ValueError, TypeError, zlib.error) as error:
        raise UserError(f"a data file of the dashboard is damaged ({error}): build the dashboard again") from None
    return key, payload


def column(values: np.ndarray) -> Column:
    """A column of numbers; booleans and bytes as u8, whole numbers as i32, others as f32.

    Args:
        values: of the latents of a shard, in order [latents].

    Raises:
        ValueError: a whole number does not fit 32 bits.
    """
    if values.dtype.kind == "f":
        kind = "f32"
    elif values.dtype in (np.bool_, np.uint8):
        kind = "u8"
    else:
        kind = "i32"
        if values.size and (values.max() > np.iinfo(np.int32).max or values.min() < np.iinfo(np.int32).min):
            raise ValueError("a column holds a whole number beyond 32 bits")
    data = np.ascontiguousarray(values.astype(NUMPY_TYPES[kind])).tobytes()
    return {"type": kind, "data": base64.b64encode(data).decode("ascii")}


def column_values(written: Column) -> np.ndarray:
    """The numbers of a column, in this machine's byte order."""
    values = np.frombuffer(base64.b64decode(written["data"]), dtype=NUMPY_TYPES[written["type"]])
    return values if sys.byteorder == "little" else values.astype(values.dtype.newbyteorder("="))


def _json(value: Any) -> str:
    # `<` occurs in strings alone.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
