"""Keys of the recipe that nothing would come of: told where somebody chose them, not where a file brings them."""

import logging

import pytest
import torch

import sae
from sae.commands.sae_node import read_sae_node
from sae.errors import UserError
from tests.training.nodes import NAMES, keys_of, widths_of

D_IN, D_SAE = 64, 512


def mistakes_of(name, **changes):
    """What is said of the settings, when they are read or when the SAE is built."""
    problems = []
    node = read_sae_node(keys_of(name) | {"expansion": None, "d_sae": D_SAE} | changes, problems)
    if node is None:
        return "\n".join(problems)
    widths = widths_of(name, D_IN)
    several = "widths" in node_keywords(node)
    with torch.device("meta"):
        try:
            node.build(
                D_IN * (2 if several else 1),
                d_out=widths.get("layers.1.there", D_IN),
                widths=(D_IN, D_IN) if several else None,
            )
        except UserError as error:
            return str(error)
    return ""


def node_keywords(node):
    from sae.commands.binding import parameters_of
    from sae.formats.registry import ARCHITECTURES

    return parameters_of(ARCHITECTURES[node.architecture])


@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_brings_is_not_held_against_a_user(name):
    """Nor what an experiment brings, where the term or the times that it goes with are taken away."""
    assert mistakes_of(name) == ""


def test_what_an_experiment_brings_is_not_held_against_a_user():
    brought = {"resample_window": 0.0125, "resample_at": []}  # towards_monosemanticity, without its times
    assert mistakes_of("relu", **brought) == ""
    assert "sae.resample_window=0.0126 would have no effect" in mistakes_of("relu", **brought | {"resample_window": 0.0126})


KEPT = {"threshold_start", "bandwidth", "l0_coefficient"}  # in the units of rows, or weighed against their squared error


@pytest.mark.parametrize("scaling", ["unit", "none"])
@pytest.mark.parametrize("given", [set(), {"threshold_start"}, {"bandwidth"}, {"threshold_start", "bandwidth"}])
def test_what_jumprelu_s_file_gives_for_its_own_scaling_is_refused_with_others(scaling, given):
    """On rows of 256 dimensions it had L0 4 for 16 that were asked for and FVU 0.88, before thresholds were calibrated.

    So it was with both lengths in the rows' units; with the price too L0 was 14 and FVU 0.11, as by the file alone.
    """
    said = mistakes_of("jumprelu", scaling=scaling, **dict.fromkeys(given, 0.03))
    assert f"sae.scaling={scaling} with sae." in said
    assert "for rows of sae.scaling=variance" in said
    assert {key for key in KEPT if f"sae.{key}=" in said} == KEPT - given


@pytest.mark.parametrize("scaling", ["unit", "none"])
def test_what_is_given_for_other_units_is_taken(scaling):
    """Other files hold no lengths, and whoever has them learn thresholds gives both."""
    own = {"threshold_start": 0.06, "bandwidth": 0.03}
    assert mistakes_of("jumprelu", scaling=scaling, **own, l0_coefficient=0.004) == ""
    assert mistakes_of("jumprelu", scaling=scaling, **own, l0_steering="square") == ""
    learnt = {"activation": "jumprelu", "k": None, "l0_coefficient": 1.0, "auxk_coefficient": None}
    assert mistakes_of("matryoshka", scaling=scaling, **learnt, **own) == ""


@pytest.mark.parametrize("scaling", ["variance", "mean_square", "norm"])
def test_rows_of_about_the_same_size_are_jumprelu_s(scaling):
    assert mistakes_of("jumprelu", scaling=scaling) == ""


RESAMPLING = {"resample_at": [0.5]}
REVIVING = {"auxk_coefficient": 0.03}


