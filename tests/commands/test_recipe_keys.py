"""Keys of the recipe beside each other."""

import pytest
import torch

from sae.commands.sae_node import read_sae_node
from sae.errors import UserError
from tests.training.nodes import keys_of, widths_of

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
