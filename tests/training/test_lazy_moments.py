"""Adam that passes over rows without a gradient, against Adam that does not."""

import copy

import numpy as np
import pytest
import torch

from sae.functional.geometry import unit_rows_
from sae.functional.lazy_rows import LazyRows
from sae.functional.missed_steps import MissedSteps
from sae.functional.row_gradients import row_gradient
from sae.training.block_adam import BlockAdam
from tests.reference.optimizers import adam_of_rows

ROWS, WIDTH, STEPS = 24, 5, 300
WHOLE = 140  # the step in which every row has a gradient


def rates(peak):
    """A warm-up from 0 and a decay."""
    return [peak * min(1, step / 30) * min(1, (STEPS - step) / 80) for step in range(STEPS)]


def drawn(*, scale=1.0, seed=0):
    """A start and the rows that have a gradient in each step, with their gradients: some often, some seldom, two never."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    shares = torch.linspace(0, 0.7, ROWS).pow(3)
    shares[3:6] = 0.004
    steps = []
    for step in range(STEPS):
        rows = (torch.rand(ROWS, generator=generator) < shares).nonzero().squeeze(1)
        rows = torch.arange(2, ROWS) if step == WHOLE else rows
        steps.append((rows, scale * torch.randn(len(rows), WIDTH, generator=generator, dtype=torch.float64)))
    return start, steps


def optimizer_of(weights, *, eps=1e-8, unit_rows=True, betas=(0.9, 0.99)):
    unit = weights if unit_rows else None
    return BlockAdam([weights], 0.1, betas=betas, eps=eps, weight_decay=0.0, unit_rows=unit)


def dense(rows, gradients):
    return torch.zeros(ROWS, WIDTH, dtype=gradients.dtype).index_copy(0, rows, gradients)


def take_step(weights, optimizer, rows, gradients, lr, *, whole=False, clip=None):
    """As training does: read, then step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    if isinstance(weights, LazyRows) and not whole:
        read = weights.rows(rows).index_select(0, rows)
        weights.grad = row_gradient(rows, gradients.clone(), num_rows=ROWS, sorted_rows=True)
    else:
        read, weights.grad = weights.detach()[rows], dense(rows, gradients)
    if clip is not None:
        optimizer.gradient_scale = (clip / (optimizer.gradient_norm() + 1e-6)).clamp(max=1)
    optimizer.step()
    return read


@pytest.fixture
def ways(monkeypatch):
    """How many rows were brought up to date by the closed form, and how many step by step."""
    counts, plain = {"closed": 0, "replayed": 0}, MissedSteps.make_up_

    def counted(*arguments, **keywords):
        failed = plain(*arguments, **keywords)
        counts["closed"] += int((~failed).sum())
        counts["replayed"] += int(failed.sum())
        return failed

    monkeypatch.setattr(MissedSteps, "make_up_", counted)
    return counts


@pytest.mark.parametrize(
    ("eps", "mostly"), [(1e-18, "closed"), (1e-8, "replayed"), (1e-2, "replayed")], ids=["none", "usual", "large"]
)
@pytest.mark.parametrize("unit_rows", [True, False], ids=["unit", "free"])
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.9)], ids=["default", "no-momentum"])
def test_equal_to_adam_on_every_row(eps, mostly, unit_rows, betas, ways):
    """Rows in use at every step, all rows at the end; the start is not of unit length."""
    (start, steps), lr = drawn(), rates(0.1)
    weights = LazyRows(start.clone())
    optimizer = optimizer_of(weights, eps=eps, unit_rows=unit_rows, betas=betas)
    by_row = [dict(zip(rows.tolist(), gradients.numpy(), strict=True)) for rows, gradients in steps]
    given = [[gradients.get(row) for row in range(ROWS)] for gradients in by_row]
    path = adam_of_rows(start.numpy(), given, lr=lr, betas=betas, eps=eps, unit_rows=unit_rows, clip=3.0)
    for step, (rows, gradients) in enumerate(steps):
        read = take_step(weights, optimizer, rows, gradients, lr[step], whole=step == WHOLE, clip=3.0)
        before = path[step - 1] if step else start.numpy()
        np.testing.assert_allclose(read.numpy(), before[rows.numpy()], rtol=0, atol=1e-10)
        if step % 50 == 7:  # a look from outside changes nothing
            np.testing.assert_allclose(weights.caught_up().numpy(), path[step], rtol=0, atol=1e-10)
        if step % 70 == 9:  # rows that are read and get no gradient
            np.testing.assert_allclose(weights.rows(torch.arange(8))[:8].numpy(), path[step][:8], rtol=0, atol=1e-10)
    np.testing.assert_allclose(weights.detach().numpy(), path[-1], rtol=0, atol=1e-10)
    if betas[0] > 0:
        assert ways[mostly] > 0.7 * sum(ways.values()) > 400


def test_float32_stays_with_adam_on_every_row(ways):
    """Apart by rounding alone: both are as far from float64 as each other."""
    (start, steps), lr = drawn(scale=0.1), rates(3e-3)
    kinds = {"lazy": LazyRows(unit_rows_(start.float())), "eager": torch.nn.Parameter(unit_rows_(start.float()))}
    for weights in kinds.values():
        optimizer = optimizer_of(weights)
        for step, (rows, gradients) in enumerate(steps):
            take_step(weights, optimizer, rows, gradients.float(), lr[step], whole=step == WHOLE)
    torch.testing.assert_close(kinds["lazy"].detach(), kinds["eager"].detach(), rtol=0, atol=3e-6)
    assert ways["closed"] > 0.9 * sum(ways.values())


@pytest.mark.parametrize("eps", [1e-18, 1e-8])
def test_goes_on_from_its_state_bit_for_bit(eps):
    """Though it was looked at and saved more often."""
    (start, steps), lr = drawn(), rates(0.1)
    weights = LazyRows(start.clone())
    optimizer = optimizer_of(weights, eps=eps)
    for step in range(STEPS):
        if step in (0, 57, 200):
            saved = copy.deepcopy(optimizer.state_dict())
            copied = weights.caught_up()
            again = LazyRows(copied)
            other = optimizer_of(again, eps=eps)
            other.load_state_dict(saved)
            resumed = (again, other)
        for one, its in ((weights, optimizer), resumed):
            take_step(one, its, *steps[step], lr[step], whole=step == WHOLE)
    assert torch.equal(resumed[0].behind, weights.behind)
    assert torch.equal(resumed[0].detach(), weights.detach())


def test_a_state_of_the_other_kind_is_refused():
    lazy, eager = optimizer_of(LazyRows(torch.zeros(2, 2))), optimizer_of(torch.nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(ValueError, match="1 parameters of lazy rows, and there are 0"):
        eager.load_state_dict(lazy.state_dict())
    with pytest.raises(ValueError, match="0 parameters of lazy rows, and there are 1"):
        lazy.load_state_dict(eager.state_dict())


def test_what_cannot_be_lazy_is_refused():
    weights = LazyRows(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="lazy rows take no weight decay"):
        BlockAdam([weights], 0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(optimizer_of(weights))
    with pytest.raises(ValueError, match="never end where beta1"):
        optimizer_of(weights, betas=(0.9, 0.5))


def test_a_graph_of_an_earlier_step_is_refused():
    weights = LazyRows(torch.ones(2, 2))
    optimizer = optimizer_of(weights)
    loss = (weights * weights).sum()
    weights.grad = row_gradient(torch.tensor([0]), torch.ones(1, 2), num_rows=2, sorted_rows=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
