"""The configuration as objects: each node bound to its constructor, every mistake of every node reported at once."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sae.commands.binding import bind, make, nearest, parameters_of
from sae.commands.sae_node import SAENode, read_sae_node
from sae.errors import UserError
from sae.models.device import resolve_device
from sae.models.hook_points import hook_mistakes, resolve_hook_point
from sae.models.loading import load_model, read_model_outline
from sae.tokens.documents import DocumentSource
from sae.tokens.packing import Packing
from sae.tokens.registry import SOURCES, build_source
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.run import CheckpointSettings, TrainerSettings
from sae.training.schedule import ScheduleSettings

__all__ = [
    "ActivationsNode",
    "DataNode",
    "EvaluationNode",
    "RunNode",
    "SourceConfig",
    "TrainConfig",
    "TrainerNode",
    "read_source_config",
    "read_train_config",
]


def _require(checks: list[tuple[bool, str]]) -> None:
    problems = [text for wrong, text in checks if wrong]
    if problems:
        raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class RunNode:
    """`run`: name and place of the run's folder; the values at `name_keys` end a name that is not given."""

    name: str | None = None
    name_keys: tuple[str, ...] = ()
    folder: str = "runs"
    if_exists: Literal["error", "resume", "overwrite"] = "error"


@dataclass(frozen=True, kw_only=True)
class TrainNode:
    """`train`: rows in all and rows a step."""

    tokens: int
    batch_tokens: int

    def __post_init__(self) -> None:
        _require(
            [
                (self.batch_tokens < 1, f"train.batch_tokens must be at least 1, got {self.batch_tokens}"),
                (
                    self.tokens < self.batch_tokens,
                    f"train.tokens={self.tokens} is less than one batch (train.batch_tokens={self.batch_tokens})",
                ),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class DataNode:
    """`data`, the keys that every source shares: blocks, split and caps."""

    context_length: int = 128
    packing: Packing = "document"
    min_tail: int = 16
    held_out_fraction: float = 0.1
    held_out_rows: int = 32768
    max_rows: int | None = None
    window_blocks: int = 8192
    repeat: bool = False

    def __post_init__(self) -> None:
        _require(
            [
                (self.context_length < 2, f"data.context_length must be at least 2, got {self.context_length}"),
                (self.min_tail < 1, f"data.min_tail must be at least 1, got {self.min_tail}"),
                (
                    not 0 < self.held_out_fraction < 1,
                    f"data.held_out_fraction must lie between 0 and 1, got {self.held_out_fraction}: every number of a run is "
                    "measured on text that it was not trained on",
                ),
                (self.held_out_rows < 1, f"data.held_out_rows must be at least 1, got {self.held_out_rows}"),
                (self.max_rows is not None and self.max_rows < 1, f"data.max_rows must be at least 1, got {self.max_rows}"),
                (self.window_blocks < 1, f"data.window_blocks must be at least 1, got {self.window_blocks}"),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class ActivationsNode:
    """`activations`: run the model while training, or read a store."""

    mode: Literal["live", "stored"]
    path: str | None = None
    chunk_tokens: int = 131072
    forward_blocks: int = 16
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_norm_multiple: float | None = None
    cache: bool | Literal["auto"] = "auto"
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        multiple = self.max_norm_multiple
        _require(
            [
                (self.mode == "stored" and self.path is None, "activations=stored needs activations.path=FOLDER"),
                (self.chunk_tokens < 1, f"activations.chunk_tokens must be at least 1, got {self.chunk_tokens}"),
                (self.forward_blocks < 1, f"activations.forward_blocks must be at least 1, got {self.forward_blocks}"),
                (
                    multiple is not None and multiple <= 1,
                    f"activations.max_norm_multiple is a multiple of the median norm above 1, got {multiple}",
                ),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationNode:
    """`evaluation`: what is measured on held-out text, and how often."""

    every_tokens: int | None = None
    rows: int = 32768
    ce_tokens: int = 8192
    ce_every_tokens: int | None = None
    batch_rows: int = 4096

    def __post_init__(self) -> None:
        _require(
            [
                (value is not None and value < least, f"evaluation.{key} must be at least {least}, got {value}")
                for key, value, least in (
                    ("every_tokens", self.every_tokens, 1),
                    ("rows", self.rows, 2),
                    ("ce_tokens", self.ce_tokens, 0),
                    ("ce_every_tokens", self.ce_every_tokens, 1),
                    ("batch_rows", self.batch_rows, 1),
                )
            ]
        )


@dataclass(frozen=True, kw_only=True)
class TrainerNode(TrainerSettings):
    """`trainer`: where things run and how exactly, the model and the SAE each."""

    model_dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where activations come from: a model, a hook point in it, and a text.

    Attributes:
        model: keywords of `load_model`.
        hook: keywords of `resolve_hook_point`.
        source: the text.
        data: blocks, split and caps.
        activations: live or stored.
        d_model: width of the model's residual stream.
        num_layers: blocks of the model.
    """

    model: dict[str, Any]
    hook: dict[str, Any]
    source: DocumentSource
    data: DataNode
    activations: ActivationsNode
    trainer: TrainerNode
    evaluation: EvaluationNode
    seed: int
    d_model: int
    num_layers: int
    vocabulary_size: int


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that `scripts/train.py` needs, checked.

    Attributes:
        tree: the resolved configuration as plain dicts, for files and loggers.
    """

    origin: SourceConfig
    sae: SAENode
    run: RunNode
    budget: Budget
    checkpoint: CheckpointSettings
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    loggers: LoggerSettings
    init_from: str | None
    dry_run: bool
    tree: dict[str, Any]


def read_source_config(tree: Mapping[str, Any], problems: list[str]) -> SourceConfig | None:
    """Bind `model`, `hook`, `data`, `activations`, `trainer`, `evaluation` and `seed`.

    Args:
        tree: the resolved configuration.
        problems: sentences are added for all that is wrong.

    Returns:
        The bound nodes, or None if something is wrong.
    """
    before = len(problems)
    model, hook = dict(tree["model"]), dict(tree["hook"])
    loading = {key: value for key, value in parameters_of(load_model).items() if key not in ("dtype", "device")}
    problems += bind("model", model, loading)
    problems += bind("hook", hook, {k: v for k, v in parameters_of(resolve_hook_point).items() if k != "model"})
    data = _read_data(tree["data"], problems)
    activations = _node("activations", tree["activations"], ActivationsNode, problems)
    trainer = _node("trainer", tree["trainer"], TrainerNode, problems)
    evaluation = _node("evaluation", tree["evaluation"], EvaluationNode, problems)
    if not isinstance(tree["seed"], int) or isinstance(tree["seed"], bool) or tree["seed"] < 0:
        problems.append(f"seed: expected a whole number of at least 0, got {tree['seed']!r}")
    if trainer is not None:
        make(lambda: resolve_device(trainer.device), problems)
    outline = None
    if len(problems) == before:
        outline = make(
            lambda: read_model_outline(
                source=model["source"], name=model.get("name"), path=model.get("path"), revision=model.get("revision")
            ),
            problems,
        )
    if outline is not None:
        problems += hook_mistakes(outline.num_layers, **hook)
    if data is None or activations is None or trainer is None or evaluation is None or outline is None:
        return None
    if len(problems) > before:
        return None
    return SourceConfig(
        model=model,
        hook=hook,
        source=data[0],
        data=data[1],
        activations=activations,
        trainer=trainer,
        evaluation=evaluation,
        seed=tree["seed"],
        d_model=outline.d_model,
        num_layers=outline.num_layers,
        vocabulary_size=outline.vocabulary_size,
    )


def read_train_config(tree: dict[str, Any]) -> TrainConfig:
    """Check and bind a whole training configuration, in a few seconds and before a model is loaded.

    Raises:
        UserError: every mistake, one on a line.
    """
    problems: list[str] = []
    origin = read_source_config(tree, problems)
    sae = read_sae_node(tree["sae"], problems)
    run = _node("run", tree["run"], RunNode, problems)
    train = _node("train", tree["train"], TrainNode, problems)
    checkpoint = _node("checkpoint", tree["checkpoint"], CheckpointSettings, problems)
    optimizer = _node("optimizer", tree["optimizer"], OptimizerSettings, problems)
    schedule = _node("schedule", tree["schedule"], ScheduleSettings, problems)
    loggers = _node("logger", tree["logger"], LoggerSettings, problems)
    for key, kind, expected in (("dry_run", bool, "true or false"), ("init_from", str, "a path or null")):
        if not isinstance(tree[key], kind) and tree[key] is not None:
            problems.append(f"{key}: expected {expected}, got {tree[key]!r}")
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    assert origin is not None
    assert sae is not None
    return TrainConfig(
        origin=origin,
        sae=sae,
        run=run,
        budget=Budget(train_tokens=train.tokens, batch_tokens=train.batch_tokens),
        checkpoint=checkpoint,
        optimizer=optimizer,
        schedule=schedule,
        loggers=loggers,
        init_from=tree["init_from"],
        dry_run=bool(tree["dry_run"]),
        tree=tree,
    )


def _node(path: str, node: Mapping[str, Any], owner: Callable[..., Any], problems: list[str]) -> Any:
    parameters = parameters_of(owner)
    found = bind(path, node, parameters)
    problems += found
    if found:
        return None
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()}
    return make(lambda: owner(**arguments), problems)


def _read_data(node: Mapping[str, Any], problems: list[str]) -> tuple[DocumentSource, DataNode] | None:
    before = len(problems)
    shared = parameters_of(DataNode)
    kind = node.get("source")
    if kind not in SOURCES:
        problems.append(f"data.source: expected one of {', '.join(SOURCES)}, got {kind!r}.{nearest(str(kind), SOURCES)}")
        return None
    # What must be given is the source's own affair, which says it in its own words.
    of_source = {
        key: parameter.replace(default=None, annotation=parameter.annotation | None)
        if parameter.default is inspect.Parameter.empty and not isinstance(parameter.annotation, str)
        else parameter
        for key, parameter in parameters_of(SOURCES[kind]).items()
    }
    own = {key: value for key, value in node.items() if key not in shared and key != "source"}
    problems += bind("data", own, of_source)
    data = _node("data", {key: value for key, value in node.items() if key in shared}, DataNode, problems)
    source = make(lambda: build_source(node), problems) if len(problems) == before else None
    return (source, data) if source is not None and data is not None else None
