"""What a contributor may add, through the whole contract; and each thing that may be forgotten, caught by it."""

import inspect
import itertools

import pytest
import torch

from sae.architectures.activation_functions.base import ActivationFunction
from sae.architectures.affine import AffineSAE
from sae.architectures.checks import check_size
from sae.formats.registry import ARCHITECTURES
from tests.architectures import test_contract
from tests.cases import JUMP, Case


class SoftThreshold(ActivationFunction):
    """latent_acts = relu(pre_acts - theta): beside ReLU's, an activation whose learnt parameter has a true gradient."""

    def __init__(self, *, d_sae, start):
        super().__init__()
        check_size("d_sae", d_sae)
        self.start, self.theta = start, torch.nn.Parameter(torch.full((d_sae,), start))

    def forward(self, pre_acts):
        return torch.relu(pre_acts - self.theta)

    def pick(self, product):
        return product.above(self.theta.detach())

    def activate(self, picked):
        return picked.map(lambda values: torch.relu(values - self.theta.index_select(0, picked.indices)))

    def thresholds(self):
        return [(self.theta, 0)]

    @torch.no_grad()
    def scale_(self, factor):
        self.theta.mul_(factor)

    @torch.no_grad()
    def reset_(self, latents):
        self.theta.masked_fill_(latents, self.start)

    @torch.no_grad()
    def constrain_(self):
        self.theta.clamp_(min=0)


class SoftThresholdSAE(AffineSAE):
    def __init__(self, *, d_in: int, d_sae: int, start: float = 0.2, apply_b_dec_to_input: bool = True):
        super().__init__(
            SoftThreshold(d_sae=d_sae, start=start), d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input
        )
        self.start = start


@pytest.fixture
def case(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "soft_threshold", SoftThresholdSAE)
    return Case("soft_threshold", "soft_threshold", {"start": 0.25})


PROMISES = {
    name: function
    for name, function in vars(test_contract).items()
    if name.startswith("test_") and "case" in inspect.signature(function).parameters
}


def hold(name, case, tmp_path):
    """One test of the contract, in all its variants."""
    function, variants = PROMISES[name], []
    for mark in function.pytestmark:
        if mark.name == "parametrize" and mark.args[0] != "case":
            variants.append([{mark.args[0]: value} for value in mark.args[1]])
    for number, chosen in enumerate(itertools.product(*variants)):
        arguments = {"case": case} | {key: value for one in chosen for key, value in one.items()}
        if "tmp_path" in inspect.signature(function).parameters:
            arguments["tmp_path"] = tmp_path / str(number)
        function(**arguments)


@pytest.mark.parametrize("name", PROMISES)
def test_a_new_activation_function_with_learnt_parameters_keeps_the_contract(name, case, tmp_path):
    hold(name, case, tmp_path)


@pytest.mark.parametrize(
    ("forgotten", "caught_by"),
    [
        ("activate", "test_sparse_form_equals_dense_in_values_and_gradients"),
        ("activate", "test_the_sparse_pass_of_training_equals_the_dense_one"),
        ("thresholds", "test_latent_parameters_are_all_that_have_a_latent_axis"),
        ("thresholds", "test_scaled_thresholds_are_multiplied_and_nothing_else_is"),
        ("scale_", "test_folded_scale_takes_raw_activations"),
        ("scale_", "test_scaled_thresholds_are_multiplied_and_nothing_else_is"),
        ("reset_", "test_reset_latents_touches_those_latents_alone"),
        ("constrain_", "test_learnt_thresholds_stay_in_range_after_an_absurd_update"),
    ],
)
def test_what_it_forgets_is_caught(forgotten, caught_by, case, tmp_path, monkeypatch):
    monkeypatch.setattr(SoftThreshold, forgotten, getattr(ActivationFunction, forgotten))
    with pytest.raises(AssertionError):
        hold(caught_by, case, tmp_path)


@pytest.mark.parametrize(
    ("name", "case", "told"),
    [
        (
            "test_gradients_match_finite_differences",
            Case("jump", "jumprelu", JUMP),
            "jump in tests/cases.py must say smooth=False",
        ),
        (
            "test_gradients_reach_every_parameter_that_should_move",
            Case("gate", "gated", {}),
            "b_enc has no gradient .* `still` of gate in tests/cases.py must name it",
        ),
        (
            "test_gradients_reach_every_parameter_that_should_move",
            Case("plain", "relu", {}, still=("b_enc",)),
            "b_enc has a gradient .* `still` of plain in tests/cases.py must not name it",
        ),
    ],
)
def test_a_line_that_says_the_wrong_thing_is_told_the_right_one(name, case, told, tmp_path):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=told):
        hold(name, case, tmp_path)
