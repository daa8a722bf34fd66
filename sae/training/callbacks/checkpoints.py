"""Checkpoints: whole files, taken between completed steps only, and the signals that ask for one."""

import re
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, final

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from sae.errors import UserError
from sae.functional.files import write_whole
from sae.functional.lazy_rows import up_to_date

__all__ = [
    "CheckpointEvery",
    "StopSignals",
    "WholeFileCheckpointIO",
    "checkpoint_path",
    "latest_checkpoint",
    "read_checkpoint",
    "remove_leftovers",
    "remove_oldest",
]

FILE_NAME = re.compile(r"tokens-(\d+)\.ckpt")


@final
class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint aside, flushes it and renames it: it is there whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            UserError: the disk is full or not writable; what was there before stays.
        """
        try:
            write_whole(Path(path), lambda aside: torch.save(checkpoint, aside))
        except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
            raise UserError(
                f"The checkpoint {path} could not be written ({error}). Earlier checkpoints are untouched. Free some disk "
                "space (checkpoint.keep=1 keeps fewer), then go on with resume=."
            ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had half written beside the checkpoints. Only who holds the run's folder may do this."""
    for path in folder.glob(".tokens-*.part"):
        path.unlink()


def checkpoint_path(folder: Path, tokens: int) -> Path:
    """The file of a checkpoint after so many rows; names sort by rows."""
    return folder / f"tokens-{tokens:015d}.ckpt"


def remove_oldest(folder: Path, *, keep: int) -> None:
    """Remove the oldest checkpoints beyond `keep`."""
    for old in sorted(other for other in folder.glob("*.ckpt") if FILE_NAME.fullmatch(other.name))[:-keep]:
        old.unlink()


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most tokens in a run's `checkpoints/` folder; null where there is none yet."""
    found = sorted(path for path in folder.glob("*.ckpt") if FILE_NAME.fullmatch(path.name))
    return found[-1] if found else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint and check that no byte of it is damaged.

    Raises:
        UserError: the file is truncated, damaged, or no checkpoint.
    """
    earlier = [other.name for other in sorted(path.parent.glob("*.ckpt")) if other != path]
    remedy = (
        f" Earlier ones are still there: {', '.join(earlier)}; delete this one to go on from the latest." if earlier else ""
    )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # every record carries a checksum
        if damaged is not None:
            raise UserError(f"The checkpoint {path} is damaged (record {damaged} does not match its checksum).{remedy}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"The checkpoint {path} is truncated or not a checkpoint ({type(error).__name__}).{remedy}") from error
    if "run" not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"{path} is a torch file but not a checkpoint of this framework.{remedy}")
    return checkpoint


@final
class StopSignals:
    """Turns SIGTERM and Ctrl-C into a flag that is looked at between steps.

    A second Ctrl-C stops at once. Outside the main thread nothing is installed, since Python does not allow it.

    Attributes:
        received: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._interruptions: list[Callable[[], None]] = []
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over both signals (again, if someone else did meanwhile)."""
        for one in (signal.SIGTERM, signal.SIGINT):
            try:
                before = signal.signal(one, self._note)
            except ValueError:  # not in the main thread
                return
            self._before.setdefault(one, before)

    def interrupts(self, wait: Callable[[], None]) -> None:
        """Also call `wait` when a signal comes (at once, if one has come): it must end a wait, and be safe in a handler."""
        self._interruptions.append(wait)
        if self.received is not None:
            wait()

    def restore(self) -> None:
        """Give both signals back to their former handlers."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, 0 if none came."""
        return 0 if self.received is None else 128 + int(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)
        for wait in self._interruptions:
            wait()


@final
class CheckpointEvery(L.Callback):
    """Saves the run every so many tokens, at its end, and when a signal asks to stop; always after a completed step."""

    def __init__(
        self,
        folder: Path,
        *,
        every_tokens: int,
        keep: int,
        batch_tokens: int,
        signals: StopSignals,
        extra: Callable[[], dict[str, Any]],
    ) -> None:
        """Set up.

        Args:
            folder: where `tokens-N.ckpt` files go.
            every_tokens: rows between two checkpoints.
            keep: how many of the latest stay.
            batch_tokens: rows a step.
            signals: looked at after each step.
            extra: what the run adds under the key `run` (configuration, place in the metrics file).
        """
        self.folder, self.every_tokens, self.keep = folder, every_tokens, keep
        self.batch_tokens, self.signals, self.extra = batch_tokens, signals, extra

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has installed its own handlers by now; ours go over them."""
        self.signals.install()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to, or if a signal came; then stop in the latter case."""
        tokens = trainer.global_step * self.batch_tokens
        due = tokens // self.every_tokens > (tokens - self.batch_tokens) // self.every_tokens
        stopping = self.signals.received is not None
        if due or stopping or trainer.global_step == trainer.max_steps:
            self.save(trainer)
        if stopping:
            trainer.should_stop = True

    def stop_between_steps(self, trainer: L.Trainer) -> None:
        """Save and stop while no step is under way: a signal came while one was waiting for its rows."""
        self.save(trainer)
        trainer.should_stop = True

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the run's own part."""
        checkpoint["run"] = self.extra()

    def save(self, trainer: L.Trainer) -> Path:
        """Write the checkpoint of this step and remove the oldest beyond `keep`.

        Raises:
            UserError: a weight is not finite, or the file cannot be written; earlier checkpoints stay then.
        """
        _refuse_broken_weights(trainer)
        path = checkpoint_path(self.folder, trainer.global_step * self.batch_tokens)
        trainer.save_checkpoint(path, weights_only=False)
        remove_oldest(self.folder, keep=self.keep)
        return path


def _refuse_broken_weights(trainer: L.Trainer) -> None:
    broken = [
        name
        for name, parameter in trainer.lightning_module.named_parameters()
        if not bool(torch.isfinite(up_to_date(parameter)).all())
    ]
    if broken:
        raise UserError(
            f"Step {trainer.global_step} left values that are not finite in {', '.join(broken)}. No checkpoint of it is "
            "written and earlier ones stay. Lower sae.lr or set sae.clip_norm=1."
        )
