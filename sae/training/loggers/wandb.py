"""Metrics for Weights & Biases: online with an account, offline without one, and never a prompt."""

import netrc
import os
from pathlib import Path
from typing import Any, Literal, final
from urllib.parse import urlsplit

import wandb

from sae.errors import UserError

__all__ = ["WeightsAndBiases", "has_account"]


# Names of one and the same cloud: `wandb login` of older and newer versions writes the key under one or the other.
CLOUD_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


def has_account() -> bool:
    """Whether credentials are set up: in the environment, or by an earlier `wandb login` to the server in use."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(wandb.setup().settings.base_url).netloc
    given = os.environ.get("NETRC")
    files = [Path(given).expanduser()] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return any(_has_entry(file, name) for file in files for name in {host, *(CLOUD_HOSTS if host in CLOUD_HOSTS else ())})


def _has_entry(file: Path, host: str) -> bool:
    try:
        return netrc.netrc(file).authenticators(host) is not None
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

        Raises:
            UserError: online was asked for without an account, or the server cannot be reached.
        """
        chosen = os.environ.get("WANDB_MODE") or mode
        if chosen == "auto":
            chosen = "online" if has_account() else "offline"
        elif chosen == "online" and not has_account():  # wandb would ask for a key where there is a terminal
            raise UserError(
                "logger.mode=online needs an account: run `wandb login` or set WANDB_API_KEY first. Without one: "
                "logger.mode=offline, or logger=tensorboard."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.mode = chosen
        self._save_sae = save_sae
        try:
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
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases could not be opened ({error}). logger.mode=offline keeps everything in {folder} for `wandb "
                "sync`; logger=tensorboard or logger=none do without it."
            ) from error
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
