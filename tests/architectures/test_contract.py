"""What every architecture promises. Run for each line of `tests/cases.py`."""

import copy
import inspect
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.gradcheck import GradcheckError

import sae as library
from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.affine import AffineSAE
from sae.architectures.initialise import initialise_
from sae.functional.sparse import sparse_from_dense
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from tests.cases import (
    CASES,
    D_IN,
    D_SAE,
    ROWS,
    build,
    class_of,
    every_architecture,
    every_architecture_that,
    learnt_by_activation,
    ramp,
    rows_for,
    sizes_for,
    target_for,
)

OBJECTIVE = Objective({"reconstruction": SquaredError(), "sparsity": L1(weighting="decoder_norm")})
COEFFICIENTS = {"reconstruction": 1.0, "sparsity": 0.3}

smooth_architectures = pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=lambda case: case.name)
without_layer_norm = every_architecture_that(lambda sae: not sae.layer_norm)


def gradients(sae, total):
    names, values = zip(*sae.named_parameters(), strict=True)
    found = torch.autograd.grad(total, values, allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(value) if one is None else one for name, value, one in zip(names, values, found, strict=True)
    }


@every_architecture
def test_shapes_and_the_parts_of_a_forward_pass(case):
    sae = build(case)
    x = rows_for(sae)
    for output in (sae(x), sae.forward_train(x)):
        assert output.recon.shape == (ROWS, sae.d_out)
        assert output.latent_acts.shape == output.pre_acts.shape == (ROWS, sae.d_sae)
    output = sae(x)
    assert torch.equal(output.latent_acts, sae.encode(x))
    assert torch.equal(output.recon, sae.decode(output.latent_acts, x))
    assert sae.W_enc.shape == (D_IN, sae.d_sae), "each latent's own layer alone, where it reads one"
    assert sae.W_dec.shape == (sae.d_sae, sae.d_out)


@every_architecture
def test_latents_decode_by_themselves_unless_more_is_needed(case):
    sae = build(case)
    x = rows_for(sae)
    acts = sae.encode(x)
    if sae.needs_input_to_decode:
        assert not torch.allclose(sae(x).recon, acts @ sae.W_dec + sae.b_dec), "or they would do without"
        with pytest.raises(ValueError, match=r"give the rows too"):
            sae.decode(acts)
    else:
        assert torch.equal(sae.decode(acts), sae(x).recon)
        edited = acts.clone()
        edited[:, 3] += 1
        torch.testing.assert_close(sae.decode(edited) - sae.decode(acts), sae.W_dec[3].expand(ROWS, -1), rtol=0, atol=1e-12)


@every_architecture
def test_cases_are_not_trivial_and_latents_are_never_negative(case):
    sae = build(case)
    latent_acts = sae.encode(rows_for(sae))
    assert (latent_acts >= 0).all()
    assert 0.2 < (latent_acts > 0).double().mean() < 0.8
    assert (latent_acts > 0).any(dim=0).sum() >= sae.d_sae - 4, "nearly each latent fires somewhere, so gradients are tested"


