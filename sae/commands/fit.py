"""`sae.fit`: train an SAE on activations that are already there, from Python and without Hydra.

The same stream, learner and training loop as `scripts/train.py`, with the defaults of the same YAML files, so that equal
settings on equal rows mean the same thing in both.
"""

import importlib.resources
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import yaml
from torch import Tensor

from sae.activations.array_rows import ArrayRows
from sae.activations.joined import JoinedRows
from sae.activations.row_source import RowSource
from sae.activations.shuffle import ActivationStream
from sae.architectures.base import SparseAutoencoder
from sae.commands.reading import has_target, pairs_layers, reads_several
from sae.commands.recipe_keys import misfits_of_budget
from sae.commands.sae_node import SAENode, read_sae_node
from sae.errors import UserError
from sae.formats.native import save
from sae.formats.registry import FITTED, architecture_class
from sae.losses.registry import terms_for
from sae.models.device import resolve_device
from sae.tokens.windows import FiniteWindows
from sae.training.callbacks.checkpoints import StopSignals
from sae.training.learner import Learner
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.run import CheckpointSettings, TrainedRun, TrainerSettings, train
from sae.training.schedule import ScheduleSettings

__all__ = ["fit"]


def fit(
    x: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    *,
    target: Tensor | np.ndarray | Sequence[Tensor | np.ndarray] | None = None,
    architecture: str = "relu",
    expansion: float | int | None = None,
    d_sae: int | None = None,
    tokens: int | None = None,
    batch_tokens: int | None = None,
    chunk_tokens: int | None = None,
    schedule: ScheduleSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: str | Path | None = None,
    **recipe: Any,
) -> SparseAutoencoder:
    """Train an SAE on an array of activations, quietly.

    Defaults are those of the command: `conf/sae/ARCHITECTURE.yaml`, `conf/train.yaml` and `conf/activations/live.yaml`.

    Args:
        x: activations [rows, d_in] of any float type: a tensor, a numpy array or a memory map. It is read in chunks, never
            copied as a whole, and passed over as often as `tokens` asks. For a crosscoder a list of arrays, row i of each from
            the same token; likewise for a cross-layer transcoder, in the order of the layers.
        target: what a transcoder predicts from x [rows, d_out], row i from row i; of a cross-layer transcoder a list of as
            many arrays as x has; for no other architecture.
        architecture: name of the architecture.
        expansion: d_sae / d_in (of several arrays, the first's); None for the default (8), unless `d_sae` is given.
        d_sae: number of latents, in place of `expansion`.
        tokens: rows to train on in all; None for 600,000, or one pass where there are more rows.
        batch_tokens: rows a step; None for 512.
        chunk_tokens: rows shuffled together, of which two chunks are in memory; None for 131,072.
        schedule: the rate's course; None for a short warm-up, a plateau and a linear decay.
        seed: of the weights and of the order of rows.
        device: "auto" (CUDA, else the CPU), "cpu" or "cuda".
        folder: a new or empty folder for the SAE (`sae.load(folder)` reads it), `metrics.jsonl` and a checkpoint; None keeps
            nothing on the disk.
        **recipe: any key of `conf/sae/ARCHITECTURE.yaml`, such as `l1_coefficient=4.0`, `lr=1e-3` or `resample_at=[]`.

    Returns:
        The trained SAE on the CPU, frozen. It takes raw activations: the scaling of its training is folded away.

    Raises:
        UserError: an array is not one of activations, holds values that are not finite or too few rows, or the arrays do not go
            with the architecture or with each other; a setting does not exist or is out of range (all such mistakes at once);
            the loss stops being finite; the folder holds something.
        KeyboardInterrupt: Ctrl-C.
    """
    node = _read_settings(architecture, {"expansion": expansion, "d_sae": d_sae, **recipe})
    trainer = TrainerSettings(device=_checked_device(device))
    inputs, targets = _arrays(x, target, architecture)
    first = inputs[0]
    several = [*inputs, *targets]
    source: RowSource = first if len(several) == 1 else JoinedRows(several)
    defaults = _defaults("train.yaml")["train"]
    batch_rows = batch_tokens if batch_tokens is not None else int(defaults["batch_tokens"])
    budget = Budget(
        train_tokens=tokens if tokens is not None else max(int(defaults["tokens"]), first.num_rows), batch_tokens=batch_rows
    )
    _check_budget(budget, first.num_rows)
    if misfits := misfits_of_budget(node.recipe, budget, node.chosen):
        raise UserError("\n".join(misfits))
    stream = ActivationStream(
        FiniteWindows(first.blocks()),
        source,
        batch_rows=batch_rows,
        chunk_rows=chunk_tokens if chunk_tokens is not None else int(_defaults("activations/live.yaml")["chunk_tokens"]),
        seed=seed,
        total_rows=budget.steps * batch_rows,
    )
    widths = [one.widths[one.name] for one in inputs]
    target_widths = [one.widths[one.name] for one in targets or inputs]
    sae, objective = node.build(sum(widths), d_out=sum(target_widths), widths=widths, target_widths=target_widths)
    learner = Learner(
        name=architecture,
        inputs=[one.name for one in inputs],
        targets=[one.name for one in targets or inputs],
        sae=sae,
        objective=objective,
        coefficients=node.coefficients_at(sae.d_in),
        recipe=node.recipe,
        schedule=schedule or ScheduleSettings(),
        budget=budget,
        seed=seed,
    )
    signals = StopSignals()
    kept = None if folder is None else _empty_folder(folder)
    with tempfile.TemporaryDirectory(prefix="sae-fit-") if kept is None else nullcontext(kept) as place:
        trained = _train(Path(place), learner, stream, trainer, signals)
    if signals.received is not None:
        signal.raise_signal(signals.received)  # the handlers of before are back: Ctrl-C becomes KeyboardInterrupt
    fitted = trained.exported[architecture]
    if kept is not None:
        scales = learner.spaces.scales(source.widths)
        scale = scales if len(several) > 1 else trained.scale[architecture]
        training = {
            "tokens": budget.steps * batch_rows,
            "scale": scale,
            "threshold_factor": trained.threshold_factor[architecture],
            "seconds": trained.seconds,
        }
        save(fitted, kept / "saes" / architecture, cfg={"training": training})
    return fitted


