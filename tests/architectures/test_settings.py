"""What single architectures promise beyond the contract, and the settings that they refuse."""

import pytest
import torch

from sae.architectures.activation_functions.choice import make_activation
from sae.architectures.activation_functions.jumprelu import JumpReLU
from sae.architectures.activation_functions.top_k import BatchTopK
from sae.architectures.batch_topk import BatchTopKSAE
from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.gated import GatedSAE
from sae.architectures.jumprelu import JumpReLUSAE
from sae.architectures.matching_pursuit import MatchingPursuitSAE
from sae.architectures.matryoshka import MatryoshkaSAE
from sae.architectures.relu import ReLUSAE
from sae.architectures.topk import TopKSAE
from sae.architectures.transcoder import TranscoderSAE
from sae.functional.geometry import normal_rows
from tests.cases import CASES, D_IN, D_SAE, build, ramp, rows_for

BY_NAME = {case.name: case for case in CASES}
JUMP = {"threshold_start": 0.1, "bandwidth": 1.0}


# -- scale ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.02, 30.0])
@pytest.mark.parametrize("case", [case for case in CASES if not case.settings.get("layer_norm")], ids=lambda case: case.name)
def test_scale_equivariance(case, factor):
    """Rows, b_dec and what is compared with pre-activations times s: latents and reconstruction times s, in training too."""
    sae = build(case)
    x = rows_for(sae)
    before = [sae(x), sae.forward_train(x)]
    with torch.no_grad():
        sae.scale_offsets_(torch.tensor(factor, dtype=torch.float64))
        sae.b_dec.mul_(factor)
    for one, other in zip(before, [sae(factor * x), sae.forward_train(factor * x)], strict=True):
        tolerance = {"rtol": 1e-11, "atol": 1e-11 * factor}
        torch.testing.assert_close(other.pre_acts, factor * one.pre_acts, **tolerance)
        torch.testing.assert_close(other.latent_acts, factor * one.latent_acts, **tolerance)
        torch.testing.assert_close(other.recon, factor * one.recon, **tolerance)


@pytest.mark.parametrize("case", [case for case in CASES if case.settings.get("layer_norm")], ids=lambda case: case.name)
def test_under_layer_norm_offset_and_length_of_a_row_come_back(case):
    """Latents do not see them, up to the constant under the root; the reconstruction has them."""
    sae = build(case)
    x = rows_for(sae)
    one, other = sae(1e3 * x), sae(1e6 * x + 2e6)
    torch.testing.assert_close(other.latent_acts, one.latent_acts, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.recon, 1e3 * one.recon + 2e6, rtol=1e-8, atol=1e-2)


def test_normal_rows_are_torch_s_layer_norm():
    x = 3 * ramp(7, 6) + 5
    normal, mean, deviation = normal_rows(x)
    torch.testing.assert_close(normal, torch.nn.functional.layer_norm(x, (6,)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(normal * deviation + mean, x, rtol=1e-12, atol=1e-12)
    assert torch.isfinite(normal_rows(torch.full((2, 6), 4.0))[0]).all(), "a row that does not vary"


# -- k and selections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, D_SAE + 1, True, 2.0])
@pytest.mark.parametrize("make", [TopKSAE, BatchTopKSAE, MatchingPursuitSAE])
def test_k_must_lie_between_one_and_d_sae(make, k):
    with pytest.raises(Exception, match=rf"k must lie in 1\.\.d_sae={D_SAE}|violates type hint|Type-check error"):
        make(d_in=D_IN, d_sae=D_SAE, k=k)


def test_matching_pursuit_may_choose_a_latent_again():
    """So that rounds, not latents, bring the error down: 13 of them leave a tenth of what 2 leave, with fewer latents."""
    sae = build(BY_NAME["matching_pursuit"], k=D_SAE)
    x = rows_for(sae)
    errors = [(one(x).recon.detach() - x).square().sum() for one in (build(BY_NAME["matching_pursuit"], k=2), sae)]
    assert float(errors[1]) < 0.1 * float(errors[0])
    assert int((sae(x).latent_acts > 0).sum(dim=1).max()) < D_SAE


def test_matching_pursuit_stops_where_no_direction_fits():
    sae = MatchingPursuitSAE(d_in=2, d_sae=3, k=3).double()
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]]))
    acts = sae.encode(torch.tensor([[3.0, 0.0], [-1.0, -1.0], [0.0, 4.0]]).double())
    assert acts.tolist() == [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]


