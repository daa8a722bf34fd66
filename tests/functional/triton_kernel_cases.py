"""The Triton kernels against their plain versions and against numpy twins.

No test file by its name: `test_triton_kernels.py` runs it in a process of its own, in Triton's interpreter or on a CUDA device,
for Triton reads TRITON_INTERPRET when it is first imported and other tests import it too. By hand:

    TRITON_INTERPRET=1 python -m pytest tests/functional/triton_kernel_cases.py
"""

import pytest
import torch

import sae.functional.triton_kernels as kernels
from sae.functional import devices
from sae.functional.encoder_product import EncoderProduct
from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.selection import row_top_k
from sae.functional.sparse import SparseActs, sparse_decode
from sae.functional.sparse_pattern import SparsePattern
from sae.functional.triton_kernels import language, top_k
from sae.training.block_adam import BlockAdam
from sae.training.kernels import KernelSettings
from sae.training.recipe import Budget
from tests.cases import ramp
from tests.reference import kernels as twin
from tests.training.nodes import build_optimizer, learner_of, one_step, widths_of

DEVICE = "cpu" if language.interpreted() else "cuda"
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float64: 1e-13}
"""Relative to the largest value. A product in bfloat16 is rounded at its end alone, to one part in 256 at most."""

every_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

# An empty bag at either end, one that lies within a chunk, one over three chunks' bounds, one of exactly a chunk.
OFFSETS = {
    "uneven": [0, 0, 3, 120, 384, 512, 530, 530],
    "all_in_one": [0, 0, 530, 530],
    "single_bag": [0, 530],
    "nothing": [0, 0, 0],
    "no_bags": [0],
    "short": [0, 2, 2, 7],
}


def numbers(*shape, dtype=torch.float32, phase=0.0):
    return ramp(*shape, dtype=dtype, phase=phase).to(DEVICE)


def picked(count, below, *, step=7):
    """Every number below a bound, in no order."""
    return (torch.arange(count, device=DEVICE) * step % below).int()


def assert_near(found, expected, dtype):
    """Alike within the type's rounding, relative to the largest value."""
    found, expected = (torch.as_tensor(value).double().cpu() for value in (found, expected))
    largest = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(1.0, largest))


def as_numpy(*tensors):
    return [tensor.double().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy() for tensor in tensors]


def bags_case(offsets, dtype, width=37):
    nnz = OFFSETS[offsets][-1]
    offsets = torch.tensor(OFFSETS[offsets], dtype=torch.int32, device=DEVICE)
    return numbers(11, width, dtype=dtype), picked(nnz, 11), offsets, numbers(nnz, dtype=dtype, phase=1.0)


@every_type
@pytest.mark.parametrize("offsets", OFFSETS)
def test_bags(offsets, dtype):
    case = bags_case(offsets, dtype)
    found = kernels.weighted_bags(*case)
    assert found.dtype == dtype
    assert_near(found, kernels.plain_weighted_bags(*case), dtype)
    assert_near(found, twin.weighted_bags(*as_numpy(*case)), dtype)
    assert torch.equal(found, kernels.weighted_bags(*case))


def test_bags_of_a_wide_transposed_table_with_weights_of_another_type():
    table, picks, offsets, weights = bags_case("uneven", torch.float32, width=300)
    table = table.T.contiguous().T
    case = (table, picks, offsets, weights.double())
    assert_near(kernels.weighted_bags(*case), twin.weighted_bags(*as_numpy(*case)), torch.float32)


def test_bags_of_a_strided_table():
    table, picks, offsets, weights = bags_case("short", torch.float64, width=12)
    case = (table[:, :5], picks, offsets, weights)
    assert_near(kernels.weighted_bags(*case), twin.weighted_bags(*as_numpy(*case)), torch.float64)


def test_a_sum_in_bfloat16_is_kept_in_float32():
    """Beyond 256 a bfloat16 sum of ones stands still."""
    ones = torch.ones(530, dtype=torch.bfloat16, device=DEVICE)
    _, picks, offsets, _ = bags_case("all_in_one", torch.bfloat16)
    sums = kernels.weighted_bags(ones[:11, None], picks, offsets, ones)
    assert abs(float(sums[1]) - 530) <= 2


