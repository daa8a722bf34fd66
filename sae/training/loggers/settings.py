"""Which loggers a run has, from its configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sae.training.loggers.sink import MetricSink

__all__ = ["LoggerSettings"]


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """The `logger` group. JSON lines are written in any case.

    Attributes:
        names: any of `wandb` and `tensorboard`; empty for neither.
        mode: wandb: `auto` (online where an account is set up, else offline), `online` or `offline`.
        project: wandb: name of the project.
        entity: wandb: user or team; null takes the account's own.
        tags: wandb: labels.
        save_sae: wandb: upload the trained SAE as an artifact.
    """

    names: tuple[Literal["wandb", "tensorboard"], ...] = ()
    mode: Literal["auto", "online", "offline"] = "auto"
    project: str = "sae"
    entity: str | None = None
    tags: tuple[str, ...] = ()
    save_sae: bool = False

    def open(
        self, *, run_name: str, run_id: str, sae_name: str, folder: Path, config: dict[str, Any], resumed_at: int | None
    ) -> list[MetricSink]:
        """Open the loggers of one SAE.

        Args:
            run_name: the run's name.
            run_id: stable id of the run.
            sae_name: the SAE's name in the run.
            folder: the run's folder.
            config: the resolved configuration.
            resumed_at: tokens at which a resumed run goes on; null for a new run.
        """
        makers: dict[str, Callable[[], MetricSink]] = {
            "wandb": lambda: self._wandb(run_name, run_id, sae_name, folder, config),
            "tensorboard": lambda: _tensorboard(folder / "tensorboard" / sae_name, resumed_at),
        }
        return [makers[name]() for name in self.names]

    def _wandb(self, run_name: str, run_id: str, sae_name: str, folder: Path, config: dict[str, Any]) -> MetricSink:
        from sae.training.loggers.wandb import WeightsAndBiases  # noqa: PLC0415  wandb takes most of a second to import

        return WeightsAndBiases(
            folder=folder,
            project=self.project,
            run_id=f"{run_id}-{sae_name}",
            name=f"{run_name}/{sae_name}",
            group=run_name,
            entity=self.entity,
            tags=list(self.tags),
            mode=self.mode,
            save_sae=self.save_sae,
            config=config,
        )


def _tensorboard(folder: Path, resumed_at: int | None) -> MetricSink:
    from sae.training.loggers.tensorboard import TensorBoard  # noqa: PLC0415  imported only where it is asked for

    return TensorBoard(folder, resumed_at_tokens=resumed_at)
