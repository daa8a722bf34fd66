"""A training run as configured: each node bound to its constructor, every mistake of every node reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae.commands.binding import bound, make
from sae.commands.nodes import RunNode, TrainNode
from sae.commands.reading import reads_several
from sae.commands.recipe_keys import misfits_of_budget
from sae.commands.sae_node import SAENode, read_sae_node
from sae.commands.source_config import SourceConfig, read_source_config
from sae.commands.start_sizes import check_start
from sae.errors import UserError
from sae.models.device import resolve_device
from sae.training.compiled import check_compile
from sae.training.kernels import PassChoice
from sae.training.lazy_decoder import against_lazy_decoder
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.run import CheckpointSettings
from sae.training.schedule import ScheduleSettings

__all__ = ["TrainConfig", "check_step", "read_train_config"]


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


def read_train_config(tree: dict[str, Any]) -> TrainConfig:
    """Check and bind a whole training configuration, in a few seconds and before a model is loaded.

    Raises:
        UserError: every mistake, one on a line.
    """
    problems: list[str] = []
    name = tree["sae"].get("name") if isinstance(tree["sae"], Mapping) else None
    origin = read_source_config(tree, problems, architecture=name if isinstance(name, str) else None)
    sae = read_sae_node(tree["sae"], problems)
    run = bound("run", tree["run"], RunNode, problems)
    train = bound("train", tree["train"], TrainNode, problems)
    checkpoint = bound("checkpoint", tree["checkpoint"], CheckpointSettings, problems)
    optimizer = bound("optimizer", tree["optimizer"], OptimizerSettings, problems)
    schedule = bound("schedule", tree["schedule"], ScheduleSettings, problems)
    loggers = bound("logger", tree["logger"], LoggerSettings, problems)
    for key, kind, expected in (("dry_run", bool, "true or false"), ("init_from", str, "a path or null")):
        if not isinstance(tree[key], kind) and tree[key] is not None:
            problems.append(f"{key}: expected {expected}, got {tree[key]!r}")
    check_step(sae, optimizer, origin, problems)
    if sae is not None:
        problems += _together(sae, optimizer, origin)
    budget = None if train is None else Budget(train_tokens=train.tokens, batch_tokens=train.batch_tokens)
    if sae is not None and budget is not None:
        problems += misfits_of_budget(sae.recipe, budget, sae.chosen)
    init_from = str(Path(tree["init_from"]).expanduser()) if isinstance(tree["init_from"], str) else None
    if init_from is not None and sae is not None:
        make(lambda: check_start(init_from, sae, origin), problems)
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    assert origin is not None
    assert sae is not None
    assert budget is not None
    return TrainConfig(
        origin=origin,
        sae=sae,
        run=run,
        budget=budget,
        checkpoint=checkpoint,
        optimizer=optimizer,
        schedule=schedule,
        loggers=loggers,
        init_from=init_from,
        dry_run=bool(tree["dry_run"]),
        tree=tree,
    )


def check_step(
    sae: SAENode | None, optimizer: OptimizerSettings | None, origin: SourceConfig | None, problems: list[str]
) -> None:
    """Look for what stands against a step of training: sizes, terms, and passes that cannot be made.

    Args:
        sae: to be trained; None where it is mistaken already.
        optimizer: for its lazy decoder; None where there is none to choose, or it is mistaken already.
        origin: of its rows, with the trainer's settings; None where it is mistaken already.
        problems: sentences are added for all that is wrong.
    """
    if origin is not None and sae is not None:
        _check_build(sae, optimizer, origin, problems)
    if origin is not None and origin.trainer.compile:
        device, kernels = resolve_device(origin.trainer.device), origin.trainer.passes.kernels
        make(lambda: check_compile(device, kernels), problems)


def _check_build(sae: SAENode, optimizer: OptimizerSettings | None, origin: SourceConfig, problems: list[str]) -> None:
    """Make the SAE without its weights, where the widths are known before the model is loaded."""
    inputs, targets = ([width for width in some if width is not None] for some in origin.widths())
    if (len(inputs), len(targets)) != tuple(map(len, origin.widths())):
        return
    if sae.width(inputs) < 1:
        problems.append(f"sae.expansion={sae.expansion:g} gives no latent for {inputs[0]} dimensions")
        return
    with torch.device("meta"):
        built = make(lambda: sae.build(sum(inputs), d_out=sum(targets), widths=inputs, target_widths=targets), problems)
        if built is None:
            return
        passes = make(lambda: PassChoice(origin.trainer.passes, *built), problems)
    if passes is not None and optimizer is not None and optimizer.lazy_decoder:
        problems += against_lazy_decoder(*built, sae.recipe, passes, resolve_device(origin.trainer.device))


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
    if origin is not None and origin.evaluation.ce_every_tokens is not None:
        problems += [
            f"evaluation.ce_every_tokens={origin.evaluation.ce_every_tokens}: {reason}. Set it to null"
            for reason, holds in (
                ("cross-entropies of mixed layers are measured at the end alone, at each layer in turn", origin.places.mix),
                (
                    f"{sae.architecture} reconstructs several activations, whose cross-entropies are measured at the end "
                    "alone, each put in by itself",
                    reads_several(sae.architecture),
                ),
                ("evaluation.ce_tokens=0 asks for no cross-entropies", origin.evaluation.ce_tokens == 0),
                ("this model does not predict next tokens, and there are no cross-entropies", not origin.predicts),
            )
            if holds
        ]
    if origin is not None and origin.places.mix:
        if sae.goes_downstream:
            problems.append(
                "sae.kl_coefficient and sae.downstream_coefficient go on from one place, and hook.mix=true mixes several: set "
                "both to null, or train on one layer by hook.layer="
            )
            return problems
        if sae.recipe.scaling == "layer_norm" and origin.places.layer_units != "none":
            problems.append(
                f"sae.scaling=layer_norm brings each row to one size by itself, from which hook.layer_units="
                f"{origin.places.layer_units} cannot be taken back. Set hook.layer_units=none, or sae.scaling=variance"
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