@pytest.mark.parametrize(
    ("name", "setting", "acts_with"),
    [
        ("topk", {"k_anneal_from": 256}, {"k_anneal": 0.5}),
        ("topk", {"k_anneal_shape": "exponential"}, {"k_anneal": 0.5}),
        ("topk", {"resample_window": 0.3}, RESAMPLING),
        ("topk", {"resample_window_tokens": 3000}, RESAMPLING),
        ("topk", {"resample_encoder_norm": 0.3}, RESAMPLING),
        ("topk", {"resample_firing_share": 0.2}, RESAMPLING),
        ("topk", {"variance_share": 0.9}, {"directions": "active_subspace"}),
        ("relu", {"revive_window": 0.3}, REVIVING),
        ("relu", {"revive_window_tokens": 3000}, {"ghost_coefficient": 1.0}),
        ("relu", {"revive_window": 0.3, "pre_act_coefficient": 1.0}, {"pre_act_dead_only": True}),
        ("jumprelu", {"calibration_rows": 99, "l0_target": None}, {"l0_target": 20}),
        (
            "crosscoder",
            {"threshold_memory": 0.3, "l1_coefficient": None, "activation": "topk", "k": 9},
            {"activation": "batch_topk"},
        ),
        (
            "crosscoder",
            {"calibration_rows": 9, "l1_coefficient": None, "activation": "topk", "k": 9},
            {"activation": "batch_topk"},
        ),
        ("matching_pursuit", {"tied_init": True}, None),
        ("matching_pursuit", {"encoder_scale": 0.3}, None),
        ("matching_pursuit", {"resample_encoder_norm": 0.3}, None),
        ("matching_pursuit", {"resample_firing_share": 0.2}, None),
    ],
)
def test_a_setting_without_effect_is_refused_and_taken_with_what_it_acts_by(name, setting, acts_with):
    said, key = mistakes_of(name, **setting), next(iter(setting))
    assert said.startswith(f"sae.{key}={setting[key]} would have no effect: ")
    assert said.endswith("or leave this out")
    assert acts_with is None or mistakes_of(name, **setting | acts_with) == ""


@pytest.mark.parametrize("kind", ["resample", "revive"])
def test_a_window_beside_the_same_in_rows_is_refused(kind):
    window = {f"{kind}_window": 0.3, f"{kind}_window_tokens": 3000}
    said = mistakes_of("relu", **RESAMPLING, **REVIVING, **window)
    assert said == f"sae.{kind}_window=0.3 would have no effect beside sae.{kind}_window_tokens=3000: leave one of them out"


def test_k_that_would_not_come_down_is_refused():
    assert "sae.k_anneal_from=10 is less than sae.k=64" in mistakes_of("topk", k_anneal=0.5, k_anneal_from=10)
    assert mistakes_of("topk", k_anneal=0.5, k_anneal_from=65) == ""


SMALL = {"d_sae": 8, "tokens": 320, "batch_tokens": 16}


def rows():
    return torch.randn(320, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"resample_window_tokens": 321}, r"sae\.resample_window_tokens=321 is longer than the budget of 320 rows"),
        ({"ghost_coefficient": 1.0, "revive_window_tokens": 10**9}, r"sae\.revive_window_tokens=1000000000 is longer than"),
        ({"dead_window_tokens": 321}, r"sae\.dead_window_tokens=321 is longer than"),
        ({"resample_at": [0.5, 0.51]}, r"names 2 times, and in 20 steps latents would be resampled 1 times"),
        ({"resample_at": [0.01, 0.5]}, r"names 2 times, and in 20 steps latents would be resampled 1 times"),
    ],
)
def test_what_a_budget_leaves_no_room_for_is_refused(setting, said):
    with pytest.raises(UserError, match=said):
        sae.fit(rows(), **SMALL, **setting)


def test_times_of_a_file_that_come_together_are_told_in_the_log(caplog):
    """Short trials of a recipe go through: towards_monosemanticity resamples at 1, 1, 2, 2 of 20 steps."""
    with caplog.at_level(logging.INFO, logger="sae"):
        sae.fit(rows(), **SMALL, resample_at=[0.025, 0.05, 0.075, 0.1])
    assert "in 20 steps latents would be resampled 2 times" in caplog.text