def _arrays(
    x: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
    target: Tensor | np.ndarray | Sequence[Tensor | np.ndarray] | None,
    architecture: str,
) -> tuple[list[ArrayRows], list[ArrayRows]]:
    """What is read and what is predicted from it; nothing for an architecture that reconstructs what it reads.

    Raises:
        UserError: the arrays do not go with the architecture, or with each other.
    """
    several, pairs = reads_several(architecture), pairs_layers(architecture)
    if isinstance(x, Tensor | np.ndarray):
        if several:
            least = "one for each layer" if pairs else "two at least"
            raise UserError(
                f"x is one array. A {architecture} reads {least}: give a list of them, row i of each from one token."
            )
        inputs = [ArrayRows(x)]
    elif several and len(x) > (0 if pairs else 1):
        inputs = [ArrayRows(one, name=f"x{number}") for number, one in enumerate(x)]
    else:
        wanted = ("at least one array in it" if pairs else "at least two arrays") if several else "one array"
        raise UserError(f"x is a {type(x).__name__} of {len(x)}. Expected {wanted} for architecture={architecture!r}.")
    if (target is not None) != has_target(architecture):
        raise UserError(
            f"target= was {'not ' if target is None else ''}given. A transcoder predicts it from x, row i from row i; every "
            f"other architecture reconstructs x. This is architecture={architecture!r}."
        )
    if target is None:
        targets = []
    elif isinstance(target, Tensor | np.ndarray) and not pairs:
        targets = [ArrayRows(target, name="target")]
    else:
        found = 1 if isinstance(target, Tensor | np.ndarray) else len(target)
        if isinstance(target, Tensor | np.ndarray) or not pairs or found != len(inputs):
            wanted = f"a list of {len(inputs)} arrays, one for each of x" if pairs else "one array"
            raise UserError(
                f"target is a {type(target).__name__} of {found}. Expected {wanted}, for architecture={architecture!r}."
            )
        targets = [ArrayRows(one, name=f"target{number}") for number, one in enumerate(target)]
    for one in [*inputs, *targets]:
        if one.num_rows != inputs[0].num_rows:
            raise UserError(
                f"{inputs[0].name} has {inputs[0].num_rows} rows and {one.name} {one.num_rows}: row i of each must be "
                "from one token."
            )
    return inputs, targets


