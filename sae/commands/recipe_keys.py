"""The keys of an `sae` node that describe its training: those that somebody chose, that do not fit, that nothing comes of."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.architectures.initialise import own_parameter
from sae.commands.binding import parameters_of
from sae.commands.overrides import conf_folder
from sae.losses.reconstruction import MultiTopK
from sae.training.recipe import Budget, Recipe

__all__ = ["chosen_keys", "misfits", "misfits_of_budget", "other_units", "without_effect"]

OTHER_UNITS = ("unit", "none")  # scalings that do not bring rows to a size that goes with sqrt(d_in)

log = logging.getLogger(__name__)


def chosen_keys(rest: Mapping[str, Any], *, written: Mapping[str, Any]) -> frozenset[str]:
    """Keys of the recipe whose values are neither those of the architecture's own file nor brought by an experiment.

    Null and an empty list ask for nothing and are not among them. A node does not say who wrote a value: one that was typed and
    is the file's or some experiment's own passes for brought.

    Args:
        rest: keys and values of the node.
        written: those of the architecture's own file.
    """
    known = parameters_of(Recipe)
    own = {key for key, value in rest.items() if key in known and value not in (None, [], ()) and value != written.get(key)}
    return frozenset(key for key in own if rest[key] not in _of_experiments().get(key, ()))


@cache
def _of_experiments() -> Mapping[str, Sequence[Any]]:
    """Every value that an experiment gives a key of its `sae` node."""
    import yaml

    found: dict[str, list[Any]] = {}
    for file in (conf_folder() / "experiment").glob("*.yaml"):
        for key, value in (yaml.safe_load(file.read_text(encoding="utf-8")).get("sae") or {}).items():
            found.setdefault(key, []).append(value)
    return found


def other_units(rest: Mapping[str, Any], *, written: Mapping[str, Any]) -> list[str]:
    """What the architecture's own file gives for rows of its own scaling, beside another that makes it mean something else.

    Args:
        rest: keys and values of the node.
        written: those of the architecture's own file.
    """
    scaling, own = rest.get("scaling"), written.get("scaling")
    of_rows = ("threshold_start", "bandwidth", *(["l0_coefficient"] if rest.get("l0_steering") == "price" else []))
    kept = [key for key in of_rows if written.get(key) is not None and rest.get(key) == written[key]]
    if scaling not in OTHER_UNITS or "threshold_start" not in written or not kept:
        return []
    size = "1" if scaling == "unit" else "their root mean square distance from their mean"
    return [
        f"sae.scaling={scaling} with {', '.join(f'sae.{key}={rest[key]:g}' for key in kept)}: these are for rows of "
        f"sae.scaling={own}, and with others JumpReLU hardly trains. Set sae.scaling={own}, or give all of "
        f"{', '.join(f'sae.{key}' for key in of_rows)} for these rows: lengths (and sae.pre_act_coefficient) times s / "
        f"sqrt(d_in), sae.l0_coefficient times s^2 / d_in, with s = {size}"
    ]


def misfits(
    sae: SparseAutoencoder, recipe: Recipe, terms: Mapping[str, Mapping[str, Any]], *, name: str, goes_downstream: bool
) -> list[str]:
    """Settings that the architecture cannot follow.

    Args:
        sae: what is trained.
        recipe: how.
        terms: of its objective, with their settings.
        name: of the architecture.
        goes_downstream: whether one of the terms goes on through the model.
    """
    problems = []
    if recipe.scaling == "layer_norm" and "layer_norm" not in parameters_of(type(sae)):
        problems.append(f"scaling=layer_norm is not for {name}, whose rows it could not bring back: take scaling=variance")
    if sae.num_active is None and recipe.k_anneal > 0:
        problems.append(f"k_anneal={recipe.k_anneal:g} has no meaning for an SAE without k: set k_anneal=0")
    if sae.num_active is not None and recipe.k_anneal_from is not None and recipe.k_anneal_from > sae.d_sae:
        problems.append(f"k_anneal_from={recipe.k_anneal_from} is more than the {sae.d_sae} latents")
    if sae.num_active is not None and recipe.k_anneal > 0 and (recipe.k_anneal_from or sae.num_active) < sae.num_active:
        problems.append(
            f"k_anneal_from={recipe.k_anneal_from} is less than k={sae.num_active}, and k comes down while it is annealed: "
            "set k_anneal_from above k, or k_anneal=0"
        )
    if sae.num_active is not None and recipe.k_anneal > 0 and "multi_topk" in terms:
        multiple = terms["multi_topk"].get("multiple", parameters_of(MultiTopK)["multiple"].default)
        most, start = multiple * sae.num_active, recipe.k_anneal_from or min(sae.d_in, sae.d_sae)
        if start > most:
            problems.append(
                f"k_anneal={recipe.k_anneal:g} from k={start} with multi_topk_coefficient: it reconstructs from "
                f"multi_topk_multiple * k = {most} latents and is to be the denser of the two. Set k_anneal_from to {most} "
                "or less, or multi_topk_coefficient=null"
            )
    if recipe.tied_init and sae.d_in != sae.d_out:
        problems.append(
            f"tied_init=true: input and target differ in width ({sae.d_in} and {sae.d_out}), so that the encoder cannot "
            "start as the decoder's transpose. Set tied_init=false"
        )
    if recipe.tied_init and len(sae.connections) > 1:
        problems.append(
            f"tied_init=true: latents of {name} read one layer and write several, so that the encoder cannot start as the "
            "decoder's transpose. Set tied_init=false"
        )
    if recipe.b_enc_init != "zero" and "b_enc" not in dict(sae.named_parameters(recurse=False)):
        problems.append(f"b_enc_init={recipe.b_enc_init}: {name} has no encoder bias. Set b_enc_init=zero")
    if goes_downstream and "widths" in parameters_of(type(sae)):
        problems.append(
            f"kl_coefficient and downstream_coefficient go on from one place, and {name} reconstructs several: set both to null"
        )
    return problems


def without_effect(
    sae: SparseAutoencoder, recipe: Recipe, chosen: frozenset[str], *, revives: bool, calibrates: bool
) -> list[str]:
    """Settings of the recipe that somebody chose and that would be passed over.

    Args:
        sae: to be trained.
        recipe: its training settings.
        chosen: keys that somebody chose.
        revives: whether a term brings dead latents back, and asks which are dead.
        calibrates: whether thresholds are set after the last step.
    """
    selects = sae.batch_threshold is not None
    # Keys, whether what they act by is there, and what is said where it is not.
    acts = (
        (("k_anneal_from", "k_anneal_shape"), recipe.k_anneal > 0, "k_anneal is 0. Set it above 0 too"),
        (
            ("resample_window", "resample_window_tokens", "resample_encoder_norm", "resample_firing_share"),
            len(recipe.resample_at) > 0,
            "resample_at is empty, and no latent is resampled. Set it too",
        ),
        (
            ("tied_init", "encoder_scale", "resample_encoder_norm"),
            own_parameter(sae, "W_enc") is not None,
            "the encoder follows the decoder, and has no start of its own. Take another architecture",
        ),
        (
            ("resample_firing_share",),
            own_parameter(sae, "b_enc") is not None,
            "there is no encoder bias. Take another architecture",
        ),
        (
            ("threshold_memory",),
            selects,
            "there is no running threshold, since nothing is selected over the batch. Take an architecture that does",
        ),
        (
            ("calibration_rows",),
            selects or calibrates,
            "no threshold is set after the last step. Take an architecture that selects over the batch, or learn thresholds to "
            "an l0_target",
        ),
        (("variance_share",), recipe.directions == "active_subspace", "no span is sought. Set directions=active_subspace too"),
        (
            ("revive_window", "revive_window_tokens"),
            revives,
            "no term asks which latents are dead. Give one of auxk_coefficient, ghost_coefficient, or pre_act_coefficient with "
            "pre_act_dead_only=true",
        ),
    )
    problems = [
        f"{key}={getattr(recipe, key)} would have no effect: {why}, or leave this out"
        for keys, there, why in acts
        for key in keys
        if key in chosen and not there
    ]
    by_windows = {"resample_window": recipe.resample_window_tokens, "revive_window": recipe.revive_window_tokens}
    problems += [
        f"{key}={getattr(recipe, key):g} would have no effect beside {key}_tokens={tokens}: leave one of them out"
        for key, tokens in by_windows.items()
        if key in chosen and tokens is not None
    ]
    return problems


def misfits_of_budget(recipe: Recipe, budget: Budget, chosen: frozenset[str]) -> list[str]:
    """What a budget leaves no room for.

    Times of resampling that come together are refused where somebody chose them; those of a file, which short trials share,
    are told in the log.

    Args:
        recipe: training settings.
        budget: of the run.
        chosen: keys that somebody chose.
    """
    problems = [
        f"sae.{key}={getattr(recipe, key)} is longer than the budget of {budget.train_tokens} rows, and no latent could be "
        "silent for so long. Lower it, or leave it out"
        for key in ("resample_window_tokens", "revive_window_tokens", "dead_window_tokens")
        if key in chosen and getattr(recipe, key) > budget.train_tokens
    ]
    own_steps = {budget.step_at(fraction) for fraction in recipe.resample_at} - {0}
    if len(own_steps) < len(recipe.resample_at):
        said = (
            f"sae.resample_at={list(recipe.resample_at)} names {len(recipe.resample_at)} times, and in {budget.steps} steps "
            f"latents would be resampled {len(own_steps)} times: others fall into the same step, or before the first"
        )
        if "resample_at" in chosen:
            problems.append(f"{said}. Name fewer, or give more steps")
        else:
            log.info(said)
    return problems
