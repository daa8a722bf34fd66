"""What an objective may lack follows from what its terms say they are for."""

import pytest
import torch

from sae.commands.objective_keys import L1_START
from sae.commands.sae_node import read_sae_node
from sae.losses.registry import TERMS
from sae.losses.term import StepInfo
from sae.training.recipe import Budget
from tests.training.nodes import every_node, keys_of, learner_of


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
    problems = problems_of(**{"l0_target": None, "l1_coefficient": 2.0, f"{off}_coefficient": None, "slope_coefficient": 1.0})
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
    (problem,) = problems_of("relu", l0_target=None)
    assert "sae.l0_coefficient" not in problem
    (problem,) = problems_of("jumprelu", l0_coefficient=None, l0_target=None)
    assert "set one of sae.l0_coefficient, sae.l1_coefficient" in problem


def node_of(architecture="relu", **changes):
    problems = []
    node = read_sae_node(keys_of(architecture) | changes, problems)
    assert problems == []
    assert node is not None
    return node


def target_of(node, d_in):
    _, objective = node.build(d_in)
    return None if objective.control is None else objective.control.target


def test_l1_is_steered_where_nothing_is_said():
    node = node_of()
    assert node.coefficients["l1"] == (L1_START, 0.05)
    assert target_of(node, 100) == 48
    assert target_of(node, 30) == 30  # an eighth of the latents


def test_a_coefficient_that_is_given_stays():
    for node in (node_of(l1_coefficient=4.0), node_of(tanh_coefficient=6.0), node_of(l1_coefficient=0.5, l0_target=None)):
        assert node.steered_to is None
    assert "l1" not in node_of(tanh_coefficient=6.0).terms


def test_a_target_that_is_given_steers_what_is_given_or_l1():
    assert node_of(l0_target=20).coefficients["l1"][0] == L1_START
    assert node_of(l0_target=20, l1_coefficient=4.0).coefficients["l1"][0] == 4.0
    assert target_of(node_of(l0_target=20, l1_coefficient=4.0), 100) == 20
    assert set(node_of("gated", l0_target=20, l1_coefficient=None).coefficients) >= {"l1"}


@pytest.mark.parametrize("changes", [{}, {"l1_coefficient": 4.0}, {"l1_coefficient": None}])
@pytest.mark.parametrize("architecture", ["gated", "crosscoder"])
def test_an_auto_that_the_file_does_not_say_is_steered_to(architecture, changes):
    node = node_of(architecture, l0_target="auto", d_sae=160, expansion=None, **changes)
    _, objective = node.build(20, widths=(10, 10))
    assert objective.control is not None
    assert objective.control.target == 20
    assert node.coefficients["l1"][0] == (changes.get("l1_coefficient", 2.25) or L1_START)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("jumprelu", "sae.l0_target: expected a finite number or null, got 'auto' (str)"),
        ("topk", "sae.l0_target=auto: sae.k=64 fixes how many latents topk keeps"),
    ],
)
def test_an_auto_that_cannot_be_steered_to_is_told(architecture, said):
    assert [said in problem for problem in problems_of(architecture, l0_target="auto")] == [True]


def test_a_coefficient_may_be_divided_by_the_width_of_the_input():
    node = node_of(l1_coefficient="2.25/d_in")
    assert node.steered_to is None
    assert [node.coefficients_at(d_in)["l1"] for d_in in (9, 900)] == [(0.25, 0.05), (0.0025, 0.05)]
    assert node.coefficients_at(9)["mse"] == (1.0, 0.0)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2.25/d_out", "sae.l1_coefficient: expected a finite number or NUMBER/d_in or null, got '2.25/d_out'"),
        ("some/d_in", "sae.l1_coefficient: expected a finite number or NUMBER/d_in or null, got 'some/d_in'"),
        ("inf/d_in", "sae.l1_coefficient: expected a finite number or NUMBER/d_in or null, got 'inf/d_in'"),
        ("-1/d_in", "sae.l1_coefficient must not be negative, got -1"),
        ("0/d_in", "nothing makes latents few: set one of sae.l1_coefficient"),
    ],
)
def test_a_coefficient_that_is_written_otherwise_is_told(written, said):
    assert [said in problem for problem in problems_of(l1_coefficient=written)] == [True]


