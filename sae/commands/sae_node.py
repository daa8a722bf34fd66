"""The `sae` node: flat keys, sorted to the architecture, the objective's terms and the recipe by their constructors."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sae.architectures.base import SparseAutoencoder
from sae.commands.binding import bind, conforms, describe, make, nearest, parameters_of, typed
from sae.commands.objective_keys import (
    AUTO,
    REDUCTION,
    PerDimension,
    aimless,
    of_terms,
    read_terms,
    unused,
    with_target,
    with_widths,
)
from sae.commands.overrides import conf_folder
from sae.commands.recipe_keys import chosen_keys, misfits, other_units, without_effect
from sae.errors import UserError
from sae.formats.registry import ARCHITECTURES, FITTED
from sae.losses.control import CoefficientControl
from sae.losses.objective import Objective, Reduction
from sae.losses.registry import TERMS, terms_for
from sae.losses.term import Particular
from sae.training.recipe import Recipe

__all__ = ["SAENode", "known_keys", "read_sae_node"]

# Arguments of architectures that are no keys of the node: sizes, and layer norm, which `sae.scaling=layer_norm` says.
FROM_THE_RUN = ("d_in", "d_out", "widths", "target_widths", "d_sae", "layer_norm")
AUTO_TARGET, AUTO_SHARE = 48.0, 8  # sae.l0_target=auto: so many latents, or one of so many where that is fewer


@dataclass(frozen=True, kw_only=True)
class SAENode:
    """One SAE as configured.

    Attributes:
        architecture: its name in the registry.
        expansion: d_sae / d_in; null where `d_sae` is given.
        d_sae: number of latents; null where `expansion` is given.
        architecture_arguments: keywords of the architecture, beside the sizes.
        terms: term -> its constructor's keywords.
        coefficients: term -> (coefficient, warm-up as a fraction of the budget), as they are written.
        reduction: of every squared error, over dimensions.
        begins_by_rows: whether nobody gave the coefficient that is steered: it begins by the rows' deviation and the reduction.
        steered_to: L0 that the coefficients of sparsity are steered to; `auto`: one that suits the width; None: they stay.
        recipe: training settings.
        chosen: keys of the recipe whose values neither the architecture's own file nor an experiment brings.
    """

    architecture: str
    expansion: float | None
    d_sae: int | None
    architecture_arguments: dict[str, Any]
    terms: dict[str, dict[str, Any]]
    coefficients: dict[str, tuple[float | PerDimension, float]]
    reduction: Reduction
    begins_by_rows: bool
    steered_to: float | Literal["auto"] | None
    recipe: Recipe
    chosen: frozenset[str]

    @property
    def goes_downstream(self) -> bool:
        """Whether a term of the objective goes on through the model."""
        return any(term in self.terms for term in terms_for("end_to_end"))

    def width(self, widths: Sequence[int]) -> int:
        """Number of latents for an input of this width, or for several activations side by side.

        `expansion` is of the first of several, whose latents they share; where each layer has latents of its own
        (`target_widths`), each has as many as the first.
        """
        if self.d_sae is not None:
            return self.d_sae
        times = len(widths) if "target_widths" in parameters_of(ARCHITECTURES[self.architecture]) else 1
        return times * round((self.expansion or 0) * widths[0])

    def coefficients_at(self, d_in: int) -> dict[str, tuple[float, float]]:
        """The coefficients for an input of this width (of all of it, where it is several activations), with their warm-ups."""
        return {
            term: (value.at(d_in) if isinstance(value, PerDimension) else value, warmup)
            for term, (value, warmup) in self.coefficients.items()
        }

    def build(
        self,
        d_in: int,
        *,
        d_out: int | None = None,
        widths: Sequence[int] | None = None,
        target_widths: Sequence[int] | None = None,
    ) -> tuple[SparseAutoencoder, Objective]:
        """The module and its objective, each fit for the other.

        Args:
            d_in: width of the input; of all of it, where it is several activations side by side.
            d_out: width of the target, for an architecture that has one of its own; None: d_in.
            widths: width of each activation, for an architecture that reads several; None: d_in alone.
            target_widths: width of each target, for an architecture that predicts several; None: `widths`.

        Raises:
            UserError: the settings do not make an SAE of this size, or do not go together; in the keys of the node.
        """
        maker = ARCHITECTURES[self.architecture]
        widths = tuple(widths or (d_in,))
        sizes = {"d_in": d_in, "d_out": d_in if d_out is None else d_out, "widths": widths}
        sizes["target_widths"] = widths if target_widths is None else tuple(target_widths)
        wanted = {key: value for key, value in sizes.items() if key in parameters_of(maker)}
        d_sae = self.width(widths)
        mistakes: list[str] = []
        sae = make(lambda: maker(**wanted, d_sae=d_sae, **self.architecture_arguments), mistakes)
        terms = {name: make(partial(TERMS[name], **arguments), mistakes) for name, arguments in self.terms.items()}
        control = None if self.steered_to is None else make(partial(self._control, d_sae), mistakes)
        if sae is not None:
            for part in (*terms.values(), control):
                if isinstance(part, Particular):
                    make(partial(part.check, sae), mistakes)
            mistakes += misfits(sae, self.recipe, self.terms, name=self.architecture, goes_downstream=self.goes_downstream)
            mistakes += without_effect(sae, self.recipe, self.chosen, revives=self._revives, calibrates=self._calibrates)
        if sae is None or mistakes:
            raise UserError("\n".join(self._in_keys(mistake) for mistake in mistakes))
        on = {name: term for name, term in terms.items() if term is not None}
        return sae, Objective(on, control=control, reduction=self.reduction)

    @property
    def _revives(self) -> bool:
        """Whether a term asks which latents are dead."""
        return "auxk" in self.terms or "ghost" in self.terms or self.terms.get("pre_act", {}).get("dead_only", False)

    @property
    def _calibrates(self) -> bool:
        """Whether learnt thresholds are steered to an L0."""
        return self.terms.get("l0", {}).get("target") is not None and self.coefficients["l0"][0] != 0

    def _control(self, d_sae: int) -> CoefficientControl:
        """Of the penalties' coefficients."""
        assert self.steered_to is not None
        target = min(AUTO_TARGET, d_sae / AUTO_SHARE) if self.steered_to == "auto" else self.steered_to
        steered = tuple(name for name in terms_for("sparsity") if name in self.terms)
        ramped = max(self.coefficients[name][1] for name in steered)
        return CoefficientControl(target=target, terms=steered, ramped=ramped, follows_rows=self.begins_by_rows)

    def _in_keys(self, message: str) -> str:
        """A message of a constructor with the user's keys in it: `sae.k` for `k`."""
        keys = "|".join(sorted([*known_keys(self.architecture), "d_sae", "expansion"], key=len, reverse=True))
        return re.sub(rf"(?<![\w.])({keys})(?!\w)", r"sae.\1", message)


