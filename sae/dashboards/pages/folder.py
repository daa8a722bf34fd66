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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from sae.dashboards.pages.shards import read_script, script
from sae.dashboards.schema import IndexShard, LatentShard, Manifest
from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["DATA", "Dashboard", "Pages", "new_pages", "replaced"]

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


@final
class Pages:
    """Data files that are being written.

    Args:
        folder: where to.

    Attributes:
        size: bytes written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.size = 0

    def put(self, key: str, payload: Any) -> None:
        """Write a file, or write it anew.

        Args:
            key: as in `sae.dashboards.pages.shards.script`.
            payload: of one of the shapes in `sae.dashboards.schema`.

        Raises:
            OSError: the disk is full.
        """
        path = self._folder / f"{key}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_size if path.exists() else 0
        self.size += path.write_bytes(script(key, payload)) - before

    def get(self, key: str) -> Any:
        """The payload of a file.

        Args:
            key: of the file.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = self._folder / f"{key}.js"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path} is missing: the dashboard is not whole. Build it again.") from None
        found, payload = read_script(content)
        if found != key:
            raise UserError(f"{path} holds {found!r}, expected {key!r}: build the dashboard again")
        return payload


@contextmanager
def new_pages(folder: Path, *, beside: Mapping[str, bytes]) -> Iterator[Pages]:
    """Data files to be written, which take the place of the old ones when the block ends; the old ones stay if it raises.

    Args:
        folder: the dashboard's.
        beside: names and contents of the files at the top of the folder, written when the data is complete.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    with replaced(folder / DATA) as aside:
        yield Pages(aside)
        for name, content in beside.items():
            write_whole(folder / name, content)


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
        _mend(folder / DATA)
        self._pages = Pages(folder / DATA)
        self.manifest: Manifest = self._pages.get("manifest")

    def latent_shards(self) -> Iterator[LatentShard]:
        """Every file of latents' pages, in order."""
        for number in range(-(-self.manifest["num_latents"] // self.manifest["latents_size"])):
            yield self._pages.get(f"latents/{number}")

    def index_shards(self) -> Iterator[IndexShard]:
        """Every file of the index, in order."""
        for number in range(-(-self.manifest["num_latents"] // self.manifest["index_size"])):
            yield self._pages.get(f"index/{number}")
