"""The folder that pages are written to: held by one process, with the codes that its pages were made from."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from filelock import FileLock, Timeout

from sae.commands.dashboard_plan import DashboardPlaces
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.plan import CollectPlan, read_plan
from sae.dashboards.pages.folder import Dashboard
from sae.errors import UserError
from sae.functional.files import PART, is_disk_full

__all__ = ["PagesFolder"]


@final
@dataclass(frozen=True, kw_only=True)
class PagesFolder:
    """A dashboard's folder and the codes that are to be in it.

    Attributes:
        places: folders.
        plan: of the codes.
    """

    places: DashboardPlaces
    plan: CollectPlan

    @property
    def out(self) -> Path:
        """The dashboard."""
        return self.places.out

    @cached_property
    def collected(self) -> Path:
        """Where the codes are written."""
        return self.places.collected(self.plan)

    def codes(self) -> CollectedCodes | None:
        """The codes, if they are complete."""
        try:
            return CollectedCodes(self.collected)
        except UserError:
            return None

    def is_built(self) -> bool:
        """Whether there are pages of these codes."""
        return self.collected == self.places.usual and self.codes() is not None and self.has_pages()

    def has_pages(self) -> bool:
        """Whether there are pages of this SAE, with whatever settings."""
        try:
            Dashboard(self.out)
            return read_plan(self.places.usual).sae_sha256 == self.plan.sae_sha256
        except UserError:
            return False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            UserError: one is there.
        """
        out = self.out.absolute()
        out.parent.mkdir(parents=True, exist_ok=True)
        path = out.parent / f".{out.name}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process is writing {self.out}: wait for it, or choose another place: out=") from None
        try:
            yield
        finally:
            if sys.platform != "win32":  # while it is held: who waits for it sees that its name is gone, and asks anew
                path.unlink(missing_ok=True)
            lock.release()

    def build(
        self,
        part: tuple[int, int],
        collect: Callable[[], CollectedCodes | None],
        write: Callable[[CollectedCodes], None],
    ) -> bool:
        """Collect codes and write their pages while no other process does; parts of the codes may be made at once.

        Args:
            part: of the codes, and how many parts there are.
            collect: makes it; None where other parts are yet to come.
            write: the pages.

        Returns:
            Whether there are pages now.

        Raises:
            UserError: another process is there, or the disk is full.
        """
        try:
            if part[1] > 1:
                codes = collect()
                if codes is None:
                    return False
                with self.hold():
                    write(codes)
            else:
                with self.hold():
                    codes = collect()
                    assert codes is not None
                    write(codes)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"The disk of {self.out} is full. Free some or choose another place with out=; what was read is kept, old "
                "pages stay, and the same command goes on."
            ) from error
        return True

    def settle(self) -> None:
        """The codes that the pages were made from take the place of those that were there before; halves of files go."""
        if self.collected != self.places.usual:
            shutil.rmtree(self.places.usual, ignore_errors=True)
            self.collected.rename(self.places.usual)
        for left in self.out.glob(".collected-*"):
            shutil.rmtree(left)
        for folder in (self.out, self.places.usual):
            for left in folder.glob(f".*{PART}"):  # of a process that was killed
                left.unlink(missing_ok=True)
