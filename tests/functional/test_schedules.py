import pytest

from sae.functional.schedules import cosine_decay, linear_decay, linear_warm_up


def test_warm_up_by_hand():
    assert [linear_warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert linear_warm_up(0, 0) == 1


def test_decay_by_hand():
    assert [linear_decay(step, 8, 4) for step in range(10)] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert linear_decay(7, 8, 0) == 1


def test_cosine_by_hand():
    half = [cosine_decay(step, 4, 4) for step in range(5)]
    assert half == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])
    assert cosine_decay(3, 4, 0) == 1


@pytest.mark.parametrize("steps", [0.4, 1.0, 2.5, 7.0])
def test_every_step_moves(steps):
    """Fractions of small budgets too: no factor is zero inside the run, and none leaves 0..1."""
    for step in range(7):
        for factor in (linear_warm_up(step, steps), linear_decay(step, 7, steps), cosine_decay(step, 7, steps)):
            assert 0 < factor <= 1