@every_architecture
def test_leading_axes_are_kept(case):
    sae = build(case)
    x = rows_for(sae, 6)
    torch.testing.assert_close(sae(x.reshape(2, 3, sae.d_in)).recon, sae(x).recon.reshape(2, 3, -1), rtol=0, atol=1e-13)
    torch.testing.assert_close(sae(x[0]).recon, sae(x).recon[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_architecture
def test_type_is_kept_and_near_float64(case, dtype):
    """To 1e-5 in float32. In bfloat16, where another latent may be chosen, to a tenth of the mean size."""
    sae = build(case, dtype=dtype)
    x = rows_for(sae)
    wide = copy.deepcopy(sae).double()
    assert sae(x).recon.dtype == sae.encode_sparse(x).values.dtype == dtype
    found, expected = sae(x).recon.double(), wide(x.double()).recon
    if dtype == torch.float32:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    else:
        assert (found - expected).abs().median() < 0.05 * expected.abs().mean()


@every_architecture
def test_rows_near_others_have_the_same_activations_whatever_the_others_are(case):
    sae = build(case)
    x = rows_for(sae)
    of = (torch.arange(ROWS) * 5) % 3
    found = sae.encode_sparse_near(x, sae.encode_sparse(rows_for(sae, 3, phase=0.4)).map(torch.detach), of)
    torch.testing.assert_close(found.to_dense(), sae.encode_sparse(x).to_dense(), rtol=0, atol=1e-2)
    assert not found.values.requires_grad
    assert len(sae.encode_sparse_near(x[:0], found, of[:0]).values) == 0


@every_architecture
def test_rows_do_not_see_each_other(case):
    """Split, permuted or alone: a row's numbers are its own, also where training selects over the batch."""
    sae = build(case)
    x = rows_for(sae)
    whole = sae(x)
    for sizes in ([1] * ROWS, [5, 12], [16, 1]):
        split = [sae(part) for part in x.split(sizes)]
        torch.testing.assert_close(torch.cat([part.recon for part in split]), whole.recon, rtol=0, atol=1e-12)
        torch.testing.assert_close(torch.cat([part.latent_acts for part in split]), whole.latent_acts, rtol=0, atol=1e-12)
    order = torch.arange(ROWS - 1, -1, -1)
    torch.testing.assert_close(sae(x[order]).recon, whole.recon[order], rtol=0, atol=1e-12)


@without_layer_norm
def test_training_and_evaluation_agree_unless_training_selects_over_the_batch(case):
    """An SAE in training has no layer norm: its rows were brought there already."""
    sae = build(case)
    x = rows_for(sae)
    if sae.batch_threshold is None:
        assert torch.equal(sae.forward_train(x).latent_acts, sae(x).latent_acts)
        torch.testing.assert_close(sae.forward_train(x).recon, sae(x).recon, rtol=0, atol=1e-13)
        return
    k = sae.num_active
    assert k is not None
    kept = sae.forward_train(x).latent_acts
    assert int((kept > 0).sum()) == k * ROWS
    assert (kept > 0).sum(dim=1).unique().numel() > 1
    with torch.no_grad():  # the threshold that this batch's selection amounts to
        sae.batch_threshold.fill_(float(kept[kept > 0].min()) * (1 - 1e-12))
    assert torch.equal(sae(x).latent_acts, kept)


@every_architecture
def test_sparse_form_equals_dense_in_values_and_gradients(case):
    sae = build(case)
    results = []
    for forward in (sae, sae.forward_sparse):
        x = rows_for(sae).requires_grad_()
        output = forward(x)
        total = OBJECTIVE(sae, output, target_for(sae, x), COEFFICIENTS).total
        (by_x,) = torch.autograd.grad(total, x, retain_graph=True)
        acts = output.latent_acts if forward is sae else output.latent_acts.to_dense()
        results.append({"recon": output.recon, "acts": acts, "total": total, "by_x": by_x, **gradients(sae, total)})
    dense, sparse = results
    assert dense.keys() == sparse.keys()
    for name, expected in dense.items():
        torch.testing.assert_close(
            sparse[name], expected, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
    x = rows_for(sae)
    chosen = sparse_from_dense(sae.encode(x))
    torch.testing.assert_close(sae.decode(chosen, x), dense["recon"], rtol=1e-10, atol=1e-10)


@every_architecture
def test_gradients_reach_every_parameter_that_should_move(case):
    sae = build(case)
    x = rows_for(sae)
    found = gradients(sae, OBJECTIVE(sae, sae(x), target_for(sae, x), COEFFICIENTS).total)
    for name, gradient in found.items():
        assert bool(gradient.any()) == (name not in case.still), (
            f"{name} has {'a' if gradient.any() else 'no'} gradient by squared error and L1: if that is meant, `still` of "
            f"{case.name} in tests/cases.py must {'not ' if gradient.any() else ''}name it"
        )


@smooth_architectures
def test_gradients_match_finite_differences(case):
    """No row of the case sits on the edge of an activation, where there is no derivative."""
    sae = build(case)
    x = rows_for(sae)
    target = target_for(sae, x)
    names = [name for name, _ in sae.named_parameters()]

    def total(*values):
        call = torch.func.functional_call(sae, dict(zip(names, values, strict=True)), (x,))
        weighted = call.latent_acts @ torch.linalg.vector_norm(values[names.index("W_dec")], dim=1)
        return ((call.recon - target).square().sum(dim=1) + 0.3 * weighted).mean()

    inputs = tuple(parameter.detach().clone().requires_grad_() for parameter in sae.parameters())
    try:
        torch.autograd.gradcheck(total, inputs, eps=1e-7, atol=1e-5)
    except GradcheckError as error:
        pytest.fail(f"{error}\nIf a gradient is straight-through, {case.name} in tests/cases.py must say smooth=False")
    found = gradients(sae, OBJECTIVE(sae, sae(x), target, COEFFICIENTS).total)
    expected_gradients = torch.autograd.grad(total(*inputs), inputs, allow_unused=True, materialize_grads=True)
    for name, expected in zip(names, expected_gradients, strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.013, 40.0])
@without_layer_norm
def test_folded_scale_takes_raw_activations(case, scale):
    """Trained on scale * x; after folding, x itself gives everything in raw units."""
    trained = build(case)
    raw = rows_for(trained) / scale
    folded = copy.deepcopy(trained)
    folded.fold_scale_(scale)
    expected = trained(raw * scale)
    torch.testing.assert_close(folded(raw).recon, expected.recon / scale, rtol=1e-11, atol=1e-11 / scale)
    torch.testing.assert_close(folded(raw).latent_acts, expected.latent_acts / scale, rtol=1e-11, atol=1e-11 / scale)
    assert torch.equal(folded.W_dec, trained.W_dec)
    assert torch.equal(folded.W_enc, trained.W_enc)


@without_layer_norm
def test_folded_scales_and_centres_of_input_and_target(case):
    """Trained on s (x - m) to give t (target - n), dimension by dimension; after folding, raw x gives the raw target."""
    trained = build(case)
    scale_in, centre_in = 0.5 + ramp(trained.d_in, phase=3).abs(), 4 * ramp(trained.d_in, phase=5)
    scale_out, centre_out = 0.3 + ramp(trained.d_out, phase=6).abs(), 3 * ramp(trained.d_out, phase=9)
    if trained.apply_b_dec_to_input:
        with pytest.raises(ValueError, match="one scale and one centre"):
            trained.fold_(scale_in, centre_in, scale_out, centre_out)
        scale_in = torch.full_like(scale_in, 1.7)
        scale_out, centre_out = scale_in, centre_in
    raw = rows_for(trained) / scale_in + centre_in
    expected = trained((raw - centre_in) * scale_in)
    folded = copy.deepcopy(trained)
    folded.fold_(scale_in, centre_in, scale_out, centre_out)
    torch.testing.assert_close(folded(raw).recon, expected.recon / scale_out + centre_out, rtol=1e-10, atol=1e-10)
    unit = scale_in.log().mean().exp()
    torch.testing.assert_close(folded(raw).latent_acts, expected.latent_acts / unit, rtol=1e-10, atol=1e-10)
    folded.fold_(1 / scale_in, -centre_in * scale_in, 1 / scale_out, -centre_out * scale_out)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(folded.state_dict()[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="positive and finite"):
        build(CASES[0]).fold_scale_(scale)


@every_architecture
def test_folded_norms_leave_the_reconstruction(case):
    """A TopK selection is by activation, which norms change: it is compared where each row keeps all that it has."""
    sae = build(case)
    if sae.selects_by_size:
        sae = build(case, k=2)
        x, before = rows_for(sae), sae(rows_for(sae)).recon
        sae.fold_decoder_norms_()
        assert not torch.allclose(sae(x).recon, before), "or its latents would not compete"
        sae = build(case, k=sae.d_sae)
    with torch.no_grad():
        sae.W_dec[3] = 0
    x = rows_for(sae)
    before, norms = sae(x), torch.linalg.vector_norm(sae.W_dec, dim=1).detach()
    sae.fold_decoder_norms_()
    after = sae(x)
    torch.testing.assert_close(after.recon, before.recon, rtol=1e-11, atol=1e-11)
    factors = norms.masked_fill(norms == 0, 1)
    torch.testing.assert_close(after.latent_acts, before.latent_acts * factors, rtol=1e-11, atol=1e-11)
    lengths = torch.linalg.vector_norm(sae.W_dec, dim=1)
    assert (lengths[norms > 0] - 1).abs().max() < 1e-12
    assert lengths[3] == 0


@without_layer_norm
def test_folds_commute(case):
    first, second = build(case), build(case)
    first.fold_scale_(3.0)
    first.fold_decoder_norms_()
    second.fold_decoder_norms_()
    second.fold_scale_(3.0)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=1e-13, atol=1e-13)


@every_architecture
def test_latent_parameters_are_all_that_have_a_latent_axis(case):
    """Each with the axis that counts latents: what resampling forgets, no more and no less."""
    sae = build(case)
    found = {id(parameter): axis for parameter, axis in sae.latent_parameters()}
    for name, parameter in sae.named_parameters():
        axes = [axis for axis, size in enumerate(parameter.shape) if size == sae.d_sae]
        assert ([found[id(parameter)]] if id(parameter) in found else []) == axes, name
    assert len(found) == len(sae.latent_parameters())


@every_architecture
def test_reset_latents_touches_those_latents_alone(case):
    sae = build(case)
    chosen = torch.zeros(sae.d_sae, dtype=torch.bool)
    chosen[[2, 5]] = True
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    sae.reset_latents_(chosen)
    for name, value in sae.named_parameters():
        changed = (value != before[name]).nonzero()
        if name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            assert len(changed) == 0, name
        assert set(changed.flatten().tolist()) <= {2, 5}, name
    shared = [id(value) for name, value in sae.named_parameters() if name in ("W_enc", "b_enc", "W_dec")]
    for name, value in sae.named_parameters():  # what has a start of its own is there again
        if id(value) in [id(own) for own, _ in sae.latent_parameters() if id(own) not in shared]:
            fresh = type(sae)(**sae.config()).double().get_parameter(name)
            assert (value != before[name]).any(), name
            torch.testing.assert_close(value[chosen], fresh[chosen], rtol=1e-6, atol=0, msg=name)  # made in float32


@every_architecture_that(lambda sae: len(learnt_by_activation(sae)) > 0)
@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_learnt_thresholds_stay_in_range_after_an_absurd_update(case, shift):
    """No activation below zero, none of a pre-activation that is not positive, no gradient that is not finite."""
    sae = build(case)
    with torch.no_grad():
        for parameter in learnt_by_activation(sae):
            parameter.add_(shift)
    sae.constrain_()
    x = rows_for(sae)
    for output in (sae(x), sae.forward_train(x)):
        assert (output.latent_acts >= 0).all()
        found = gradients(sae, OBJECTIVE(sae, output, target_for(sae, x), COEFFICIENTS).total)
        assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert not sae.activation_function(-output.pre_acts.abs()).any()
    if isinstance(sae.activation_function, LearntThreshold):
        assert (sae.activation_function.threshold > 0).all()


@every_architecture
def test_what_is_in_range_is_not_constrained(case):
    sae, untouched = build(case), build(case).state_dict()
    sae.constrain_()
    for name, value in sae.state_dict().items():
        assert torch.equal(value, untouched[name]), name


@every_architecture
def test_scaled_thresholds_are_multiplied_and_nothing_else_is(case):
    """What is compared with them and scaled alike gives activations that are scaled alike."""
    sae, before = build(case), build(case)
    sae.scale_thresholds_(torch.tensor(1.7, dtype=torch.float64))
    learnt = [id(parameter) for parameter in learnt_by_activation(sae)]
    for (name, value), (_, old) in zip(
        [*sae.named_parameters(), *sae.named_buffers()], [*before.named_parameters(), *before.named_buffers()], strict=True
    ):
        assert torch.equal(value, old) == (id(value) not in learnt), name
    if learnt:
        pre_acts = before(rows_for(before)).pre_acts
        expected = 1.7 * before.activation_function(pre_acts)
        torch.testing.assert_close(sae.activation_function(1.7 * pre_acts), expected, rtol=1e-12, atol=1e-12)


@every_architecture
def test_a_constructor_lists_its_keywords_and_takes_no_others(case):
    """Also those that architectures share: configurations, saved files and this check read the signature."""
    listed = inspect.signature(class_of(case)).parameters
    assert case.settings.keys() <= listed.keys()
    assert {parameter.kind for parameter in listed.values()} == {inspect.Parameter.KEYWORD_ONLY}
    for value in (None, 1):
        with pytest.raises(TypeError, match="shoe_size"):
            class_of(case)(**sizes_for(case, D_IN, D_SAE), **case.settings, shoe_size=value)


@every_architecture
def test_config_makes_the_same_architecture_again(case):
    sae = build(case)
    assert set(sae.config()) == set(inspect.signature(type(sae)).parameters)
    config = json.loads(json.dumps(sae.config()))
    again = type(sae)(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})
    assert again.config() == sae.config()
    for key, value in case.settings.items():
        assert sae.config()[key] == value
    again.double().load_state_dict(sae.state_dict())
    assert torch.equal(again(rows_for(sae)).recon, sae(rows_for(sae)).recon)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_architecture
def test_saved_and_loaded_is_equal_to_the_bit(case, dtype, tmp_path):
    sae = build(case, dtype=dtype)
    if not sae.layer_norm:
        sae.fold_scale_(0.7)
    library.save(sae, tmp_path / "one")
    loaded = library.load(tmp_path / "one")
    assert type(loaded) is type(sae)
    assert loaded.config() == sae.config()
    for name, value in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == dtype
    x = rows_for(sae)
    assert torch.equal(loaded(x).recon, sae(x).recon)


@every_architecture
def test_a_wrong_width_is_an_error(case):
    sae = build(case)
    with pytest.raises(Exception, match=r"d_in|shape|size"):
        sae(ramp(3, sae.d_in + 1))


@pytest.mark.parametrize("wrong", [{"d_in": 0}, {"d_sae": -1}, {"d_in": True}])
@every_architecture
def test_impossible_sizes_are_refused(case, wrong):
    name = next(iter(wrong))
    if name not in (sizes := sizes_for(case, D_IN, D_SAE)):
        name, wrong = "widths", {"widths": (0, 4)}
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        type(build(case))(**sizes | wrong, **case.settings)


@every_architecture_that(lambda sae: sae.trains_sparse)
def test_the_sparse_pass_of_training_equals_the_dense_one(case):
    """Values and the gradient of every parameter, thresholds and prefixes included."""
    sae = build(case)
    x = rows_for(sae)
    dense, sparse = sae.forward_train(x), sae.forward_train_sparse(x)
    torch.testing.assert_close(sparse.recon, dense.recon, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(sparse.latent_acts.to_dense(), dense.latent_acts, rtol=1e-11, atol=1e-11)
    assert sparse.pre_acts is not None or not isinstance(sae, AffineSAE)
    if sparse.pre_acts is not None:  # matching pursuit's latents are of many rounds, and its pre-activations of the first
        here = sparse.pre_acts.pattern
        expected = dense.pre_acts[here.rows.long(), here.indices.long()]
        torch.testing.assert_close(sparse.pre_acts.values, expected, rtol=1e-11, atol=1e-11)
    every = torch.arange(sae.d_sae)
    torch.testing.assert_close(sparse.product().of(every).dense(), dense.pre_acts, rtol=1e-11, atol=1e-11)
    assert (dense.prefix_recons is None) == (sparse.prefix_recons is None)
    outputs = [(dense.recon, sparse.recon), (dense.latent_acts.sum(dim=1).square(), sparse.latent_acts.row_sums().square())]
    if dense.prefix_recons is not None:
        torch.testing.assert_close(sparse.prefix_recons, dense.prefix_recons, rtol=1e-11, atol=1e-11)
        outputs.append((dense.prefix_recons, sparse.prefix_recons))
    for number, pair in enumerate(outputs):
        expected, found = (gradients(sae, (one * ramp(*one.shape, phase=number)).sum()) for one in pair)
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
            )


@every_architecture_that(lambda sae: sae.trains_sparse and sae.num_active is None)
def test_the_dense_pass_counts_what_the_sparse_one_would_hold(case):
    """Else the passes would take turns for ever: JumpReLU holds latents just below their threshold, Gated all open gates."""
    sae = build(case)
    x = rows_for(sae)
    assert sae.count_held(sae.forward_train(x)) == sae.forward_train_sparse(x).latent_acts.values.numel()


@every_architecture_that(lambda sae: sae.trains_sparse)
def test_what_is_not_a_number_shows_in_both_passes(case):
    """In any parameter of any latent that a dense pass would see, and in the rows: the run must stop before its step."""
    names = [name for name, _ in build(case).named_parameters()]
    for name in [*names, "x"]:
        sae = build(case)
        x = rows_for(sae)
        with torch.no_grad():
            (x if name == "x" else dict(sae.named_parameters())[name]).flatten()[:1].fill_(torch.nan)
        dense, sparse = sae.forward_train(x), sae.forward_train_sparse(x)
        if not torch.isfinite(dense.recon).all() and not (name == "W_dec" and torch.isfinite(sparse.latent_acts.values).all()):
            assert not torch.isfinite(sparse.recon).all(), name


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 4), d_in=st.integers(2, 5), number=st.integers(0, len(CASES) - 1))
def test_any_number_of_rows_works_in_both_forms(rows, d_in, number):
    sae = build(CASES[number], d_in=d_in)
    x = rows_for(sae, rows)
    dense, sparse = sae(x), sae.forward_sparse(x)
    assert dense.recon.shape == sparse.recon.shape == (rows, sae.d_out)
    torch.testing.assert_close(sparse.recon, dense.recon, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(sparse.latent_acts.to_dense(), dense.latent_acts, rtol=1e-11, atol=1e-11)
    assert torch.equal(sparse.latent_acts.fired(), (dense.latent_acts > 0).any(dim=0))


@every_architecture_that(lambda sae: "b_enc" in dict(sae.named_parameters()))
def test_silent_latents_give_the_bias_and_no_gradient(case):
    sae = build(case)
    with torch.no_grad():
        dict(sae.named_parameters())["b_enc"].fill_(-100)
    x = rows_for(sae)
    output = sae.forward_sparse(x)
    kept = output.latent_acts.values
    assert kept.numel() == 0, (
        f"`encode_sparse` of {case.name} keeps {kept.numel()} silent entries, {int((kept == 0).sum())} of them zeros: "
        "the activation function's `pick` must leave out what `forward` makes zero and gives no gradient, or the "
        "architecture's `encode_sparse_rows` drop it (`acts.where(acts.values > 0)`)"
    )
    if not sae.needs_input_to_decode:
        assert torch.equal(output.recon, sae.b_dec.expand(ROWS, sae.d_out))
    found = gradients(sae, OBJECTIVE(sae, output, target_for(sae, x), COEFFICIENTS).total)
    assert found["W_enc"].count_nonzero() == found["W_dec"].count_nonzero() == found["b_enc"].count_nonzero() == 0


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.smooth and build(case).num_active is None], ids=lambda case: case.name
)
def test_sparse_form_under_autocast_is_near_dense(case):
    sae = build(case, dtype=torch.float32)
    x = rows_for(sae)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense = OBJECTIVE(sae, sae(x), target_for(sae, x), COEFFICIENTS).total
        sparse = OBJECTIVE(sae, sae.forward_sparse(x), target_for(sae, x), COEFFICIENTS).total
    torch.testing.assert_close(sparse, dense, rtol=0.02, atol=0.02)
    expected = gradients(sae, dense)
    for name, value in gradients(sae, sparse).items():
        assert value.dtype == torch.float32
        if name in case.still:
            assert not value.any()
            continue
        assert torch.nn.functional.cosine_similarity(value.flatten(), expected[name].flatten(), dim=0) > 0.99


@every_architecture
def test_a_training_pass_runs_under_autocast(case):
    sae = build(case, dtype=torch.float32)
    x = rows_for(sae)
    for forward in (sae.forward_train, *([sae.forward_train_sparse] if sae.trains_sparse else [])):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = OBJECTIVE(sae, forward(x), target_for(sae, x), COEFFICIENTS).total
        for name, gradient in gradients(sae, total).items():
            assert gradient.dtype == torch.float32, name
            assert torch.isfinite(gradient).all(), name


@every_architecture
def test_deep_copies_and_initialised_twins_are_equal(case):
    starts = []
    for _ in range(2):
        sae = build(case, dtype=torch.float32)
        tied = sae.d_in == sae.d_out
        initialise_(sae, decoder_norm=1.0, tied=tied, generator=torch.Generator().manual_seed(5))
        starts.append(sae)
    for name, value in starts[0].state_dict().items():
        assert torch.equal(starts[1].state_dict()[name], value)
        assert torch.equal(copy.deepcopy(starts[0]).state_dict()[name], value)
