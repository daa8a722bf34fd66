"""The keys of an `sae` node that describe its objective: `l1_coefficient`, `l1_warmup` and what a term's constructor takes."""

import inspect
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.gated import GatedSAE
from sae.commands.binding import parameters_of, typed
from sae.formats.registry import ARCHITECTURES
from sae.losses.objective import Reduction
from sae.losses.registry import TERMS, squared_errors, terms_for
from sae.training.recipe import Recipe

__all__ = [
    "AUTO",
    "L1_START",
    "REDUCTION",
    "PerDimension",
    "aimless",
    "of_terms",
    "read_terms",
    "unused",
    "with_target",
    "with_widths",
]

AUTO = "auto"  # of `l0_target`
REDUCTION = "mse_reduction"  # the one key that is of all squared errors together, named after the plainest
# Where L1's coefficient begins if it is steered and none is given, for rows of unit deviation and errors that are summed:
# `Objective.start_by_` brings it to others.
L1_START = 1.75


@dataclass(frozen=True)
class PerDimension:
    """A coefficient that is written `NUMBER/d_in`: known once the width of the input is.

    It serves beside a squared error that is a mean over dimensions, and for sources that divide by the width.
    """

    in_words: ClassVar[str] = "NUMBER/d_in"
    total: float

    def at(self, d_in: int) -> float:
        """The coefficient for an input of this width."""
        return self.total / d_in

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.total:g}/d_in"


def of_terms() -> dict[str, Any]:
    """Key -> type of every term's settings, and of the reduction."""
    of_each = {
        f"{term}_{key}": parameter.annotation
        for term, maker in TERMS.items()
        for key, parameter in {**parameters_of(maker), **parameters_of(_term_settings)}.items()
    }
    return {**of_each, REDUCTION: Reduction}