@every_node
def test_a_mean_over_dimensions_is_the_same_loss_in_other_units(name):
    """Once the coefficients of what is no squared error are divided by d_out; all else is as the file says."""
    summed, averaged = (
        learner_of(name, d_in=6, d_sae=20, budget=Budget(train_tokens=640, batch_tokens=64), mse_reduction=reduction)
        for reduction in ("sum", "mean")
    )
    sae = summed.sae
    x, target = (torch.randn(16, width, generator=torch.Generator().manual_seed(1)) for width in (sae.d_in, sae.d_out))
    output, info = sae.forward_train(x), StepInfo(dead=torch.arange(sae.d_sae) % 2 == 0)
    by_sum = {term: value for term, (value, _) in summed.course.coefficients.items()}
    squared = ("mse", "nested", "multi_topk", "gate", "auxk", "ghost", "downstream")
    by_mean = {term: value if term in squared else value / sae.d_out for term, value in by_sum.items()}
    one, other = summed.objective(sae, output, target, by_sum, info), averaged.objective(sae, output, target, by_mean, info)
    torch.testing.assert_close(sae.d_out * other.total, one.total)


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("relu", {}, "sae.l1_weighting=none with sae.unit_norm_decoder=false"),
        ("relu", {}, "Set sae.l1_weighting=decoder_norm, or"),
        ("relu", {"tanh_coefficient": 1.0, "tanh_weighting": "none"}, "Set sae.tanh_weighting=decoder_norm, or"),
        ("gated", {}, "Set sae.l1_weighting=frozen_decoder_norm, or"),
        ("crosscoder", {"l1_coefficient": None, "lp_coefficient": 2.25}, "Set sae.lp_weighting=part_norms, or"),
        ("crosscoder", {"l1_weighting": "none"}, "Set sae.l1_weighting=part_norms, or"),
        (
            "cross_layer_transcoder",
            {"k": None, "activation": "relu", "lp_coefficient": 1.0},
            "Set sae.lp_weighting=decoder_norm",
        ),
    ],
)
def test_a_free_decoder_beside_a_penalty_that_does_not_know_its_norms_is_refused(architecture, changes, said):
    """Decoders would grow and activations shrink, at no gain in latents."""
    problems = problems_of(architecture, unit_norm_decoder=False, **changes)
    assert [said in problem for problem in problems] == [True], problems
    remedy, value = problems[0].split("Set sae.")[1].split(",")[0].split("=")
    assert problems_of(architecture, **changes | {"unit_norm_decoder": False, remedy: value}) == []


def test_a_free_decoder_beside_no_penalty_or_one_that_is_off_is_none_of_that():
    assert problems_of("topk", unit_norm_decoder=False) == []
    assert problems_of("jumprelu", unit_norm_decoder=False) == []
    assert problems_of("relu", unit_norm_decoder=False, l1_coefficient=0.0, tanh_coefficient=1.0) == []


@pytest.mark.parametrize("activation", ["topk", "batch_topk"])
def test_where_k_decides_a_penalty_that_the_file_brought_is_off_and_one_that_was_typed_stays(activation):
    chosen = {"activation": activation, "k": 4}
    assert set(node_of("crosscoder", **chosen).terms) == {"mse"}
    assert node_of("crosscoder", **chosen, l1_coefficient=1.5).coefficients["l1"][0] == 1.5
    assert node_of("crosscoder", **chosen, lp_coefficient=0.5, lp_weighting="part_norms").coefficients["lp"][0] == 0.5
    assert node_of("crosscoder").coefficients["l1"][0] == 2.25


def test_the_target_of_the_term_l0_is_off_with_it_and_one_that_was_typed_stays():
    other = {"l0_coefficient": None, "tanh_coefficient": 20.0}
    assert node_of("jumprelu", **other).steered_to is None
    assert node_of("jumprelu", **other, l0_target=32).steered_to == 32.0
    assert node_of("jumprelu").terms["l0"]["target"] == 64
    assert node_of("jumprelu", tanh_coefficient=20.0).terms["l0"]["target"] == 64