@every_type
@pytest.mark.parametrize(("nnz", "width"), [(50, 37), (16, 300), (1, 1), (0, 5)])
def test_dots(nnz, width, dtype):
    rows, table = numbers(6, width, dtype=dtype), numbers(11, width, dtype=dtype, phase=1.0)
    case = (rows, picked(nnz, 6, step=5).sort().values, table, picked(nnz, 11))
    found = kernels.gathered_dots(*case)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    precision = torch.float32 if dtype == torch.bfloat16 else dtype  # its products are exact in float32
    assert_near(found, kernels.plain_gathered_dots(*case), precision)
    assert_near(found, twin.gathered_dots(*as_numpy(*case)), precision)
    assert torch.equal(found, kernels.gathered_dots(*case))


def test_dots_of_two_types_and_strided_rows():
    rows, table = numbers(6, 9, dtype=torch.bfloat16)[:, 1:6], numbers(5, 11).T
    case = (rows, picked(20, 6), table, picked(20, 11))
    assert_near(kernels.gathered_dots(*case), twin.gathered_dots(*as_numpy(*case)), torch.float32)


def encode_case(rows=3, d_in=19, d_sae=150, dtype=torch.float32):
    return numbers(rows, d_in, dtype=dtype), numbers(d_in, d_sae, dtype=dtype, phase=1.0), numbers(d_sae, phase=2.0)


def check_top_k(x, weight, bias, k, **options):
    """Against the plain version and the twin; the twin's values too where rounding puts two latents the other way round."""
    values, indices = kernels.encode_top_k(x, weight, bias, k, **options)
    assert (values.dtype, indices.dtype) == (torch.float32, torch.int32)
    plain_values, plain_indices = kernels.plain_encode_top_k(x, weight, bias, k)
    assert_near(values, plain_values, torch.float32)
    assert torch.equal(indices, plain_indices)
    twin_values, twin_indices = twin.encode_top_k(*as_numpy(x, weight, bias), k)
    assert_near(values, twin_values, torch.float32)
    assert indices.tolist() == twin_indices.tolist()
    for again, before in zip(kernels.encode_top_k(x, weight, bias, k, **options), (values, indices), strict=True):
        assert torch.equal(again, before)
    return values, indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("d_sae", "k"), [(150, 1), (150, 5), (150, 40), (67, 67), (3, 2)])
def test_top_k(d_sae, k, dtype):
    check_top_k(*encode_case(d_sae=d_sae, dtype=dtype), k)


def test_top_k_of_several_tiles_each_way(monkeypatch):
    monkeypatch.setattr(top_k, "_TILE", 32)
    monkeypatch.setattr(top_k, "_BAND", 1)
    check_top_k(*encode_case(rows=34, d_in=70, d_sae=130), 3)


def test_top_k_of_groups_of_64():
    check_top_k(*encode_case(rows=3, d_sae=1030), 8)


@pytest.mark.parametrize("block", [1024, 8])
def test_winners_side_by_side_are_found(block, monkeypatch):
    """All winners of a row in one group, of which four are stored; then in two groups, seen together or one by one."""
    monkeypatch.setattr(top_k, "_SELECT_BLOCK", block)
    x, weight, bias = encode_case()
    bias[64:96] += 100
    _, indices = check_top_k(x, weight, bias, 20)
    assert ((indices >= 64) & (indices < 96)).all()
    bias[:10] += 100
    check_top_k(x, weight, bias, 20)


def test_ties_go_to_the_lower_index():
    """Small whole numbers: every product is exact, and most values occur many times."""
    x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]], device=DEVICE)
    weight = picked(3 * 150, 4, step=5).float().reshape(3, 150) - 1
    zeros = torch.zeros(150, device=DEVICE)
    for bias, k in ((zeros, 1), (-zeros, 6), (zeros, 50)):
        _, indices = check_top_k(x, weight, bias, k)
        assert indices[1].tolist() == list(range(k))


def test_negative_and_infinite_values_are_kept_in_order():
    x, weight, bias = encode_case()
    bias -= 100
    bias[10:140] = -torch.inf
    values, indices = kernels.encode_top_k(x, weight, bias, 30)
    plain_values, plain_indices = kernels.plain_encode_top_k(x, weight, bias, 30)
    assert (values[:, :20] < -50).all()
    assert torch.isneginf(values[:, 20:]).all()
    torch.testing.assert_close(values, plain_values)
    assert torch.equal(indices, plain_indices)
    assert indices[0, 20:].tolist() == list(range(10, 20))


