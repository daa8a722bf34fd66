"""What can be known to go wrong before the text is read, which may take long: the place, the prompts, the server's address."""

from collections.abc import Sequence
from pathlib import Path

from sae.architectures.base import SparseAutoencoder
from sae.commands.origin import Origin
from sae.commands.places import check_can_be_made
from sae.dashboards.collect.plan import MANIFEST
from sae.dashboards.live.reader import COLLECTED
from sae.dashboards.live.subject import Subject
from sae.dashboards.live.text_page import TextReader
from sae.dashboards.pages.folder import DATA
from sae.errors import UserError

__all__ = ["check_address", "check_place", "check_texts"]

OUR_FOLDERS = {DATA: "manifest.js", COLLECTED: MANIFEST}
"""Folders in a dashboard's, and the file that says that they are its own."""


def check_place(out: Path) -> None:
    """Refuse a folder of something else, and one that cannot be made.

    Args:
        out: where a dashboard shall be written.

    Raises:
        UserError: with the way on.
    """
    check_can_be_made(out, remedy="out=FOLDER")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    named = out.is_dir() and any((out / name).is_dir() for name in OUR_FOLDERS)
    if (out / DATA / OUR_FOLDERS[DATA]).exists() and _is_foreign(out / COLLECTED, MANIFEST):
        raise UserError(
            f"{out / COLLECTED / MANIFEST} is missing, by which the collected text of this dashboard is known: put it back, or "
            f"delete the folder {out / COLLECTED}, and the text is read again."
        )
    ours = named or any(out.glob(".collected-*"))
    if not ours or any(_is_foreign(out / name, manifest) for name, manifest in OUR_FOLDERS.items()):
        raise UserError(f"{out} exists and is no dashboard's folder: choose another place with out=")


def _is_foreign(folder: Path, manifest: str) -> bool:
    """Whether a folder that has a name of ours holds something else, which it would lose."""
    if not folder.is_dir() or (folder / manifest).exists():
        return False
    return any(not path.name.startswith(".") for path in folder.iterdir())  # with a dot: ours, not finished


def check_texts(texts: Sequence[str], origin: Origin, sae: SparseAutoencoder) -> None:
    """Refuse prompts that can have no page.

    Args:
        texts: the prompts.
        origin: model and hook points.
        sae: the SAE.

    Raises:
        UserError: some are too long, or have no token; each is named.
    """
    if not texts:
        return
    subject = Subject(model=origin.model, sae=sae, inputs=tuple(origin.inputs), targets=tuple(origin.targets))
    reader = TextReader(subject, texts_of=lambda ids: [str(token) for token in ids])
    mistakes = []
    for number, text in enumerate(texts):
        try:
            reader.blocks(text)
        except UserError as error:
            mistakes.append(f"dashboard.texts[{number}]: {error}")
    if mistakes:
        raise UserError("\n".join(mistakes))


def check_address(host: str, port: int) -> None:
    """Refuse an address that a server cannot listen on now.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        UserError: the address is none, or is in use.
    """
    from sae.dashboards.live.server import listen

    listen(host, port).close()
