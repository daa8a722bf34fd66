"""The `sae` node: flat keys, sorted to the architecture, the objective's terms and the recipe by their constructors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.commands.binding import bind, conforms, describe, make, nearest, parameters_of, typed
from sae.formats.registry import ARCHITECTURES
from sae.losses.objective import Objective
from sae.losses.registry import TERMS
from sae.training.recipe import Recipe

__all__ = ["SAENode", "read_sae_node"]


@dataclass(frozen=True, kw_only=True)
class SAENode:
    """One SAE as configured.

    Attributes:
        architecture: its name in the registry.
        expansion: d_sae / d_in; null where `d_sae` is given.
        d_sae: number of latents; null where `expansion` is given.
        architecture_arguments: keywords of the architecture, beside the sizes.
        terms: term -> its constructor's keywords.
        coefficients: term -> (coefficient, warm-up as a fraction of the budget).
        recipe: training settings.
    """

    architecture: str
    expansion: float | None
    d_sae: int | None
    architecture_arguments: dict[str, Any]
    terms: dict[str, dict[str, Any]]
    coefficients: dict[str, tuple[float, float]]
    recipe: Recipe

    def width(self, d_in: int) -> int:
        """Number of latents for inputs of this width."""
        return self.d_sae if self.d_sae is not None else round((self.expansion or 0) * d_in)

    def build(self, d_in: int) -> tuple[SparseAutoencoder, Objective]:
        """The module and its objective, for inputs of this width."""
        sae = ARCHITECTURES[self.architecture](d_in=d_in, d_sae=self.width(d_in), **self.architecture_arguments)
        return sae, Objective({name: TERMS[name](**arguments) for name, arguments in self.terms.items()})


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
    of_architecture = {key: value for key, value in parameters_of(ARCHITECTURES[name]).items() if key not in ("d_in", "d_sae")}
    of_recipe = parameters_of(Recipe)
    of_terms = {
        f"{term}_{key}": parameter.annotation
        for term, maker in TERMS.items()
        for key, parameter in {**parameters_of(maker), **parameters_of(_term_settings)}.items()
    }
    rest = {key: value for key, value in node.items() if key not in ("name", "expansion", "d_sae")}
    for key, value in rest.items():
        if key in of_terms and not conforms(value, of_terms[key]):
            problems.append(f"sae.{key}: expected {describe(of_terms[key])}, got {value!r} ({type(value).__name__})")
        if key not in of_architecture and key not in of_recipe and key not in of_terms:
            known = [*of_architecture, *of_recipe, *of_terms, "expansion", "d_sae", "name"]
            problems.append(f"sae.{key}: there is no such key for {name}.{nearest(key, known)}")
    architecture_arguments = {key: value for key, value in rest.items() if key in of_architecture}
    recipe_arguments = {key: value for key, value in rest.items() if key in of_recipe}
    problems += bind("sae", architecture_arguments, of_architecture)
    recipe_problems = bind("sae", recipe_arguments, of_recipe)
    problems += recipe_problems
    _check_size(node, problems)
    coefficients, terms = _read_terms(rest, problems)
    recipe = None if recipe_problems else make(lambda: Recipe(**typed(recipe_arguments, of_recipe)), problems)
    if recipe is None or len(problems) > before:
        return None
    return SAENode(
        architecture=str(name),
        expansion=None if node.get("expansion") is None else float(node["expansion"]),
        d_sae=node.get("d_sae"),
        architecture_arguments=typed(architecture_arguments, of_architecture),
        terms=terms,
        coefficients=coefficients,
        recipe=recipe,
    )


def _term_settings(*, coefficient: float | None, warmup: float = 0.0) -> None:
    """What every term has beside its constructor's keywords; a term without a coefficient is off."""


def _read_terms(
    rest: Mapping[str, Any], problems: list[str]
) -> tuple[dict[str, tuple[float, float]], dict[str, dict[str, Any]]]:
    coefficients: dict[str, tuple[float, float]] = {}
    terms: dict[str, dict[str, Any]] = {}
    for term, maker in TERMS.items():
        parameters = parameters_of(maker, _term_settings)
        given = {key.removeprefix(f"{term}_"): value for key, value in rest.items() if key.startswith(f"{term}_")}
        own = typed({key: value for key, value in given.items() if key in parameters}, parameters)
        coefficient = own.pop("coefficient", 1.0 if term == "mse" else None)
        warmup = own.pop("warmup", 0.0)
        if coefficient is None:
            continue
        if isinstance(coefficient, float) and coefficient < 0:
            problems.append(f"sae.{term}_coefficient must not be negative, got {coefficient:g}")
        if isinstance(warmup, float) and not 0 <= warmup <= 1:
            problems.append(f"sae.{term}_warmup is a fraction of the budget in 0..1, got {warmup:g}")
        terms[term], coefficients[term] = own, (coefficient, warmup)
    return coefficients, terms


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
