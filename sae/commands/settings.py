"""The configuration as objects: each node bound to its constructor, every mistake of every node reported at once."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae.commands.binding import bind, make, nearest, parameters_of, typed
from sae.commands.hook_node import OTHER_MODEL, Places, has_target, read_hook_node, reads_several
from sae.commands.nodes import ActivationsNode, DataNode, EvaluationNode, RunNode, TrainerNode, TrainNode
from sae.commands.sae_node import SAENode, read_sae_node
from sae.commands.two_models import check_same_tokens
from sae.errors import UserError
from sae.formats.native import load, read_cfg
from sae.models.device import resolve_device
from sae.models.loading import ModelOutline, load_model, read_model_outline
from sae.tokens.documents import DocumentSource
from sae.tokens.mixture import Mixture
from sae.tokens.registry import SOURCES, build_source
from sae.tokens.wikipedia_sample import WikipediaSample
from sae.training.kernels import PassChoice
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.run import CheckpointSettings
from sae.training.schedule import ScheduleSettings

__all__ = [
    "SourceConfig",
    "TrainConfig",
    "in_words",
    "read_source_config",
    "read_train_config",
    "saved_sizes",
    "sizes_of",
]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where activations come from: a model, a hook point in it, and a text.

    Attributes:
        model: keywords of `load_model`.
        other_model: keywords of `load_model` for a second model, in which the same places are read; None: there is none.
        places: where activations are read, and what is predicted from them.
        source: the text.
        data: blocks, split and caps.
        activations: live or stored.
        d_model: width of the model's residual stream.
        other_d_model: the other model's.
        vocabulary_size: rows of the token embedding.
        num_layers: blocks of the model.
        predicts: whether the model has a head that predicts next tokens.
    """

    model: dict[str, Any]
    other_model: dict[str, Any] | None
    places: Places
    source: DocumentSource
    data: DataNode
    activations: ActivationsNode
    trainer: TrainerNode
    evaluation: EvaluationNode
    seed: int
    d_model: int
    other_d_model: int | None
    vocabulary_size: int
    num_layers: int
    predicts: bool

    def widths(self) -> tuple[list[int | None], list[int | None]]:
        """Width of each input and of each target, side by side; None where only the model itself tells."""
        models = [self.d_model, *([] if self.other_d_model is None else [self.other_d_model])]
        found = [self.places.widths(d_model) for d_model in models]
        return [width for inputs, _ in found for width in inputs], [width for _, targets in found for width in targets]


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


def read_source_config(tree: Mapping[str, Any], problems: list[str], *, architecture: str | None = None) -> SourceConfig | None:
    """Bind `model`, `other_model`, `hook`, `data`, `activations`, `trainer`, `evaluation` and `seed`.

    Args:
        tree: the resolved configuration.
        problems: sentences are added for all that is wrong.
        architecture: of the SAE, which says what it reads by default; None where there is none (a harvest).

    Returns:
        The bound nodes, or None if something is wrong.
    """
    before = len(problems)
    trainer = _node("trainer", tree["trainer"], TrainerNode, problems)
    if trainer is not None:
        mistakes: list[str] = []
        make(lambda: resolve_device(trainer.device), mistakes)
        problems += [mistake.replace("device=", "trainer.device=") for mistake in mistakes]
    outline = _read_model("model", tree["model"], problems)
    second = tree.get(OTHER_MODEL)
    other = None if second is None else _read_model(OTHER_MODEL, second, problems)
    if outline is not None and other is not None:
        make(lambda: check_same_tokens(tree["model"], tree[OTHER_MODEL]), problems)
    places = read_hook_node(
        tree["hook"],
        problems,
        architecture=architecture,
        num_layers=min((one.num_layers for one in (outline, other) if one is not None), default=None),
        two_models=second is not None,
    )
    data = _read_data(tree["data"], problems)
    activations = _node("activations", tree["activations"], ActivationsNode, problems)
    if activations is not None and activations.path is not None and not Path(activations.path).expanduser().is_dir():
        problems.append(f"activations.path={activations.path}: there is no such folder; scripts/harvest.py writes one")
    evaluation = _node("evaluation", tree["evaluation"], EvaluationNode, problems)
    if not isinstance(tree["seed"], int) or isinstance(tree["seed"], bool) or tree["seed"] < 0:
        problems.append(f"seed: expected a whole number of at least 0, got {tree['seed']!r}")
    if data is None or activations is None or trainer is None or evaluation is None or outline is None:
        return None
    if len(problems) > before or places is None:
        return None
    return SourceConfig(
        model=dict(tree["model"]),
        other_model=None if second is None else dict(second),
        places=places,
        source=data[0],
        data=data[1],
        activations=activations,
        trainer=trainer,
        evaluation=evaluation,
        seed=tree["seed"],
        d_model=outline.d_model,
        other_d_model=None if other is None else other.d_model,
        vocabulary_size=outline.vocabulary_size,
        num_layers=outline.num_layers,
        predicts=outline.predicts,
    )