@pytest.mark.parametrize("k", [1, 4, D_SAE])
def test_topk_uses_at_most_k_latents_a_row_and_never_a_negative_one(k):
    sae = build(BY_NAME["topk"], k=k)
    output = sae(rows_for(sae))
    positive = (output.pre_acts > 0).sum(dim=1)
    assert torch.equal((output.latent_acts > 0).sum(dim=1), positive.clamp(max=k))
    assert int(positive.min()) < D_SAE


@pytest.mark.parametrize("name", ["topk", "batch_topk", "matryoshka_topk", "matryoshka", "matching_pursuit"])
def test_training_takes_another_k_where_it_is_annealed(name):
    sae = build(BY_NAME[name])
    x = rows_for(sae)
    own = sae.num_active
    assert own is not None
    counts = [int((sae.forward_train(x, k=k).latent_acts > 0).sum()) for k in (1, 3, own)]
    assert counts[0] < counts[1] < counts[2] == int((sae.forward_train(x).latent_acts > 0).sum())
    assert counts[0] == len(x)
    assert sae.num_active == own


def test_batch_topk_evaluates_by_the_threshold_alone():
    """However large: evaluation is never batch-wise, and no threshold means every positive pre-activation."""
    sae = build(BY_NAME["batch_topk"])
    x = rows_for(sae)
    assert sae.batch_threshold is not None
    assert sae.num_active is not None
    for threshold, kept in ((0.0, int((sae(x).pre_acts > 0).sum())), (1e9, 0)):
        sae.batch_threshold.fill_(threshold)
        assert int((sae(x).latent_acts > 0).sum()) == kept
        assert int((sae.forward_train(x).latent_acts > 0).sum()) == sae.num_active * len(x)


def test_the_threshold_is_no_parameter_but_is_saved():
    sae = build(BY_NAME["batch_topk"])
    assert "activation_function.threshold" in sae.state_dict()
    assert "activation_function.threshold" not in dict(sae.named_parameters())


# -- one architecture made of another ------------------------------------------------------------------------------------


def copied(sae, other, **changes):
    other.load_state_dict({key: value for key, value in sae.state_dict().items() if key in other.state_dict()} | changes)
    return other


def test_gated_with_equal_paths_is_relu():
    relu = build(BY_NAME["relu"])
    gated = GatedSAE(d_in=D_IN, d_sae=D_SAE).double()
    state = relu.state_dict()
    gated.load_state_dict({**state, "b_mag": state["b_enc"], "r_mag": torch.zeros(D_SAE)})
    torch.testing.assert_close(gated(rows_for(relu)).recon, relu(rows_for(relu)).recon, rtol=1e-13, atol=1e-13)


def test_jumprelu_at_a_tiny_threshold_is_relu():
    relu = build(BY_NAME["relu"])
    jump = JumpReLUSAE(d_in=D_IN, d_sae=D_SAE, threshold_start=1e-12).double()
    jump.load_state_dict({**jump.state_dict(), **relu.state_dict()})
    assert torch.equal(jump(rows_for(relu)).recon, relu(rows_for(relu)).recon)


def test_topk_of_all_latents_is_relu():
    relu = build(BY_NAME["relu"])
    topk = copied(relu, TopKSAE(d_in=D_IN, d_sae=D_SAE, k=D_SAE).double())
    torch.testing.assert_close(topk(rows_for(relu)).recon, relu(rows_for(relu)).recon, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["matryoshka", "matryoshka_relu", "matryoshka_topk", "matryoshka_jumprelu"])
def test_each_prefix_is_the_reconstruction_of_a_smaller_sae(name):
    """By itself: the later latents' activations set to zero; and the last prefix is the whole."""
    sae = build(BY_NAME[name])
    assert isinstance(sae, MatryoshkaSAE)
    output = sae.forward_train(rows_for(sae))
    assert output.prefix_recons is not None
    end = 0
    for size, prefix in zip(sae.group_sizes, output.prefix_recons, strict=True):
        end += size
        kept = output.latent_acts * (torch.arange(D_SAE) < end)
        torch.testing.assert_close(prefix, sae.decode(kept), rtol=1e-12, atol=1e-12)
    assert end == D_SAE
    assert torch.equal(output.prefix_recons[-1], output.recon)
    assert sae(rows_for(sae)).prefix_recons is None


