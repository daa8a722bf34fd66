"""Lightning's loop, set up for a run: steps in one endless epoch, whole-file checkpoints, and none of its own output."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, final

import lightning as L
import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sae.functional.float32_products import rounded_products
from sae.models.device import resolve_device
from sae.training.callbacks.checkpoints import StopSignals, WholeFileCheckpointIO
from sae.training.datamodule import ActivationsDataModule
from sae.training.module import SAEModule

__all__ = ["RoundedSteps", "fit"]


@final
class RoundedSteps(Precision):
    """float32 with rounded products (TF32) in training steps, and nowhere else: not while rows are harvested or evaluated."""

    @contextmanager
    def train_step_context(self) -> Iterator[None]:
        """Around each whole step: Lightning is told to leave backward pass and update to it."""
        with rounded_products():
            yield


def fit(
    module: SAEModule,
    datamodule: ActivationsDataModule,
    *,
    callbacks: Sequence[L.Callback],
    device: Literal["auto", "cpu", "cuda", "mps"],
    precision: Literal["32", "tf32", "bf16"],
    steps: int,
    checkpoint: Path | None,
    signals: StopSignals,
) -> int:
    """Train until the last step or a signal.

    Args:
        module: what is trained.
        datamodule: its rows.
        callbacks: metrics, checkpoints and the like, called in this order.
        device: where.
        precision: of the step; see `TrainerSettings`.
        steps: steps in all, those of former sessions included.
        checkpoint: go on from this one.
        signals: what asked to stop, if something did.

    Returns:
        Steps completed in all.

    Raises:
        KeyboardInterrupt: a second Ctrl-C came.
        UserError: as the parts raise it.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # A loader of our own has no workers to advise on; the other comes from Lightning's own use of torch.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = L.Trainer(
            accelerator=resolve_device(device).type,  # Lightning's own "auto" would take MPS
            devices=1,
            precision={"32": "32-true", "tf32": None, "bf16": "bf16-mixed"}[precision],
            max_steps=steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            plugins=[WholeFileCheckpointIO(), *([RoundedSteps()] if precision == "tf32" else [])],
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        path = None if checkpoint is None else str(checkpoint)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
        except SIGTERMException:  # the signal came before our handler stood in front of Lightning's; the run is saved by now
            if signals.received is None:
                raise
        except SystemExit as end:  # what Lightning makes of a KeyboardInterrupt
            raise KeyboardInterrupt from end
        finally:
            torch.set_float32_matmul_precision(before)
    return trainer.global_step