def read_sae_node(node: Mapping[str, Any], problems: list[str]) -> SAENode | None:
    """Sort the keys of an `sae` node.

    Args:
        node: flat keys and values.
        problems: sentences are added for all that is wrong.

    Returns:
        The sorted node, or None if something is wrong.
    """
    before = len(problems)
    name = node.get("name")
    if name not in ARCHITECTURES:
        problems.append(f"sae.name: there is no architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
        return None
    if name in FITTED:
        problems.append(f"sae.name={name} is not trained by gradient: {FITTED[name]} fits it")
        return None
    of_architecture, of_recipe, of_term = _of_architecture(name), parameters_of(Recipe), of_terms()
    given = {key: value for key, value in node.items() if key not in ("name", "expansion", "d_sae")}
    written = _own_file(str(name))
    rest = with_target(with_widths(given), k=of_architecture.get("k"), written=with_widths(written))
    steers = rest.get("l0_coefficient") is None  # where it is the term `l0` that has a target, it is a number
    for key, value in rest.items():
        if key in of_term and not conforms(value, of_term[key]) and not (steers and (key, value) == ("l0_target", AUTO)):
            problems.append(f"sae.{key}: expected {describe(of_term[key])}, got {value!r} ({type(value).__name__})")
        if key not in of_architecture and key not in of_recipe and key not in of_term:
            known = [*of_architecture, *of_recipe, *of_term, "expansion", "d_sae", "name"]
            problems.append(f"sae.{key}: there is no such key for {name}.{nearest(key, known)}")
    architecture_arguments = {key: value for key, value in rest.items() if key in of_architecture}
    recipe_arguments = {key: value for key, value in rest.items() if key in of_recipe}
    problems += bind("sae", architecture_arguments, of_architecture)
    recipe_problems = bind("sae", recipe_arguments, of_recipe)
    problems += recipe_problems
    _check_size(node, problems)
    coefficients, terms = read_terms(rest, problems)
    if any(term in terms for term in terms_for("end_to_end")) and rest.get("resample_at"):
        problems.append(
            f"sae.resample_at={list(rest['resample_at'])} with sae.kl_coefficient or sae.downstream_coefficient: latents are "
            "resampled by the loss of single rows, which end-to-end losses do not have; set sae.resample_at=[]"
        )
    recipe = None if recipe_problems else make(lambda: Recipe(**typed(recipe_arguments, of_recipe)), problems)
    problems += unused(rest, terms, listed=written)
    problems += other_units(rest, written=written)
    problems += aimless(str(name), rest, terms, coefficients, recipe, k=of_architecture.get("k"))
    if recipe is None or len(problems) > before:
        return None
    return SAENode(
        architecture=str(name),
        expansion=None if node.get("expansion") is None else float(node["expansion"]),
        d_sae=node.get("d_sae"),
        architecture_arguments=typed(architecture_arguments, of_architecture),
        terms=terms,
        coefficients=coefficients,
        reduction=rest.get(REDUCTION, "sum"),
        begins_by_rows="l1" in terms and given.get("l1_coefficient") is None,
        steered_to=None if "l0" in terms else _target(rest.get("l0_target")),
        recipe=recipe,
        chosen=chosen_keys(rest, written=written),
    )


def _target(value: Any) -> float | Literal["auto"] | None:
    """`l0_target` as a node holds it."""
    return value if value is None or value == AUTO else float(value)


def known_keys(architecture: object) -> list[str]:
    """Every key that an `sae` node of this architecture may have, beside its name and sizes; none for an unknown one."""
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        return []
    return [*_of_architecture(architecture), *parameters_of(Recipe), *of_terms()]


def _of_architecture(name: str) -> dict[str, inspect.Parameter]:
    return {key: value for key, value in parameters_of(ARCHITECTURES[name]).items() if key not in FROM_THE_RUN}


def _own_file(name: str) -> Mapping[str, Any]:
    """`conf/sae/NAME.yaml`; nothing where an architecture has no such file."""
    import yaml

    file = conf_folder() / "sae" / f"{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _check_size(node: Mapping[str, Any], problems: list[str]) -> None:
    expansion, d_sae = node.get("expansion"), node.get("d_sae")
    if expansion is not None and d_sae is not None:
        problems.append(
            f"sae.expansion={expansion} and sae.d_sae={d_sae} are both given: give one (sae.expansion=null goes with sae.d_sae)"
        )
    elif expansion is None and d_sae is None:
        problems.append("sae.expansion and sae.d_sae are both null: give one, for example sae.expansion=8")
    for key, value, kind in (("expansion", expansion, float), ("d_sae", d_sae, int)):
        if value is None:
            continue
        if not conforms(value, kind):
            problems.append(f"sae.{key}: expected {describe(kind)}, got {value!r} ({type(value).__name__})")
        elif value <= 0:
            problems.append(f"sae.{key} must be above 0, got {value}")
