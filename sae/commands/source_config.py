"""Where activations come from, as configured: a model or two, a place, a text, each bound to its constructor."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.commands.binding import bind, bound, make, nearest, parameters_of
from sae.commands.hook_node import OTHER_MODEL, Places, read_hook_node
from sae.commands.nodes import ActivationsNode, DataNode, EvaluationNode, TrainerNode
from sae.commands.two_models import check_same_tokens
from sae.errors import UserError
from sae.models.device import resolve_device
from sae.models.loading import ModelOutline, load_model, read_model_outline
from sae.tokens.documents import DocumentSource
from sae.tokens.mixture import Mixture
from sae.tokens.registry import SOURCES, build_source
from sae.tokens.wikipedia_sample import WikipediaSample

__all__ = ["SourceConfig", "read_source_config"]


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
        outlines: of the model, and of the other one if there is one.
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
    outlines: tuple[ModelOutline, ...]
    vocabulary_size: int
    num_layers: int
    predicts: bool

    def widths(self) -> tuple[list[int | None], list[int | None]]:
        """Width of each input and of each target, side by side; None where only the model itself tells."""
        found = [self.places.widths(outline) for outline in self.outlines]
        return [width for inputs, _ in found for width in inputs], [width for _, targets in found for width in targets]


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
    trainer = bound("trainer", tree["trainer"], TrainerNode, problems)
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
    activations = bound("activations", tree["activations"], ActivationsNode, problems)
    if activations is not None and activations.path is not None and not Path(activations.path).expanduser().is_dir():
        problems.append(f"activations.path={activations.path}: there is no such folder; scripts/harvest.py writes one")
    evaluation = bound("evaluation", tree["evaluation"], EvaluationNode, problems)
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
        outlines=(outline,) if other is None else (outline, other),
        vocabulary_size=outline.vocabulary_size,
        num_layers=outline.num_layers,
        predicts=outline.predicts,
    )


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
    data = bound("data", {key: value for key, value in node.items() if key in shared}, DataNode, problems)
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