def _read_settings(architecture: str, given: Mapping[str, Any]) -> SAENode:
    architecture_class(architecture)
    if architecture in FITTED:
        raise UserError(f"architecture={architecture} is not trained by gradient: {FITTED[architecture]} fits it")
    node = _defaults(f"sae/{architecture}.yaml")
    if given["expansion"] is not None or given["d_sae"] is not None:
        node |= {"expansion": None, "d_sae": None}
    node |= {key: value for key, value in given.items() if key not in ("expansion", "d_sae") or value is not None}
    problems: list[str] = []
    settings = read_sae_node(node, problems)
    if settings is not None and settings.goes_downstream:
        on = [f"{term}_coefficient" for term in terms_for("end_to_end") if term in settings.terms]
        problems.append(
            f"{' and '.join(on)}: end-to-end losses go on through the model, and there is none beside an array of activations. "
            "Leave them out, or train with scripts/train.py, which runs the model"
        )
    if settings is None or problems:
        raise UserError("\n".join(problems))
    return settings


def _defaults(file: str) -> dict[str, Any]:
    """One of the YAML files that the command composes."""
    return yaml.safe_load(importlib.resources.files("sae.conf").joinpath(file).read_text(encoding="utf-8"))


def _checked_device(device: str) -> Any:
    known = get_args(get_type_hints(TrainerSettings)["device"])
    if device not in known:
        raise UserError(f"device={device!r} is unknown: expected one of {', '.join(known)}.")
    resolve_device(device)
    return device


def _check_budget(budget: Budget, rows: int) -> None:
    for name, value in (("batch_tokens", budget.batch_tokens), ("tokens", budget.train_tokens)):
        if value < 1:
            raise UserError(f"{name} is {value}. Expected at least 1.")
    if rows < budget.batch_tokens:
        raise UserError(
            f"x has {rows} rows, fewer than one step takes (batch_tokens={budget.batch_tokens}). Give more rows, or a smaller "
            "batch_tokens."
        )
    if budget.steps == 0:
        raise UserError(
            f"tokens={budget.train_tokens} is less than one step takes (batch_tokens={budget.batch_tokens}): nothing would be "
            "trained. Raise tokens or lower batch_tokens."
        )


def _empty_folder(folder: str | Path) -> Path:
    path = Path(folder).expanduser()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"folder={path} exists already and is not empty. Name a new folder, or empty it.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _train(
    folder: Path, learner: Learner, stream: ActivationStream, trainer: TrainerSettings, signals: StopSignals
) -> TrainedRun:
    signals.install()
    try:
        return train(
            folder=folder,
            name=folder.name,
            run_id="fit",
            config={},
            learners={learner.name: learner},
            stream=stream,
            budget=learner.budget,
            optimizer=OptimizerSettings(),
            trainer=trainer,
            checkpoint=CheckpointSettings(every_tokens=learner.budget.train_tokens, keep=1),
            loggers=LoggerSettings(),
            evaluation=None,
            resume=False,
            signals=signals,
            progress=False,
        )
    finally:
        signals.restore()
