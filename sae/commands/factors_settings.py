"""A dictionary over several layers as configured: each node bound to its constructor, every mistake reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.commands.binding import bound, make
from sae.commands.dashboard_checks import check_address, check_place
from sae.commands.factors_node import FactorsNode, PagesNode
from sae.commands.nodes import RunNode
from sae.commands.run_name import default_name
from sae.commands.show_node import ShowNode, read_show
from sae.commands.source_config import SourceConfig, read_source_config
from sae.errors import UserError
from sae.training.run import CheckpointSettings

__all__ = ["AMORTISED", "ARCHITECTURE", "FactorsConfig", "read_factors_config", "read_pages_node"]

ARCHITECTURE = "sparse_coding"  # also the name of the dictionary in its run's folder
AMORTISED = "amortised"  # of the encoder trained to its codes


@dataclass(frozen=True, kw_only=True)
class FactorsConfig:
    """Everything that `scripts/factors.py` needs to fit a dictionary, checked.

    Attributes:
        tree: the resolved configuration as plain dicts, for files.
    """

    origin: SourceConfig
    factors: FactorsNode
    pages: PagesNode
    run: RunNode
    checkpoint: CheckpointSettings
    show: ShowNode
    tree: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        name = self.run.name or default_name(self.tree, self.origin.places, ARCHITECTURE, str(self.factors.d_sae))
        return Path(self.run.folder).expanduser() / name

    @property
    def every_tokens(self) -> int:
        """Rows between two checkpoints."""
        return self.checkpoint.every_tokens or max(self.factors.batch_tokens, self.factors.tokens // 5)


def read_factors_config(tree: dict[str, Any]) -> FactorsConfig:
    """Check and bind a whole configuration, in a few seconds and before a model is loaded.

    Raises:
        UserError: every mistake, one on a line.
    """
    problems: list[str] = []
    origin = read_source_config(tree, problems, architecture=ARCHITECTURE)
    if isinstance(tree["hook"], Mapping) and tree["hook"].get("mix") is False:
        problems.append(
            "hook.mix=false: factors are of a dictionary over several layers. Leave it true; scripts/train.py is for one layer"
        )
    factors = bound("factors", tree["factors"], FactorsNode, problems)
    pages = read_pages_node(tree, problems)
    run = bound("run", tree["run"], RunNode, problems)
    checkpoint = bound("checkpoint", tree["checkpoint"], CheckpointSettings, problems)
    show = read_show(tree, problems)
    if pages is not None and pages.part[1] > 1 and tree["from"] is None:
        problems.append(f"pages.shard={pages.shard} is for the codes of a dictionary that is there: name it by from=runs/NAME")
    if factors is not None and pages is not None:
        problems += pages.misfits(factors.d_sae)
    if factors is not None:
        for maker in (factors.make_update, factors.make_coding):
            mistakes: list[str] = []
            make(maker, mistakes)
            problems += [f"factors: {mistake}" for mistake in mistakes]
        if origin is not None and factors.frequency_weights and not origin.source.finite:
            problems.append(
                "factors.frequency_weights=true counts the tokens of the text, and this one is an endless stream: set it to "
                "false, or data.streaming=false"
            )
    if show is not None and show.out is not None:
        out = Path(show.out).expanduser()
        make(lambda: check_place(out), problems)
    if show is not None and show.serve and not show.dry_run:
        make(lambda: check_address(show.host, show.port), problems)
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    assert origin is not None
    assert factors is not None
    assert show is not None
    assert pages is not None
    return FactorsConfig(origin=origin, factors=factors, pages=pages, run=run, checkpoint=checkpoint, show=show, tree=tree)


def read_pages_node(tree: Mapping[str, Any], problems: list[str]) -> PagesNode | None:
    """What pages show; sentences are added for all that is wrong with it."""
    return bound("pages", tree["pages"], PagesNode, problems)
