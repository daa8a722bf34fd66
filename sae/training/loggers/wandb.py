"""Metrics for Weights & Biases: online with an account, offline without one, and never a prompt."""

import netrc
import os
from pathlib import Path
from typing import Any, Literal, final

import wandb

__all__ = ["WeightsAndBiases", "has_account"]


def has_account() -> bool:
    """Whether an API key is set up: in the environment, or by an earlier `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@final
class WeightsAndBiases:
    """One wandb run for one SAE; several may be open in one process. The x-axis is tokens.

    A resumed run keeps its id. Online, wandb goes on with the same run and later points replace earlier ones of the same
    tokens only where the x-axis has advanced; offline, each session is a segment with the same id, which `wandb sync` joins.
    """

    def __init__(
        self,
        *,
        folder: Path,
        project: str,
        run_id: str,
        name: str,
        group: str | None,
        entity: str | None,
        tags: list[str],
        mode: Literal["auto", "online", "offline"],
        save_sae: bool,
        config: dict[str, Any],
    ) -> None:
        """Open the run.

        Args:
            folder: where wandb keeps its files.
            project: name of the project.
            run_id: stable across resumes.
            name: the run's display name.
            group: joins the SAEs of one training run.
            entity: user or team; null takes the account's default.
            tags: labels.
            mode: `auto` is online where an account is set up, offline elsewhere. The environment's WANDB_MODE wins over it.
            save_sae: upload the SAE as an artifact at the end.
            config: the resolved configuration.
        """
        chosen = os.environ.get("WANDB_MODE") or mode
        if chosen == "auto":
            chosen = "online" if has_account() else "offline"
        folder.mkdir(parents=True, exist_ok=True)
        self.mode = chosen
        self._save_sae = save_sae
        self._run = wandb.init(
            project=project,
            entity=entity,
            id=run_id,
            name=name,
            group=group,
            tags=tags,
            dir=folder,
            mode=chosen,  # pyright: ignore[reportArgumentType]
            resume="allow" if chosen == "online" else None,  # wandb offline knows no resume: a second segment, same id
            reinit="create_new",
            config=config,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=30),
        )
        for split in ("train", "held_out", "timing"):
            self._run.define_metric(f"{split}/*", step_metric="tokens")

    def log(self, row: dict[str, float], *, split: str, tokens: int) -> None:
        """Log scalars as `split/name`."""
        self._run.log({"tokens": tokens, **{f"{split}/{key}": value for key, value in row.items()}})

    def log_histogram(self, name: str, *, edges: list[float], counts: list[int], tokens: int) -> None:
        """Log a histogram from its counts."""
        self._run.log({"tokens": tokens, name: wandb.Histogram(np_histogram=(counts, edges))})  # pyright: ignore[reportArgumentType]

    def finish(self, *, report: dict[str, object], folder: str) -> None:
        """Write the report into the run's summary, and upload the SAE if asked to."""
        self._run.summary.update({key: value for key, value in report.items() if value is not None})
        if self._save_sae:
            artifact = wandb.Artifact(name=f"sae-{self._run.id}", type="sae")
            artifact.add_dir(folder)
            self._run.log_artifact(artifact)

    def close(self) -> None:
        """Let wandb write or send the rest."""
        self._run.finish()
