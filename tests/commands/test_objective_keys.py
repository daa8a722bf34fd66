"""What an objective may lack follows from what its terms say they are for."""

import pytest

from sae.commands.sae_node import read_sae_node
from sae.losses.registry import TERMS
from tests.training.nodes import keys_of


class Slope:
    """A term that somebody adds."""

    def __init__(self, *, steepness: float = 1.0) -> None:
        self.steepness = steepness

    def __call__(self, sae, output, target, info=None):
        return self.steepness * output.latent_acts.sum(dim=-1)


def problems_of(architecture="relu", **changes):
    problems = []
    read_sae_node(keys_of(architecture) | changes, problems)
    return problems


@pytest.mark.parametrize(
    ("role", "off", "said"),
    [
        ("sparsity", "l1", None),
        ("auxiliary", "l1", "nothing makes latents few: set one of sae.l1_coefficient"),
        ("reconstruction", "l1", "nothing makes latents few: set one of sae.l1_coefficient"),
        ("reconstruction", "mse", None),
        ("auxiliary", "mse", "nothing asks for a reconstruction: set one of sae.mse_coefficient"),
        ("sparsity", "mse", "nothing asks for a reconstruction: set one of sae.mse_coefficient"),
    ],
)
def test_a_new_term_serves_by_its_role_alone(role, off, said, monkeypatch):
    monkeypatch.setattr(Slope, "role", role, raising=False)
    monkeypatch.setitem(TERMS, "slope", Slope)
    problems = problems_of(**{f"{off}_coefficient": None, "slope_coefficient": 1.0})
    assert problems == [] if said is None else [said in problem for problem in problems] == [True], problems


def test_a_new_term_without_a_role_is_told_at_once(monkeypatch):
    monkeypatch.setitem(TERMS, "slope", Slope)
    with pytest.raises(AttributeError, match="role"):
        problems_of()


def test_an_end_to_end_term_may_be_the_only_reconstruction_and_needs_a_model(monkeypatch):
    monkeypatch.setattr(Slope, "role", "end_to_end", raising=False)
    monkeypatch.setitem(TERMS, "slope", Slope)
    problems = []
    node = read_sae_node(keys_of("relu") | {"mse_coefficient": None, "slope_coefficient": 1.0, "resample_at": []}, problems)
    assert problems == []
    assert node is not None
    assert node.goes_downstream


def test_l0_is_named_where_thresholds_can_be_learnt():
    (problem,) = problems_of("relu", l1_coefficient=None)
    assert "sae.l0_coefficient" not in problem
    (problem,) = problems_of("jumprelu", l0_coefficient=None, l0_target=None)
    assert "set one of sae.l0_coefficient, sae.l1_coefficient" in problem