def read_train_config(tree: dict[str, Any]) -> TrainConfig:
    """Check and bind a whole training configuration, in a few seconds and before a model is loaded.

    Raises:
        UserError: every mistake, one on a line.
    """
    problems: list[str] = []
    name = tree["sae"].get("name") if isinstance(tree["sae"], Mapping) else None
    origin = read_source_config(tree, problems, architecture=name if isinstance(name, str) else None)
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
    if origin is not None and sae is not None:
        _check_build(sae, origin, problems)
    if sae is not None:
        problems += _together(sae, optimizer, origin)
    init_from = str(Path(tree["init_from"]).expanduser()) if isinstance(tree["init_from"], str) else None
    if init_from is not None and sae is not None:
        make(lambda: _check_start(init_from, sae, origin), problems)
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
        init_from=init_from,
        dry_run=bool(tree["dry_run"]),
        tree=tree,
    )


def _check_build(sae: SAENode, origin: SourceConfig, problems: list[str]) -> None:
    """Make the SAE without its weights, where the widths are known before the model is loaded."""
    inputs, targets = ([width for width in some if width is not None] for some in origin.widths())
    if (len(inputs), len(targets)) != tuple(map(len, origin.widths())):
        return
    if sae.width(inputs[0]) < 1:
        problems.append(f"sae.expansion={sae.expansion:g} gives no latent for {inputs[0]} dimensions")
        return
    with torch.device("meta"):
        built = make(lambda: sae.build(sum(inputs), d_out=sum(targets), widths=inputs), problems)
        if built is not None:
            make(lambda: PassChoice(origin.trainer.passes, *built), problems)


def _together(sae: SAENode, optimizer: OptimizerSettings | None, origin: SourceConfig | None) -> list[str]:
    """What is wrong with nodes that are each right by themselves."""
    problems = []
    if optimizer is not None and sae.recipe.resample_at and not optimizer.resets_moments:
        problems.append(
            f"optimizer={optimizer.name} cannot forget the moments of single latents, which resampling asks for: set "
            "sae.resample_at=[] or take optimizer=adam"
        )
    if optimizer is not None and optimizer.name == "signum" and sae.recipe.average_half_life is not None:
        problems.append(
            f"sae.average_half_life={sae.recipe.average_half_life:g} with optimizer=signum would average weights that are an "
            "average already: set sae.average_half_life=null"
        )
    if sae.goes_downstream and origin is not None:
        if origin.activations.mode == "stored":
            problems.append(
                "activations=stored holds no text to go on from, which sae.kl_coefficient and sae.downstream_coefficient need: "
                "take activations=live"
            )
        if origin.activations.max_norm_multiple is not None:
            problems.append(
                "activations.max_norm_multiple drops rows out of the middle of a text, which sae.kl_coefficient and "
                "sae.downstream_coefficient go on through: set it to null"
            )
        if not origin.predicts:
            problems.append(
                "sae.kl_coefficient and sae.downstream_coefficient need a model that predicts next tokens, which this one does "
                "not: set both to null, or take a causal model"
            )
        first = origin.places.first_block_after()
        if "downstream" in sae.terms and (first is None or first >= origin.num_layers):
            where = "hook.module names a place" if first is None else "the hook point is the last block's output,"
            problems.append(
                f"sae.downstream_coefficient compares the outputs of later blocks, and {where} after which no block is known. "
                "Set it to null, or name an earlier place by hook.site= and hook.layer= (a transcoder's by hook.target_layer=)"
            )
    return problems