def test_a_transcoder_without_latents_and_with_a_skip_is_affine():
    sae = build(BY_NAME["transcoder_skip"])
    with torch.no_grad():
        sae.get_parameter("b_enc").fill_(-1e3)
    x = rows_for(sae)
    torch.testing.assert_close(sae(x).recon, x @ sae.get_parameter("W_skip") + sae.b_dec, rtol=1e-13, atol=1e-13)
    assert sae.d_out != sae.d_in


def test_a_crosscoder_s_parts_are_separate_saes_with_one_code():
    sae = build(BY_NAME["crosscoder"])
    assert isinstance(sae, CrosscoderSAE)
    x = rows_for(sae)
    W_enc, b_enc = sae.get_parameter("W_enc"), sae.get_parameter("b_enc")
    left, right = sae.widths
    pre_acts = x[:, :left] @ W_enc[:left] + x[:, left:] @ W_enc[left:] + b_enc
    torch.testing.assert_close(sae(x).pre_acts, pre_acts, rtol=1e-13, atol=1e-13)
    recon = torch.cat([torch.relu(pre_acts) @ part for part in sae.W_dec.split([left, right], dim=1)], dim=1) + sae.b_dec
    torch.testing.assert_close(sae(x).recon, recon, rtol=1e-13, atol=1e-13)
    norms = [[sum(float(v) ** 2 for v in part) ** 0.5 for part in (row[:left], row[left:])] for row in sae.W_dec.detach()]
    assert sae.decoder_norms().T.tolist() == [pytest.approx(pair, rel=1e-12) for pair in norms]


def test_the_share_of_latents_that_belong_to_one_part():
    sae = CrosscoderSAE(widths=(2, 3), d_sae=5)
    with torch.no_grad():
        sae.W_dec.copy_(
            torch.tensor(
                [
                    [3.0, 4.0, 0.0, 0.0, 0.0],  # the first alone
                    [0.0, 0.01, 0.0, 0.6, 0.8],  # 99 per cent the second
                    [0.0, 0.1, 0.0, 0.6, 0.8],  # 91 per cent
                    [1.0, 0.0, 0.0, 0.0, 1.0],  # both
                    [0.0, 0.0, 0.0, 0.0, 0.0],  # nobody's
                ]
            )
        )
    assert sae.exclusive_fraction().tolist() == pytest.approx([0.2, 0.2])
    assert sae.exclusive_fraction(share=0.9).tolist() == pytest.approx([0.2, 0.4])
    assert sae.exclusive_fraction(share=0.999).tolist() == pytest.approx([0.2, 0.0])


# -- thresholds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["raw", "log"])
def test_a_threshold_is_kept_scaled_reset_and_held_positive(form):
    function = JumpReLU(d_sae=4, threshold_start=0.5, threshold_form=form, bandwidth=1.0, through_pre_acts=True).double()
    assert function.threshold.tolist() == pytest.approx([0.5] * 4)
    function.scale_(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    assert function.threshold.tolist() == pytest.approx([0.5, 1.0, 1.5, 2.0])
    function.reset_(torch.tensor([False, True, False, True]))
    assert function.threshold.tolist() == pytest.approx([0.5, 0.5, 1.5, 0.5])
    with torch.no_grad():
        function.threshold_parameter[0] = -3.0
    function.constrain_()
    assert bool((function.threshold > 0).all())
    assert function.threshold[2:].tolist() == pytest.approx([1.5, 0.5])


@pytest.mark.parametrize("setting", ["threshold_start", "bandwidth"])
@pytest.mark.parametrize("value", [0.0, -0.1, float("inf"), float("nan")])
def test_thresholds_and_bandwidths_must_be_positive(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be positive and finite, got"):
        JumpReLUSAE(d_in=D_IN, d_sae=D_SAE, **{setting: value})


def test_batch_topk_s_threshold_starts_at_zero_and_follows_the_scale():
    function = BatchTopK(d_sae=3, k=1)
    assert function.threshold.tolist() == [0.0] * 3
    function.threshold.fill_(2.0)
    function.scale_(torch.tensor([1.0, 0.5, 3.0]))
    assert function.threshold.tolist() == [2.0, 1.0, 6.0]
    assert function.thresholds() == []


# -- settings that do not go together ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("topk", {}, "activation=topk needs k, got null"),
        ("batch_topk", {"k": 3, "bandwidth": 1.0}, "bandwidth=1.0 has no meaning with activation=batch_topk"),
        ("relu", {"k": 3}, "k=3 has no meaning with activation=relu: set k=null"),
        ("jumprelu", {"threshold_start": 0.1}, "activation=jumprelu needs bandwidth, got null"),
        ("jumprelu", {**JUMP, "k": 3}, "k=3 has no meaning with activation=jumprelu"),
        ("topk", {"k": 3, "threshold_rate": 5.0}, "threshold_rate=5.0 has no meaning with activation=topk"),
        ("relu", {"through_pre_acts": False}, "through_pre_acts=False has no meaning with activation=relu"),
        ("relu", {"threshold_form": "raw"}, "threshold_form=raw has no meaning with activation=relu"),
    ],
)
def test_an_activation_takes_its_own_settings_and_no_others(name, given, says):
    with pytest.raises(ValueError, match=says):
        make_activation(name, d_sae=D_SAE, **given)