@pytest.mark.parametrize("bits", [0x7FC00000, -0x400000])
def test_not_a_number_comes_first_whatever_its_sign(bits):
    x, weight, bias = encode_case()
    bias[77] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    values, indices = kernels.encode_top_k(x, weight, bias, 2)
    assert indices[:, 0].tolist() == [77] * 3
    assert values[:, 0].isnan().all()
    assert torch.equal(indices, kernels.plain_encode_top_k(x, weight, bias, 2)[1])


def test_top_k_of_strided_inputs_and_of_no_rows():
    x, weight, bias = encode_case()
    check_top_k(x.T.contiguous().T, weight.T.contiguous().T, bias.bfloat16(), 6)
    values, indices = kernels.encode_top_k(x[:0], weight, bias, 6)
    assert values.shape == indices.shape == (0, 6)


def test_rows_in_several_pools(monkeypatch):
    monkeypatch.setattr(top_k, "_POOL_BYTES", 1)
    check_top_k(*encode_case(), 20)


def test_rows_in_several_searches(monkeypatch):
    """A band of rows after another: the last is not whole."""
    monkeypatch.setattr(top_k, "_BESTS_BYTES", 1)
    monkeypatch.setattr(top_k, "_BAND", 1)
    monkeypatch.setattr(top_k, "_TILE", 32)
    x, weight, bias = encode_case()
    check_top_k(numbers(top_k._TILE + 3, x.shape[1], dtype=x.dtype, phase=4.0), weight, bias, 6)


def test_tf32_gives_nearly_the_same():
    case = encode_case()
    values, _ = kernels.encode_top_k(*case, 5, allow_tf32=True)
    torch.testing.assert_close(values, kernels.plain_encode_top_k(*case, 5)[0], rtol=0, atol=2e-2)


def adam_case(dtype, rows=5, width=37):
    """Weights and three gradients; row 2 starts at zero, row 4 stays there."""
    weight, *gradients = (numbers(rows, width, dtype=dtype, phase=phase) for phase in (0.5, 1.0, 2.0, 3.0))
    weight[2] = 0
    for tensor in (weight, *gradients):
        tensor[4] = 0
    return weight, gradients


SETTINGS = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
VARIANTS = {
    "plain": {},
    "clipped": {"gradient_scale": 0.25},
    "L2 penalty, clipped": {"weight_decay": 0.1, "gradient_scale": 0.25},
    "decoupled decay": {"weight_decay": 0.1, "decoupled": True},
    "no memory": {"beta1": 0.0, "beta2": 0.0},
}


def on_device(variant):
    """What the kernel reads on the device as tensors there."""
    return {
        key: torch.tensor(value, device=DEVICE) if key in ("gradient_scale", "left_out") else value
        for key, value in variant.items()
    }


def counted(step):
    return torch.tensor(float(step), device=DEVICE)


@every_type
@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize(("width", "variant"), [(1, "plain"), (1100, "plain"), *((37, variant) for variant in VARIANTS)])
def test_adam(variant, unit_rows, width, dtype):
    weight, gradients = adam_case(dtype, width=width)
    settings, results = SETTINGS | VARIANTS[variant], []
    for step_in_place in (kernels.adam_unit_rows_, kernels.plain_adam_unit_rows_, kernels.adam_unit_rows_):
        state = (weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight))
        for step, gradient in enumerate(gradients, start=1):
            before = gradient.clone()
            step_in_place(state[0], gradient, *state[1:], counted(step), unit_rows=unit_rows, **on_device(settings))
            assert torch.equal(gradient, before)
        results.append(state)
    expected = twin.adam_unit_rows(*as_numpy(weight), as_numpy(*gradients), unit_rows=unit_rows, **settings)
    if width == 1 and unit_rows:  # what is left of the gradient is its rounding, and Adam makes full steps of it
        expected = results[1]
    for found, plain, again, reference in zip(*results, expected, strict=True):
        assert torch.equal(found, again)
        if width == 1 and unit_rows and found is not results[0][0]:
            continue
        steps = 3 if dtype == torch.bfloat16 else 1  # rounded at each step
        torch.testing.assert_close(found.double(), plain.double(), rtol=0, atol=steps * TOLERANCE[dtype])
        scale = 10 if dtype == torch.float32 else steps  # Adam divides by the root of small squares
        torch.testing.assert_close(
            found.double().cpu(), torch.as_tensor(reference).double().cpu(), rtol=0, atol=scale * TOLERANCE[dtype]
        )


