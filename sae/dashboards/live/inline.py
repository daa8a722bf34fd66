"""A page of the dashboard inside a notebook's cell: the same app, with the data of that page alone.

The cell holds a frame of its own origin, in which nothing runs but the app and the call that shows the page (by their hashes),
and which asks nothing of the network.
"""

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from sae.dashboards.pages.folder import DATA
from sae.dashboards.pages.shards import read_script
from sae.dashboards.schema import LatentRecord, LatentShard, Manifest, TextPage
from sae.errors import UserError

__all__ = ["InlineView", "find_dashboard", "latent_view", "one_latent", "read_manifest", "text_view"]

PLACES = ("dashboard", "dashboards/*")
"""Where, in a run's folder, dashboards stand."""


@final
class InlineView:
    """A page to be shown in a notebook: the last value of a cell, or given to `display`.

    Args:
        caption: what is shown and where it was read.
        document: the page, a whole HTML document that needs nothing else.
        height: of the frame, in pixels of the page; it can be dragged larger.
    """

    def __init__(self, *, caption: str, document: str, height: int) -> None:
        self.caption, self.document, self.height = caption, document, height

    def __repr__(self) -> str:
        return f"<{self.caption}: shown where notebooks show HTML>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{html.escape(self.caption)}" sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: {self.height}px; border: 0; resize: vertical" '
            f'srcdoc="{html.escape(self.document)}"></iframe>\n<div><small>{html.escape(self.caption)}</small></div>'
        )


def find_dashboard(path: Path | None, *, runs: Path) -> Path:
    """The folder of a dashboard.

    Args:
        path: of a dashboard, or of a run or an SAE that has one; None: the dashboard that was written last in any of the runs.
        runs: the folder of all runs.

    Raises:
        UserError: there is none, or the run has several.
    """
    if path is None:
        found = [folder for place in PLACES for folder in _dashboards(runs, f"*/{place}")]
        if not found:
            raise UserError(
                f"There is no dashboard in {runs}: build one with `python scripts/dashboard.py from=runs/NAME`, or say where "
                'it is, as in dashboard="PATH".'
            )
        return max(found, key=lambda folder: (_manifest(folder).stat().st_mtime_ns, folder.name))
    if _manifest(path).is_file():
        return path
    found = [folder for place in PLACES for folder in _dashboards(path, place)]
    if len(found) > 1:
        raise UserError(f"{path} has several dashboards, choose one of {', '.join(map(str, found))}")
    if not found:
        raise UserError(f"{path} holds no dashboard: build it with `python scripts/dashboard.py from={path}`.")
    return found[0]


def read_manifest(folder: Path) -> Manifest:
    """What a dashboard is of.

    Raises:
        UserError: the file is absent or damaged.
    """
    return _payload(folder, "manifest")


def latent_view(folder: Path, latent: int, *, height: int, look: str) -> InlineView:
    """The page of a latent.

    Args:
        folder: of the dashboard.
        latent: its number.
        height: of the frame, in pixels.
        look: light, dark, or as the browser's system has it.

    Raises:
        UserError: there is no such latent, or a file is absent or damaged.
    """
    manifest = read_manifest(folder)
    if not 0 <= latent < manifest["num_latents"]:
        raise UserError(f"There is no latent {latent}: {folder} has {manifest['num_latents']}, numbered from 0.")
    shard: LatentShard = _payload(folder, f"latents/{latent // manifest['latents_size']}")
    options = {
        "view": "latent",
        "latent": latent,
        "data": _packed(one_latent(shard, latent)),
        "manifest": manifest,
        "look": look,
    }
    return InlineView(caption=f"Latent {latent} of {folder}", document=_document(options), height=height)


def text_view(page: TextPage, folder: Path, *, height: int, look: str) -> InlineView:
    """The page of a text.

    Args:
        page: of the text.
        folder: of the dashboard that its quantiles are from.
        height: of the frame, in pixels.
        look: light, dark, or as the browser's system has it.

    Raises:
        UserError: a file of the dashboard is absent or damaged.
    """
    options = {"view": "text", "data": _packed(page), "manifest": read_manifest(folder), "look": look}
    return InlineView(caption=f"A text and the latents of {folder}", document=_document(options), height=height)


def one_latent(shard: LatentShard, latent: int) -> LatentShard:
    """The shard with one latent alone, and with those strings alone that its page shows.

    Args:
        shard: that the latent is in; it stays as it is.
        latent: its number.

    Raises:
        UserError: the latent is missing.
    """
    found = [record for record in shard["latents"] if record["latent"] == latent]
    if not found:
        raise UserError(f"Latent {latent} is missing from its file: build the dashboard again.")
    record: LatentRecord = json.loads(json.dumps(found[0]))
    places: dict[int, int] = {}
    for holder, key in _tokens(record):
        holder[key] = places.setdefault(holder[key], len(places))
    return {"first": latent, "strings": [shard["strings"][place] for place in places], "latents": [record]}


def _tokens(record: LatentRecord) -> Iterator[tuple[Any, Any]]:
    """Every place in a record that holds the place of a string: the list or object, and the index or key."""
    for entry in record["tokens"]:
        yield entry, "token"
    if record["logits"] is not None:
        for pair in (*record["logits"]["raised"], *record["logits"]["lowered"]):
            yield pair, 0
    for group in record["groups"]:
        for example in group["examples"]:
            yield from ((example["tokens"], number) for number in range(len(example["tokens"])))


def _manifest(folder: Path) -> Path:
    return folder / DATA / "manifest.js"


def _dashboards(above: Path, pattern: str) -> list[Path]:
    return [folder for folder in sorted(above.glob(pattern)) if _manifest(folder).is_file()]


def _payload(folder: Path, key: str) -> Any:
    path = folder / DATA / f"{key}.js"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {folder} holds no whole dashboard. Build it again.") from None
    return read_script(content)[1]


def _packed(value: Any) -> str:
    """Base64 of gzip of JSON, as the app unpacks it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")


def _document(options: dict[str, Any]) -> str:
    built = files("sae.dashboards") / "app" / "built"
    app, style = ((built / name).read_text(encoding="utf-8") for name in ("app.js", "app.css"))
    app = app.replace("</script", "<\\/script")  # within strings, where it means the same
    arguments = json.dumps(options, allow_nan=False).replace("<", "\\u003c")
    call = f'void dashboard.mount(document.getElementById("view"), {arguments});'
    scripts = " ".join(_hash(script) for script in (app, call))
    policy = f"default-src 'none'; script-src {scripts}; style-src {_hash(style)}; img-src data: blob:; base-uri 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>Dashboard</title>\n<style>{style}</style>\n</head>\n<body>\n<div id="view"></div>\n'
        f"<script>{app}</script>\n<script>{call}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
