"""What every architecture promises. Run for each line of `tests/cases.py`."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sae as library
from sae.architectures.initialise import initialise_
from sae.functional.sparse import sparse_from_dense
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from tests.cases import CASES, D_IN, D_SAE, ROWS, build, every_architecture, ramp, rows_for

OBJECTIVE = Objective({"reconstruction": SquaredError(), "sparsity": L1(weighting="decoder_norm")})
COEFFICIENTS = {"reconstruction": 1.0, "sparsity": 0.3}


def gradients(sae, total):
    return dict(zip(dict(sae.named_parameters()), torch.autograd.grad(total, list(sae.parameters())), strict=True))


@every_architecture
def test_shapes_and_the_parts_of_a_forward_pass(case):
    sae = build(case)
    x = rows_for(sae)
    output = sae(x)
    assert output.recon.shape == (ROWS, D_IN)
    assert output.latent_acts.shape == output.pre_acts.shape == (ROWS, D_SAE)
    assert torch.equal(output.latent_acts, sae.encode(x))
    assert torch.equal(output.recon, sae.decode(output.latent_acts))
    assert sae.W_enc.shape == (D_IN, D_SAE)
    assert sae.W_dec.shape == (D_SAE, D_IN)


@every_architecture
def test_cases_are_not_trivial_and_latents_are_never_negative(case):
    sae = build(case)
    latent_acts = sae.encode(rows_for(sae))
    assert (latent_acts >= 0).all()
    assert 0.2 < (latent_acts > 0).double().mean() < 0.8
    assert (latent_acts > 0).any(dim=0).all(), "each latent fires somewhere, so every gradient is tested"


@every_architecture
def test_leading_axes_are_kept(case):
    sae = build(case)
    x = rows_for(sae, 6)
    torch.testing.assert_close(sae(x.reshape(2, 3, D_IN)).recon, sae(x).recon.reshape(2, 3, D_IN), rtol=0, atol=1e-14)
    torch.testing.assert_close(sae(x[0]).recon, sae(x).recon[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_architecture
def test_type_is_kept_and_near_float64(case, dtype):
    sae = build(case, dtype=dtype)
    x = rows_for(sae)
    wide = copy.deepcopy(sae).double()
    assert sae(x).recon.dtype == sae.encode_sparse(x).values.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.15}[dtype]
    torch.testing.assert_close(sae(x).recon.double(), wide(x.double()).recon, rtol=tolerance, atol=tolerance)


@every_architecture
def test_rows_do_not_see_each_other(case):
    """Split, permuted or alone: a row's numbers are its own."""
    sae = build(case)
    x = rows_for(sae)
    whole = sae(x)
    for sizes in ([1] * ROWS, [5, 12], [16, 1]):
        split = [sae(part) for part in x.split(sizes)]
        torch.testing.assert_close(torch.cat([part.recon for part in split]), whole.recon, rtol=0, atol=1e-13)
        torch.testing.assert_close(torch.cat([part.latent_acts for part in split]), whole.latent_acts, rtol=0, atol=1e-13)
    order = torch.arange(ROWS - 1, -1, -1)
    torch.testing.assert_close(sae(x[order]).recon, whole.recon[order], rtol=0, atol=1e-13)


@every_architecture
def test_sparse_form_equals_dense_in_values_and_gradients(case):
    sae = build(case)
    results = []
    for forward in (sae, sae.forward_sparse):
        x = rows_for(sae).requires_grad_()
        output = forward(x)
        total = OBJECTIVE(sae, output, x.detach(), COEFFICIENTS).total
        (by_x,) = torch.autograd.grad(total, x, retain_graph=True)
        acts = output.latent_acts if forward is sae else output.latent_acts.to_dense()
        results.append({"recon": output.recon, "acts": acts, "total": total, "by_x": by_x, **gradients(sae, total)})
    dense, sparse = results
    assert dense.keys() == sparse.keys()
    for name, expected in dense.items():
        torch.testing.assert_close(
            sparse[name], expected, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
    chosen = sparse_from_dense(sae.encode(rows_for(sae)))
    torch.testing.assert_close(sae.decode_sparse(chosen), dense["recon"], rtol=1e-10, atol=1e-10)


@every_architecture
def test_gradients_match_finite_differences(case):
    """No row of the case sits on the edge of an activation, where there is no derivative."""
    sae = build(case)
    x = rows_for(sae)
    names = [name for name, _ in sae.named_parameters()]

    def total(*values):
        call = torch.func.functional_call(sae, dict(zip(names, values, strict=True)), (x,))
        weighted = call.latent_acts @ torch.linalg.vector_norm(values[names.index("W_dec")], dim=1)
        return ((call.recon - x).square().sum(dim=1) + 0.3 * weighted).mean()

    assert sae(x).pre_acts.abs().min() > 1e-4
    inputs = tuple(parameter.detach().clone().requires_grad_() for parameter in sae.parameters())
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-6)
    found = gradients(sae, OBJECTIVE(sae, sae(x), x, COEFFICIENTS).total)
    for name, expected in zip(names, torch.autograd.grad(total(*inputs), inputs), strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.013, 40.0])
