"""Adam block by block against torch's own, with the constraint as separate steps around it."""

import copy

import pytest
import torch

from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.row_gradients import row_gradient
from sae.training import block_adam
from sae.training.block_adam import BlockAdam
from tests.cases import ramp

CONSTANTS = {"betas": (0.9, 0.99), "eps": 1e-8}


def parameters(dtype=torch.float32):
    """A decoder, an encoder stored latent by latent, and a bias."""
    decoder = unit_rows_(ramp(13, 5, dtype=dtype)).requires_grad_()
    encoder = ramp(13, 5, phase=1, dtype=dtype).T.requires_grad_()
    return [torch.nn.Parameter(part) for part in (decoder, encoder, ramp(13, phase=2, dtype=dtype))]


def give_gradients(parts, number):
    for at, part in enumerate(parts):
        gradient = ramp(*part.shape, phase=10.0 * number + at, dtype=part.dtype)
        part.grad = gradient if part.dim() == 1 or part.is_contiguous() else gradient.T.contiguous().T


@pytest.mark.parametrize("block", [1, 7, 20, 1 << 19])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(("decay", "weight_decay"), [("gradient", 0.0), ("gradient", 0.1), ("weights", 0.1)])
def test_equal_to_separate_steps(block, clip, decay, weight_decay, monkeypatch):
    monkeypatch.setattr(block_adam, "BLOCK_ELEMENTS", block)
    ours, theirs = parameters(torch.float64), parameters(torch.float64)
    fused = BlockAdam(ours, 0.05, **CONSTANTS, weight_decay=weight_decay, decay=decay, unit_rows=ours[0])
    kind = {"gradient": torch.optim.Adam, "weights": torch.optim.AdamW}[decay]
    plain = kind(theirs, 0.05, **CONSTANTS, weight_decay=weight_decay)
    for number in range(6):
        for parts in (ours, theirs):
            give_gradients(parts, number)
        remove_parallel_(theirs[0].grad, theirs[0].data)
        norm = torch.nn.utils.get_total_norm([part.grad for part in theirs])
        torch.testing.assert_close(fused.gradient_norm().double(), norm, rtol=1e-6, atol=0)
        if clip is not None:
            fused.gradient_scale = (clip / (norm + 1e-6)).clamp(max=1)
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        fused.step()
        plain.step()
        unit_rows_(theirs[0].data)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            for key in ("exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(fused.state[one][key], plain.state[other][key], rtol=1e-12, atol=1e-12)
            assert float(fused.state[one]["step"]) == number + 1
    assert fused.gradient_scale is None  # of one step only


def test_equal_to_the_bit_to_torch_s_fused_adam_without_a_constraint():
    ours, theirs = parameters(), parameters()
    fused, plain = BlockAdam(ours, 0.05, **CONSTANTS, weight_decay=0.0), torch.optim.Adam(theirs, 0.05, **CONSTANTS, fused=True)
    for number in range(4):
        for parts in (ours, theirs):
            give_gradients(parts, number)
        fused.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_goes_on_from_torch_s_state_and_gives_its_own_back():
    ours, theirs = parameters(), parameters()
    plain = torch.optim.Adam(theirs, 0.05, **CONSTANTS, fused=True)
    give_gradients(theirs, 0)
    plain.step()
    with torch.no_grad():
        for one, other in zip(ours, theirs, strict=True):
            one.copy_(other)
    fused = BlockAdam(ours, 0.05, **CONSTANTS, weight_decay=0.0)
    fused.load_state_dict(copy.deepcopy(plain.state_dict()))
    for parts, optimizer in ((ours, fused), (theirs, plain)):
        give_gradients(parts, 1)
        optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        assert fused.state[one].keys() == plain.state[other].keys()


def test_a_parameter_without_a_gradient_stays():
    ours = parameters()
    before = [part.detach().clone() for part in ours]
    fused = BlockAdam(ours, 0.05, **CONSTANTS, weight_decay=0.0, unit_rows=ours[0])
    assert float(fused.gradient_norm()) == 0
    give_gradients(ours, 0)
    ours[1].grad = None
    fused.step()
    assert torch.equal(ours[1], before[1])
    assert not torch.equal(ours[0], before[0])


def test_moments_that_were_loaded_in_another_order_are_put_in_the_parameter_s():
    ours, theirs = parameters(), parameters()
    optimizers = [BlockAdam(parts, 0.05, **CONSTANTS, weight_decay=0.0) for parts in (ours, theirs)]
    for number in range(3):
        for parts, optimizer in zip((ours, theirs), optimizers, strict=True):
            give_gradients(parts, number)
            optimizer.step()
        state = optimizers[0].state[ours[1]]
        state["exp_avg"] = state["exp_avg"].contiguous()
    assert torch.equal(ours[1], theirs[1])


def test_a_count_that_was_loaded_lies_where_its_parameter_does():
    """A file's tensors come to the CPU; a count that stays there meets a GPU's flag, and its address a GPU's kernel."""
    before = parameters()
    optimizer = BlockAdam(before, 0.05, **CONSTANTS, weight_decay=0.0)
    give_gradients(before, 0)
    optimizer.step()
    after = [torch.nn.Parameter(part.to("meta")) for part in before]
    resumed = BlockAdam(after, 0.05, **CONSTANTS, weight_decay=0.0)
    resumed.load_state_dict(optimizer.state_dict())
    assert {tensor.device.type for part in after for tensor in resumed.state[part].values()} == {"meta"}


def test_a_parameter_with_gaps_is_refused():
    part = torch.nn.Parameter(torch.zeros(4, 3, 2).permute(2, 0, 1))
    part.grad = torch.ones_like(part)
    with pytest.raises(ValueError, match="takes contiguous parameters and transposed ones"):
        BlockAdam([part], 0.05, **CONSTANTS, weight_decay=0.0).step()


def test_a_deep_copy_goes_on_alike():
    ours = parameters()
    optimizer = BlockAdam(ours, 0.05, **CONSTANTS, weight_decay=0.0, unit_rows=ours[0])
    give_gradients(ours, 0)
    optimizer.step()
    theirs, copied = copy.deepcopy((ours, optimizer))
    for parts, one in ((ours, optimizer), (theirs, copied)):
        give_gradients(parts, 1)
        one.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert copied.keeps_unit_rows


def test_a_gradient_in_another_order_is_taken_all_the_same():
    ours, theirs = parameters(), parameters()
    for parts in (ours, theirs):
        give_gradients(parts, 0)
    ours[1].grad = ours[1].grad.contiguous()  # not latent by latent
    for parts in (ours, theirs):
        BlockAdam(parts, 0.05, **CONSTANTS, weight_decay=0.0).step()
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("block", [1, 20, 1 << 19])
def test_a_gradient_of_rows_gives_the_same_bits_as_one_with_its_zeros(block, monkeypatch):
    monkeypatch.setattr(block_adam, "BLOCK_ELEMENTS", block)
    ours, theirs = ([torch.nn.Parameter(unit_rows_(ramp(13, 5)))] for _ in range(2))
    optimizers = [BlockAdam(parts, 0.05, **CONSTANTS, weight_decay=0.1, unit_rows=parts[0]) for parts in (ours, theirs)]
    for number in range(4):
        rows = torch.tensor([[11, 2, 7], [0], [], [12, 1, 0]][number], dtype=torch.int64)
        ours[0].grad = row_gradient(rows, ramp(len(rows), 5, phase=number), num_rows=13, sorted_rows=False)
        theirs[0].grad = ours[0].grad.to_dense()
        norms = [optimizer.gradient_norm() for optimizer in optimizers]
        assert torch.equal(*norms)
        for optimizer, norm in zip(optimizers, norms, strict=True):
            optimizer.gradient_scale = (0.5 / (norm + 1e-6)).clamp(max=1)
            optimizer.step()
        assert torch.equal(ours[0], theirs[0])