def with_widths(node: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a node with coefficients that are written `NUMBER/d_in` as such; what is written otherwise stays."""
    return {key: _per_dimension(value) if key.endswith("_coefficient") else value for key, value in node.items()}


def _per_dimension(value: Any) -> Any:
    if not isinstance(value, str) or not value.endswith("/d_in"):
        return value
    try:
        total = float(value.removesuffix("/d_in"))
    except ValueError:
        return value
    return PerDimension(total) if math.isfinite(total) else value


def with_target(rest: Mapping[str, Any], *, k: inspect.Parameter | None, written: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with what `l0_target` stands for, and with one law that makes latents few.

    What the architecture's own file says is off where something else has been asked for: a penalty where `k` decides and does
    not in the file, `auto` where a penalty or `k` does, and a number that is the term `l0`'s where that term is off. What
    differs from the file was asked for, and stays.

    A target without a penalty to steer steers L1, from a start that follows the rows, where the node has `l1_coefficient`.

    Args:
        rest: keys and values of the node.
        k: the architecture's keyword, where it has one; not null, it makes latents few.
        written: keys and values of the architecture's own file.
    """
    fixed = k is not None and rest.get("k", k.default) is not None
    penalties = [f"{term}_coefficient" for term in terms_for("sparsity")]
    meant = dict(rest)
    if fixed and written.get("k") is None:
        meant |= {key: None for key in penalties if key in rest and rest[key] == written.get(key)}
    given = fixed or any(meant.get(key) is not None for key in penalties)
    of_l0 = written.get("l0_coefficient") is not None
    is_own = rest.get("l0_target") == written.get("l0_target")
    if is_own and (rest.get("l0_coefficient") is None if of_l0 else given and written.get("l0_target") == AUTO):
        meant["l0_target"] = None
    if not given and meant.get("l0_target") is not None and "l1_coefficient" in rest:
        meant["l1_coefficient"] = L1_START
    return meant


def read_terms(
    rest: Mapping[str, Any], problems: list[str]
) -> tuple[dict[str, tuple[float | PerDimension, float]], dict[str, dict[str, Any]]]:
    """Coefficients and constructors' keywords of the terms that are on.

    Args:
        rest: keys and values of the node.
        problems: sentences are added for values out of range.
    """
    coefficients: dict[str, tuple[float | PerDimension, float]] = {}
    terms: dict[str, dict[str, Any]] = {}
    for term, maker in TERMS.items():
        parameters = parameters_of(maker, _term_settings)
        given = {key.removeprefix(f"{term}_"): value for key, value in rest.items() if key.startswith(f"{term}_")}
        own = typed({key: value for key, value in given.items() if key in parameters}, parameters)
        coefficient = own.pop("coefficient", 1.0 if term == "mse" else None)
        warmup = own.pop("warmup", 0.0)
        if coefficient is None:
            continue
        size = coefficient.total if isinstance(coefficient, PerDimension) else coefficient
        if isinstance(size, float) and size < 0:
            problems.append(f"sae.{term}_coefficient must not be negative, got {size:g}")
        if isinstance(warmup, float) and not 0 <= warmup <= 1:
            problems.append(f"sae.{term}_warmup is a fraction of the budget in 0..1, got {warmup:g}")
        terms[term], coefficients[term] = own, (coefficient, warmup)
    return coefficients, terms


def unused(rest: Mapping[str, Any], terms: Mapping[str, Any], *, listed: Container[str]) -> list[str]:
    """Settings of terms that are off, which would be passed over.

    Args:
        rest: keys and values of the node.
        terms: those that are on.
        listed: keys that the architecture's own file holds, with or without their terms.
    """
    averages = rest.get(REDUCTION) == "mean" and terms.keys().isdisjoint(squared_errors())
    problems = [f"sae.{REDUCTION}=mean: no squared error is on, and nothing would come of it. Take sum"] if averages else []
    return problems + [
        f"sae.{key}={rest[key]}: the term `{term}` is off, and nothing would come of it. Give sae.{term}_coefficient too, or "
        "leave this out"
        for term, maker in TERMS.items()
        if term not in terms
        for key in (f"{term}_{own}" for own in parameters_of(maker, _term_settings) if own != "coefficient")
        if key in rest and key not in listed and key != "l0_target"  # which is not to be passed over even where it is listed
    ]


def aimless(
    name: str,
    rest: Mapping[str, Any],
    terms: Mapping[str, Mapping[str, Any]],
    coefficients: Mapping[str, tuple[float | PerDimension, float]],
    recipe: Recipe | None,
    *,
    k: inspect.Parameter | None,
) -> list[str]:
    """What keeps an objective from asking for what an SAE is: a reconstruction from few latents.

    Args:
        name: of the architecture.
        rest: keys and values of the node.
        terms: those that are on -> their constructors' keywords.
        coefficients: of those terms.
        recipe: training settings; None where they are mistaken.
        k: the architecture's keyword, where it has one; not null, it makes latents few.
    """
    # What is out of range is told elsewhere.
    on = {term for term, (coefficient, _) in coefficients.items() if coefficient not in (0, PerDimension(0.0))}
    problems = []
    reconstruction, penalties = terms_for("reconstruction", "end_to_end"), terms_for("sparsity")
    if on.isdisjoint(reconstruction):
        keys = ", ".join(f"sae.{term}_coefficient" for term in reconstruction)
        problems.append(f"nothing asks for a reconstruction: set one of {keys} above 0 (sae.mse_coefficient=1.0)")
    if (k is None or rest.get("k", k.default) is None) and on.isdisjoint(penalties):
        keys = _coefficients_of_penalties(name)
        beside = "" if k is None else ", or choose by number (sae.activation=topk sae.k=64)"
        problems.append(f"nothing makes latents few: set one of {keys} above 0{beside}")
    if rest.get("l0_target") is not None and "l0" not in terms:
        problems += _nothing_to_steer(name, rest, on, k=k)
    if issubclass(ARCHITECTURES[name], GatedSAE):
        if "gate" not in on:
            problems.append(
                f"sae.gate_coefficient={rest.get('gate_coefficient')}: the gate learns to open from this term alone. Set it "
                "above 0 (1.0)"
            )
        l1 = terms.get("l1", {})
        shrinks = l1.get("weighting") == "decoder_norm" and l1.get("on") == "pre_acts"
        if recipe is not None and shrinks and not recipe.unit_norm_decoder and not rest.get("gate_through_decoder"):
            problems.append(
                "sae.l1_weighting=decoder_norm with sae.unit_norm_decoder=false and sae.gate_through_decoder=false: the "
                "decoder could shrink the gate's penalty, and nothing would hold it. Set sae.gate_through_decoder=true, or "
                "sae.l1_weighting=frozen_decoder_norm"
            )
    if recipe is not None and not recipe.unit_norm_decoder:
        problems += _shrunk_by_the_decoder(name, terms, on)
    if recipe is not None and recipe.scaling == "layer_norm" and any(term in terms for term in terms_for("end_to_end")):
        problems.append(
            "sae.scaling=layer_norm with sae.kl_coefficient or sae.downstream_coefficient: reconstructions of normalised rows "
            "cannot be put back into the model. Take sae.scaling=variance"
        )
    return problems


def _shrunk_by_the_decoder(name: str, terms: Mapping[str, Mapping[str, Any]], on: Container[str]) -> list[str]:
    """Penalties of activations alone beside a free decoder: as it grows they shrink, and nothing is gained by few latents."""
    architecture = ARCHITECTURES[name]
    held = "decoder_norm"
    if issubclass(architecture, CrosscoderSAE):
        held = "part_norms"
    elif issubclass(architecture, GatedSAE):
        held = "frozen_decoder_norm"  # a gradient of norms would need sae.gate_through_decoder too
    return [
        f"sae.{term}_weighting=none with sae.unit_norm_decoder=false: the decoder could grow and the penalty shrink, at no "
        f"gain in latents. Set sae.{term}_weighting={held}, or sae.unit_norm_decoder=true"
        for term, own in terms.items()
        for weighting in (parameters_of(TERMS[term]).get("weighting"),)
        if term in on and weighting is not None and own.get("weighting", weighting.default) == "none"
    ]


def _nothing_to_steer(name: str, rest: Mapping[str, Any], on: Container[str], *, k: inspect.Parameter | None) -> list[str]:
    """Why there is no L0 to steer to without the term `l0`, if so: it is fixed, or no penalty is on."""
    given, fixed = f"sae.l0_target={rest['l0_target']}", None if k is None else rest.get("k", k.default)
    if fixed is not None:
        return [
            f"{given}: sae.k={fixed} fixes how many latents {name} keeps. Set sae.k to the L0 that is wanted, and "
            "sae.l0_target=null"
        ]
    if all(term not in on for term in terms_for("sparsity")):
        keys = _coefficients_of_penalties(name)
        return [f"{given} steers nothing: no penalty is on. Set one of {keys} above 0, or sae.l0_target=null"]
    return []


def _coefficients_of_penalties(name: str) -> str:
    """Their keys: of `l0` only where thresholds can be learnt."""
    learns_thresholds = "threshold_start" in parameters_of(ARCHITECTURES[name])
    return ", ".join(f"sae.{term}_coefficient" for term in terms_for("sparsity") if term != "l0" or learns_thresholds)


def _term_settings(*, coefficient: float | PerDimension | None, warmup: float = 0.0) -> None:
    """What every term has beside its constructor's keywords; a term without a coefficient is off."""