@pytest.mark.parametrize("left_out", [0.0, 1.0])
def test_adam_leaves_a_step_out_when_told_on_the_device(left_out):
    weight, (gradient, *_) = adam_case(torch.float32)
    gradient[0, 0] = torch.nan if left_out else 1.0
    for step_in_place in (kernels.adam_unit_rows_, kernels.plain_adam_unit_rows_):
        state = [weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight)]
        told = on_device({"left_out": left_out})
        step_in_place(state[0], gradient, *state[1:], counted(1), unit_rows=True, **told, **SETTINGS)
        assert torch.equal(state[0], weight) == bool(left_out)
        assert bool(state[2].any()) == (not left_out)


def test_adam_with_moments_of_another_type_than_the_weights():
    weight, (gradient, *_) = adam_case(torch.bfloat16)
    found, plain = ([weight.clone(), *(torch.zeros(5, 37, device=DEVICE) for _ in "12")] for _ in "12")
    kernels.adam_unit_rows_(found[0], gradient, *found[1:], counted(1), unit_rows=True, **SETTINGS)
    kernels.plain_adam_unit_rows_(plain[0], gradient, *plain[1:], counted(1), unit_rows=True, **SETTINGS)
    assert_near(found[0], plain[0], torch.bfloat16)
    for moment, expected in zip(found[1:], plain[1:], strict=True):
        assert_near(moment, expected, torch.float32)


# -- where the framework uses them -------------------------------------------------------------------------------------


def sparse_case(dtype=torch.float64):
    """Entries of 7 rows, one of them empty, of 11 latents, one of which fires on all other rows and two on none."""
    mask = (numbers(7, 11, phase=3.0) > 0.2) | (torch.arange(11, device=DEVICE) == 4)
    mask[3], mask[:, [2, 9]] = False, False
    pattern = SparsePattern.of(mask)
    return SparseActs(values=numbers(len(pattern.indices), dtype=dtype).requires_grad_(), pattern=pattern)


@every_type
def test_sums_of_rows_and_latents_and_their_gradients(dtype):
    acts, weights = sparse_case(dtype), numbers(11, dtype=dtype, phase=2.0).requires_grad_()
    leaf = acts.values
    upstream = numbers(7, dtype=torch.promote_types(dtype, torch.float32), phase=4.0)
    found = (acts.row_sums(weights), *torch.autograd.grad(acts.row_sums(weights), (leaf, weights), upstream))
    dense = acts.to_dense().to(upstream.dtype) @ weights.to(upstream.dtype)
    expected = (dense, *torch.autograd.grad(dense, (leaf, weights), upstream))
    for one, other in zip(found, expected, strict=True):
        assert_near(one.detach(), other.detach(), dtype)
    assert_near(acts.row_sums().detach(), acts.to_dense().detach().double().sum(dim=1), dtype)


@every_type
def test_decoding_and_its_gradients(dtype):
    acts, weight = sparse_case(dtype), numbers(11, 37, dtype=dtype, phase=2.0).requires_grad_()
    upstream = numbers(7, 37, dtype=dtype, phase=4.0)
    recon, dense = sparse_decode(acts, weight), acts.to_dense() @ weight
    found = torch.autograd.grad(recon, (acts.values, weight), upstream)
    expected = torch.autograd.grad(dense, (acts.values, weight), upstream)
    for one, other in zip((recon, *found), (dense, *expected), strict=True):
        assert one.dtype == dtype
        assert_near(one.detach(), other.detach(), dtype)


