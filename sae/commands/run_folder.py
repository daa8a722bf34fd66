"""A run's folder: its name, whether it may be written, what is in it."""

import json
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any, final

import yaml
from filelock import FileLock, Timeout

from sae.commands.places import check_can_be_made
from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["RunFolder", "read_run_config"]

CONFIG, IDENTITY = "config.yaml", "run.json"


@final
class RunFolder:
    """`runs/NAME/`, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.parent / f".{path.name}.lock")

    def open(self, config: dict[str, Any], *, if_exists: str) -> bool:
        """Take the folder, and write the configuration into it if it is new.

        Args:
            config: the resolved configuration.
            if_exists: `error`, `resume` or `overwrite`.

        Returns:
            Whether there is a run to go on with.

        Raises:
            UserError: the folder exists and may not be used, or another process holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is writing {self.path}: wait for it, or choose another name with run.name="
            ) from None
        if if_exists == "resume" and (self.path / CONFIG).exists():
            return True
        self.refuse_if_taken(if_exists)
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / IDENTITY, json.dumps({"id": secrets.token_hex(4)}))
        self.write_config(config)
        return False

    def refuse_if_taken(self, if_exists: str) -> None:
        """Refuse a folder that cannot be made, or has something in it, unless it is a run's and may be overwritten.

        Raises:
            UserError: with the ways on.
        """
        check_can_be_made(self.path, remedy="run.folder=FOLDER")
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not (self.path / CONFIG).exists():
            raise UserError(
                f"{self.path} exists and is no run's folder (no {CONFIG} in it). Choose another name: run.name=NAME"
            )
        if if_exists == "error":
            raise UserError(
                f"{self.path} exists already. Go on with it: resume={self.path}. Start anew in its place: "
                "run.if_exists=overwrite. Or choose another name: run.name=NAME"
            )

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the resolved configuration; a folder with one is a run's."""
        write_whole(self.path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    @property
    def id(self) -> str:
        """The run's id, stable across resumes."""
        return json.loads((self.path / IDENTITY).read_text())["id"]

    def close(self) -> None:
        """Let other processes in, if this one holds the folder."""
        if self._lock.is_locked:
            if sys.platform != "win32":  # while it is held: who waits for it sees that its name is gone, and asks anew
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()


def read_run_config(folder: Path, *, node: str = "train") -> dict[str, Any]:
    """The resolved configuration of a run.

    Args:
        folder: of the run.
        node: that runs of the asking command have: `train`, or `factors`.

    Raises:
        UserError: the folder is no run's, or one of another command.
    """
    path = folder / CONFIG
    if not path.is_file():
        near = sorted(other.parent.name for other in folder.parent.glob(f"*/{CONFIG}")) if folder.parent.is_dir() else []
        raise UserError(
            f"{folder} is no run's folder: there is no {CONFIG} in it."
            + (f" Runs beside it: {', '.join(near)}" if near else " Name it as runs/NAME.")
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or not any(isinstance(config.get(one), dict) for one in ("train", "factors")):
        raise UserError(f"{path} is damaged: expected the settings of a run, as the run wrote them")
    if not isinstance(config.get(node), dict):
        other = "train" if node == "factors" else "factors"
        raise UserError(f"{folder} is a run of scripts/{other}.py: go on with it by that command")
    return config