def _node(path: str, node: Any, owner: Callable[..., Any], problems: list[str]) -> Any:
    parameters = parameters_of(owner)
    found = bind(path, node, parameters)
    problems += found
    return None if found else make(lambda: owner(**typed(node, parameters)), problems)


def _read_model(path: str, node: Any, problems: list[str]) -> ModelOutline | None:
    """The model's measures, if its files can be found."""
    loading = {key: value for key, value in parameters_of(load_model).items() if key not in ("dtype", "device")}
    found = bind(path, node, loading)
    problems += found
    if found:
        return None
    mistakes: list[str] = []
    outline = make(
        lambda: read_model_outline(**{key: node.get(key) for key in ("source", "name", "path", "revision")}), mistakes
    )
    problems += mistakes if path == "model" else [re.sub(r"\bmodel(?=[.=])", path, mistake) for mistake in mistakes]
    return outline


def _read_data(node: Any, problems: list[str]) -> tuple[DocumentSource, DataNode] | None:
    before = len(problems)
    shared = parameters_of(DataNode)
    kind = node.get("source")
    if not isinstance(kind, str) or kind not in SOURCES:
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
    found = bind("data", own, of_source)
    problems += found
    data = _node("data", {key: value for key, value in node.items() if key in shared}, DataNode, problems)
    source = make(lambda: build_source(node), problems) if not found else None
    if source is not None:
        make(lambda: _check_readable(source), problems)
    return (source, data) if source is not None and data is not None and len(problems) == before else None


def _check_readable(source: DocumentSource) -> None:
    """Read one document, which tells of a column that is missing, an empty data set, or a hub out of reach.

    Raises:
        UserError: what is wrong.
    """
    if isinstance(source, Mixture):
        for part in source.sources.values():
            _check_readable(part)
    elif not isinstance(source, WikipediaSample) and next(source.documents(), None) is None:
        raise UserError(
            f"{source.name!r} is empty: expected documents. Check `data.path`, and `data.column` where there is one."
        )


def _check_start(path: str, sae: SAENode, origin: SourceConfig | None) -> None:
    """Compare the SAE that a run starts from with the one that it would train.

    Raises:
        UserError: there is no SAE that can be read, or one of another architecture or size.
    """
    cfg = read_cfg(path)
    load(path)  # tells of weights that are damaged
    if origin is None:
        inputs, targets = [None], [None]
    else:
        inputs, targets = origin.widths()
    theirs = saved_sizes(cfg)
    ours = sizes_of(sae, inputs, targets) if None not in [*inputs, *targets] else None
    if ours is None:
        ours = {**theirs, "architecture": sae.architecture, "d_sae": sae.d_sae or theirs["d_sae"]}
    if ours != theirs:
        raise UserError(
            f"init_from={path} holds {in_words(theirs)}; this run would train {in_words(ours)}. Make them equal "
            f"(sae={theirs['architecture']} sae.d_sae={theirs['d_sae']}, the model and hook point it was trained on), or start "
            "from another."
        )


def sizes_of(sae: SAENode, inputs: Sequence[int | None], targets: Sequence[int | None]) -> dict[str, Any]:
    """Architecture and sizes of the SAE that a run would train, for activations of these widths."""
    d_in, d_out = (sum(width or 0 for width in widths) for widths in (inputs, targets))
    sizes: dict[str, Any] = {"architecture": sae.architecture, "d_in": d_in, "d_sae": sae.width(inputs[0] or 0)}
    if has_target(sae.architecture):
        sizes["d_out"] = d_out
    if reads_several(sae.architecture):
        sizes["widths"] = list(inputs)
    return sizes


def saved_sizes(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a saved SAE."""
    own = {key: cfg["config"][key] for key in ("d_out", "widths") if key in cfg["config"]}
    return {"architecture": cfg["architecture"], "d_in": cfg["d_in"], "d_sae": cfg["d_sae"], **own}


def in_words(sizes: Mapping[str, Any]) -> str:
    """Architecture and sizes for a message."""
    numbers = [f"{key} {value}" for key, value in sizes.items() if key != "architecture"]
    return f"a {sizes['architecture']} SAE with {', '.join(numbers[:-1])} and {numbers[-1]}"
