"""A dashboard's folder, written whole or not at all.

    index.html, app.js, app.css     the app, as it is shipped
    run.html, sweep.html            the run's page and the sweep's, where there are such
    data/                           manifest.js, index/N.js, latents/N.js, search/N.js, texts/N.js
    collected/                      the codes that the data was made from
    exports/                        the same data for other tools

Folders such as `data/` are filled aside and then renamed into their place, so that what was there before stays until the new is
complete. A process that dies between the two renames leaves the old one beside; the next that writes or reads puts it back.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from sae.dashboards.pages.shards import read_script, script
from sae.dashboards.schema import IndexShard, LatentShard, Manifest
from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["DATA", "Dashboard", "replaced", "write_pages"]

DATA = "data"


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the block ends, and vanishes if it raises.

    Raises:
        OSError: the disk is full or the place cannot be written.
    """
    aside, old = folder.with_name(f".{folder.name}.new"), _old(folder)
    _mend(folder)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _mend(folder: Path) -> None:
    """Put back what a process that died between two renames left beside."""
    if not folder.exists() and _old(folder).exists():
        _old(folder).rename(folder)


def write_pages(folder: Path, files: Iterable[tuple[str, Any]], *, beside: Mapping[str, bytes]) -> int:
    """Write the data files, and the app beside them.

    Args:
        folder: the dashboard's.
        files: keys and payloads, as in `sae.dashboards.schema`; made while they are written.
        beside: names and contents of the files at the top of the folder.

    Returns:
        Bytes of the data files.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old pages stay.
    """
    size = 0
    with replaced(folder / DATA) as aside:
        for key, payload in files:
            path = aside / f"{key}.js"
            path.parent.mkdir(parents=True, exist_ok=True)
            size += path.write_bytes(script(key, payload))
        for name, content in beside.items():
            write_whole(folder / name, content)
    return size


@final
class Dashboard:
    """A dashboard that was written, to be read again.

    Args:
        folder: of the dashboard.

    Attributes:
        manifest: what it is of.

    Raises:
        UserError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _mend(folder / DATA)
        self.manifest: Manifest = self._payload("manifest")

    def latent_shards(self) -> Iterator[LatentShard]:
        """Every file of latents' pages, in order."""
        for number in range(-(-self.manifest["num_latents"] // self.manifest["latents_size"])):
            yield self._payload(f"latents/{number}")

    def index_shards(self) -> Iterator[IndexShard]:
        """Every file of the index, in order."""
        for number in range(-(-self.manifest["num_latents"] // self.manifest["index_size"])):
            yield self._payload(f"index/{number}")

    def _payload(self, key: str) -> Any:
        path = self.folder / DATA / f"{key}.js"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path} is missing: {self.folder} holds no whole dashboard. Build it again.") from None
        found, payload = read_script(content)
        if found != key:
            raise UserError(f"{path} holds {found!r}, expected {key!r}: build the dashboard again")
        return payload