@every_architecture
def test_folded_scale_takes_raw_activations(case, scale):
    """Trained on scale * x; after folding, x itself gives everything in raw units."""
    trained = build(case)
    raw = rows_for(trained) / scale
    folded = copy.deepcopy(trained)
    folded.fold_scale_(scale)
    expected = trained(raw * scale)
    torch.testing.assert_close(folded(raw).recon, expected.recon / scale, rtol=1e-12, atol=1e-12 / scale)
    torch.testing.assert_close(folded(raw).latent_acts, expected.latent_acts / scale, rtol=1e-12, atol=1e-12 / scale)
    assert torch.equal(folded.W_dec, trained.W_dec)
    assert torch.equal(folded.W_enc, trained.W_enc)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="positive and finite"):
        build(CASES[0]).fold_scale_(scale)


@every_architecture
def test_folded_norms_leave_the_reconstruction(case):
    sae = build(case)
    with torch.no_grad():
        sae.W_dec[3] = 0
    x = rows_for(sae)
    before, norms = sae(x), torch.linalg.vector_norm(sae.W_dec, dim=1).detach()
    sae.fold_decoder_norms_()
    after = sae(x)
    torch.testing.assert_close(after.recon, before.recon, rtol=1e-12, atol=1e-12)
    factors = norms.masked_fill(norms == 0, 1)
    torch.testing.assert_close(after.latent_acts, before.latent_acts * factors, rtol=1e-12, atol=1e-12)
    lengths = torch.linalg.vector_norm(sae.W_dec, dim=1)
    assert (lengths[norms > 0] - 1).abs().max() < 1e-12
    assert lengths[3] == 0


@every_architecture
def test_folds_commute(case):
    first, second = build(case), build(case)
    first.fold_scale_(3.0)
    first.fold_decoder_norms_()
    second.fold_decoder_norms_()
    second.fold_scale_(3.0)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=1e-14, atol=1e-14)


@every_architecture
def test_config_makes_the_same_architecture_again(case):
    sae = build(case)
    config = json.loads(json.dumps(sae.config()))
    again = type(sae)(**config)
    assert again.config() == sae.config()
    for key, value in case.settings.items():
        assert config[key] == value
    again.double().load_state_dict(sae.state_dict())
    assert torch.equal(again(rows_for(sae)).recon, sae(rows_for(sae)).recon)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_architecture
def test_saved_and_loaded_is_equal_to_the_bit(case, dtype, tmp_path):
    sae = build(case, dtype=dtype)
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
        sae(ramp(3, D_IN + 1))


@pytest.mark.parametrize("wrong", [{"d_in": 0}, {"d_sae": -1}, {"d_in": True}])
@every_architecture
def test_impossible_sizes_are_refused(case, wrong):
    sizes = {"d_in": D_IN, "d_sae": D_SAE} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        type(build(case))(**sizes, **case.settings)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(0, 4), d_in=st.integers(1, 5), d_sae=st.integers(1, 6), number=st.integers(0, len(CASES) - 1))
def test_any_sizes_work_in_both_forms(rows, d_in, d_sae, number):
    sae = build(CASES[number], d_in=d_in, d_sae=d_sae)
    x = rows_for(sae, rows)
    dense, sparse = sae(x), sae.forward_sparse(x)
    assert dense.recon.shape == sparse.recon.shape == (rows, d_in)
    torch.testing.assert_close(sparse.recon, dense.recon, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sparse.latent_acts.to_dense(), dense.latent_acts, rtol=1e-12, atol=1e-12)
    assert torch.equal(sparse.latent_acts.fired(), (dense.latent_acts > 0).any(dim=0))


@every_architecture
def test_silent_latents_give_the_bias_and_no_gradient(case):
    sae = build(case)
    with torch.no_grad():
        for vector in sae.latent_offsets():
            vector.fill_(-100)
    x = rows_for(sae)
    output = sae.forward_sparse(x)
    assert output.latent_acts.values.numel() == 0
    assert torch.equal(output.recon, sae.b_dec.expand(ROWS, D_IN))
    found = gradients(sae, OBJECTIVE(sae, output, x, COEFFICIENTS).total)
    assert found["W_enc"].count_nonzero() == found["W_dec"].count_nonzero() == found["b_enc"].count_nonzero() == 0


@every_architecture
def test_sparse_form_under_autocast_is_near_dense(case):
    sae = build(case, dtype=torch.float32)
    x = rows_for(sae)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense = OBJECTIVE(sae, sae(x), x, COEFFICIENTS).total
        sparse = OBJECTIVE(sae, sae.forward_sparse(x), x, COEFFICIENTS).total
    torch.testing.assert_close(sparse, dense, rtol=0.02, atol=0.02)
    expected = gradients(sae, dense)
    for name, value in gradients(sae, sparse).items():
        assert value.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(value.flatten(), expected[name].flatten(), dim=0) > 0.99


@every_architecture
def test_deep_copies_and_initialised_twins_are_equal(case):
    starts = []
    for _ in range(2):
        sae = build(case, dtype=torch.float32)
        initialise_(sae, decoder_norm=1.0, tied=True, generator=torch.Generator().manual_seed(5))
        starts.append(sae)
    for name, value in starts[0].state_dict().items():
        assert torch.equal(starts[1].state_dict()[name], value)
        assert torch.equal(copy.deepcopy(starts[0]).state_dict()[name], value)