@pytest.mark.parametrize("given", [{}, {"threshold_form": "raw", "through_pre_acts": False, "threshold_rate": 5.0}])
@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (MatryoshkaSAE, {"d_in": D_IN, "k": None, "group_sizes": (6, 7)}),
        (TranscoderSAE, {"d_in": D_IN, "d_out": D_IN + 1, "k": None}),
        (CrosscoderSAE, {"widths": (2, 3)}),
    ],
)
def test_a_jumprelu_of_another_architecture_has_the_settings_of_jumprelu_itself(make, sizes, given):
    """And its defaults; what was saved before it had them is read as it was meant."""
    plain = JumpReLUSAE(d_in=D_IN, d_sae=D_SAE, **JUMP, **given)
    keys = ("threshold_form", "through_pre_acts", "threshold_rate")
    made = make(d_sae=D_SAE, activation="jumprelu", **JUMP, **sizes, **given)
    for key in keys:
        assert getattr(made.activation_function, key) == getattr(plain, key) == made.config()[key]
    old = {key: value for key, value in made.config().items() if given or key not in keys}
    assert make(**old).config() == made.config()
    assert torch.equal(make(**old).activation_function.threshold, plain.activation_function.threshold)


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"group_sizes": (5, 7)}, r"group_sizes must sum to d_sae=13, got \[5, 7\], which sum to 12"),
        ({"group_sizes": (0, 13)}, "each of group_sizes must be a whole number of at least 1, got 0"),
        ({"group_sizes": (-1, 14)}, "each of group_sizes must be a whole number of at least 1, got -1"),
        ({}, "give either group_sizes or group_fractions"),
        ({"group_sizes": (13,), "group_fractions": (1.0,)}, "give either group_sizes or group_fractions"),
        ({"group_fractions": (0.5, 0.4)}, r"sum to 1, got \[0\.5, 0\.4\], which sum to 0\.9"),
        ({"group_fractions": (1.5, -0.5)}, "must be positive and sum to 1"),
        ({"group_fractions": (0.01, 0.99)}, "leave a group of d_sae=13 without a latent: raise d_sae"),
    ],
)
def test_groups_make_up_the_latents(groups, says):
    with pytest.raises(ValueError, match=says):
        MatryoshkaSAE(d_in=D_IN, d_sae=D_SAE, k=3, **groups)


@pytest.mark.parametrize("d_sae", [32, 33, 40, 577, 4608])
def test_group_fractions_become_sizes_that_sum(d_sae):
    fractions = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
    sizes = MatryoshkaSAE(d_in=D_IN, d_sae=d_sae, k=3, group_fractions=fractions).group_sizes
    assert sum(sizes) == d_sae
    assert [size / d_sae for size in sizes] == pytest.approx(fractions, abs=1 / d_sae)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CrosscoderSAE(widths=(4,), d_sae=7), "at least two activations"),
        (lambda: CrosscoderSAE(widths=(4, 0), d_sae=7), "each of widths must be a whole number"),
        (lambda: TranscoderSAE(d_in=4, d_out=0, d_sae=7, k=2), "d_out must be a whole number"),
        (lambda: TranscoderSAE(d_in=4, d_out=5, d_sae=7, k=8), r"k must lie in 1\.\.d_sae=7"),
        (lambda: JumpReLUSAE(d_in=4, d_sae=7, threshold_form="exp"), "threshold_form|Type-check error"),
        (lambda: ReLUSAE(d_in=4, d_sae=7, layer_norm=1), "layer_norm is true or false|Type-check error"),
    ],
)
def test_other_settings_that_cannot_be(make, says):
    with pytest.raises(Exception, match=says):
        make()