@pytest.mark.parametrize(("k", "layers"), [(1, 1), (5, 1), (66, 1), (5, 3), (40, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_encoder_s_search_and_its_gradients(k, layers, dtype, monkeypatch):
    """The product in either type; what was chosen, its values and gradients are those of float32 weights."""
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: True)
    x, shift = numbers(5, 21).requires_grad_(), numbers(21, phase=5.0).requires_grad_()
    weight, bias = numbers(66, 21 // layers, phase=1.0).T.requires_grad_(), numbers(66, phase=2.0).requires_grad_()
    picked = EncoderProduct(x, weight, bias, shift=shift, dtype=dtype, layers=layers).top_k(k)
    assert picked.offsets.tolist() == list(range(0, 5 * k + 1, k))
    dense = (x - shift) @ torch.block_diag(*weight.chunk(layers, dim=1)) + bias
    chosen = torch.relu(dense) * (picked.map(torch.ones_like).to_dense() > 0)
    if dtype == torch.float32:
        assert_near(chosen.detach(), row_top_k(dense, k).detach(), dtype)
    acts, inputs, upstream = picked.map(torch.relu).to_dense(), (x, shift, weight, bias), numbers(5, 66, phase=4.0)
    assert_near(acts.detach(), chosen.detach(), torch.float32)
    gradients = (torch.autograd.grad(one, inputs, upstream) for one in (acts, chosen))
    for found, expected in zip(*gradients, strict=True):
        assert_near(found, expected, torch.float32)


@pytest.mark.parametrize("decay", ["gradient", "weights"])
def test_adam_of_the_framework(decay):
    """A decoder of unit rows, an encoder stored latent by latent and a bias; clipped."""
    ours, theirs = ([numbers(13, 37), numbers(13, 37, phase=1.0).T, numbers(13, phase=2.0)] for _ in "12")
    for parts in (ours, theirs):
        unit_rows_(parts[0])
        parts[:] = [torch.nn.Parameter(part) for part in parts]
    fused = BlockAdam(ours, 0.05, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, decay=decay, unit_rows=ours[0])
    kind = {"gradient": torch.optim.Adam, "weights": torch.optim.AdamW}[decay]
    plain = kind(theirs, 0.05, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    for step in range(3):
        for parts in (ours, theirs):
            for at, part in enumerate(parts):
                part.grad = numbers(*part.shape, phase=10.0 * step + at + 0.5)  # not along the weights
        remove_parallel_(theirs[0].grad, theirs[0].data)
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        fused.gradient_scale = (0.5 / (norm + 1e-6)).clamp(max=1)
        fused.step()
        plain.step()
        unit_rows_(theirs[0].data)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
            torch.testing.assert_close(fused.state[one]["exp_avg"], plain.state[other]["exp_avg"], rtol=0, atol=1e-6)
            assert float(fused.state[one]["step"]) == step + 1


@pytest.mark.parametrize("name", ["topk", "batch_topk", "matryoshka", "matching_pursuit", "jumprelu", "gated"])
def test_steps_of_training_equal_dense_ones(name, monkeypatch):
    """Losses and weights of two steps, the GPU's way and dense, with latents that have long been dead."""
    budget, ends = Budget(train_tokens=10**5, batch_tokens=8), []
    for way in ("sparse", "dense"):
        learner = learner_of(name, d_in=6, d_sae=24, budget=budget, lr=0.01, kernels=KernelSettings(kernels=way)).to(DEVICE)
        values = {point: numbers(8, width, phase=number) for number, (point, width) in enumerate(widths_of(name, 6).items())}
        learner.start_from(values)
        learner.dead.rows_since_fired[::5] = 10**6
        optimizer = build_optimizer(learner)
        with monkeypatch.context() as patch:
            patch.setattr(devices, "host_runs_ahead", lambda device, ahead=way == "sparse": ahead)
            losses = [one_step(learner, optimizer, values, step) for step in range(2)]
        ends.append((losses, [parameter.detach() for parameter in learner.sae.parameters()]))
    (losses, weights), (dense_losses, dense_weights) = ends
    assert losses == pytest.approx(dense_losses, rel=1e-4)
    for one, other in zip(weights, dense_weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)  # Adam makes full steps of gradients that are rounding


def test_the_kernels_ran():
    """Else all of the above would compare the plain versions with themselves."""
    assert kernels.available()
    assert language.runs_on(numbers(1))
