"""A configured model, or two, with the places in them that are read: one, several side by side, or layers mixed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sae.activations.harvest import Harvester
from sae.activations.joined import JoinedRows
from sae.activations.mixed import MIXED, one_width
from sae.activations.row_source import RowSource
from sae.architectures.base import SparseAutoencoder
from sae.commands.hook_node import LISTED, OTHER_MODEL
from sae.commands.sae_node import SAENode
from sae.commands.source_config import SourceConfig
from sae.errors import UserError
from sae.functional.devices import CPU
from sae.losses.objective import Objective
from sae.models.conversion import default_cache_dir
from sae.models.device import resolve_dtype
from sae.models.hook_points import HookPoint, resolve_hook_point, resolve_hook_points
from sae.models.language_model import LanguageModel
from sae.models.loading import load_model
from sae.tokens.blocks import TokenBlocks

__all__ = ["Origin", "open_origin"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A model, or two, and the places in them that are read.

    Attributes:
        config: what they were made from.
        model: the frozen transformer.
        inputs: what an SAE reads, in the order in which it lies side by side; or the layers that are mixed, in their order.
        targets: what it predicts: the inputs, but for transcoders.
        other_model: the second transformer, if there is one.
        of_other: names of the hook points that are the second one's.
    """

    config: SourceConfig
    model: LanguageModel
    inputs: tuple[HookPoint, ...]
    targets: tuple[HookPoint, ...]
    other_model: LanguageModel | None = None
    of_other: frozenset[str] = frozenset()

    @property
    def hook_point(self) -> HookPoint:
        """The first place that is read: for most SAEs the only one."""
        return self.inputs[0]

    @property
    def hook_points(self) -> tuple[HookPoint, ...]:
        """Every place that is read or predicted, once."""
        return tuple({point.name: point for point in (*self.inputs, *self.targets)}.values())

    @property
    def has_target(self) -> bool:
        """Whether another activation is predicted than is read."""
        return self.targets != self.inputs

    @property
    def is_mixed(self) -> bool:
        """Whether the inputs are layers of one stream of rows."""
        return self.config.places.mix

    @property
    def input_names(self) -> list[str]:
        """What a learner calls its inputs."""
        return [MIXED] if self.is_mixed else [point.name for point in self.inputs]

    @property
    def input_widths(self) -> list[int]:
        """Widths of the inputs that lie side by side; the one width of mixed layers."""
        return [point.width for point in (self.inputs[:1] if self.is_mixed else self.inputs)]

    @property
    def place(self) -> str:
        """The hook points in words."""
        if self.is_mixed:
            names = [point.name for point in self.inputs]
            return " | ".join(names) if len(names) <= LISTED else f"{names[0]} | ... | {names[-1]} ({len(names)} layers)"
        inputs, targets = (" + ".join(point.name for point in points) for points in (self.inputs, self.targets))
        return f"{inputs} -> {targets}" if self.has_target else inputs

    @property
    def d_in(self) -> int:
        """Width of all inputs side by side, or of each mixed layer."""
        return sum(self.input_widths)

    @property
    def d_out(self) -> int:
        """Width of all targets side by side, or of each mixed layer."""
        return self.d_in if self.is_mixed else sum(point.width for point in self.targets)

    def rows_of(self, blocks: TokenBlocks) -> int:
        """Rows that an SAE gets from these blocks: one for each kept position, and for each layer where these are mixed."""
        return blocks.num_rows * (len(self.inputs) if self.is_mixed else 1)

    @property
    def cache(self) -> Path:
        """Folder of everything that is made once and used again."""
        given = self.config.activations.cache_dir
        return Path(given).expanduser() if given is not None else default_cache_dir()

    @property
    def harvester(self) -> RowSource:
        """Runs the model, or both, for rows on the CPU: of all hook points side by side, mixed or not."""
        return self.harvester_to(CPU)

    def harvester_to(self, device: torch.device) -> RowSource:
        """`harvester` with rows on the CPU, or on the models' own device."""
        node = self.config.activations
        settings: dict[str, Any] = {
            "forward_blocks": node.forward_blocks,
            "dtype": resolve_dtype(node.dtype),
            "device": device,
        }
        own = Harvester(self.model, self.points_of(self.model), **settings)
        if self.other_model is None:
            return own
        return JoinedRows([own, Harvester(self.other_model, self.points_of(self.other_model), **settings)])

    def model_of(self, point: HookPoint) -> LanguageModel:
        """The model that a hook point belongs to."""
        return self.other_model if self.other_model is not None and point.name in self.of_other else self.model

    def points_of(self, model: LanguageModel) -> list[HookPoint]:
        """The hook points of one of the models."""
        return [point for point in self.hook_points if self.model_of(point) is model]

    def build(self, sae: SAENode) -> tuple[SparseAutoencoder, Objective]:
        """The SAE as configured, for the widths of these places, and its objective.

        Raises:
            UserError: the settings do not make an SAE of this size.
        """
        targets = [point.width for point in self.targets] if self.has_target else None
        return sae.build(self.d_in, d_out=self.d_out, widths=self.input_widths, target_widths=targets)


def open_origin(config: SourceConfig) -> Origin:
    """Load the model, or both, and find the hook points.

    Raises:
        UserError: a model cannot be loaded or has no such place.
    """
    places = config.places
    settings = {"dtype": config.trainer.model_dtype, "device": config.trainer.device}
    model = load_model(**config.model, **settings)
    inputs = _resolved(model, places.inputs, several=places.several)
    targets = _resolved(model, places.targets, several=False, key="hook.target_")
    if places.mix:
        one_width({point.name: point.width for point in inputs})
        if len(inputs) < 2:
            only = "".join(point.name for point in inputs)
            raise UserError(f"hook.mix=true mixes several layers, and {only} is one: name more, or set it to false")
    if config.other_model is None:
        return Origin(config=config, model=model, inputs=inputs, targets=targets or inputs)
    other = load_model(**config.other_model, **settings)
    named = [
        replace(point, name=f"{OTHER_MODEL}.{point.name}") for point in _resolved(other, places.inputs, several=places.several)
    ]
    inputs = (*inputs, *named)
    return Origin(
        config=config,
        model=model,
        inputs=inputs,
        targets=targets or inputs,
        other_model=other,
        of_other=frozenset(point.name for point in named),
    )


def _resolved(
    model: LanguageModel, places: Sequence[dict[str, Any]], *, several: bool, key: str = "hook."
) -> tuple[HookPoint, ...]:
    """The hook points of some places; errors name the keys that begin with `key`."""
    try:
        if several:
            return tuple(point for place in places for point in resolve_hook_points(model, **place))
        return tuple(resolve_hook_point(model, **place) for place in places)
    except UserError as error:
        raise UserError(str(error).replace("hook.", key)) from error
