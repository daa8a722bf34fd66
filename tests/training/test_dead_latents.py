"""Silence is counted in training rows."""

import torch

from sae.training.dead_latents import DeadLatents


def fired(*latents, of=4):
    return torch.zeros(of, dtype=torch.bool).index_fill_(0, torch.tensor(latents, dtype=torch.long), True)


def test_rows_since_a_latent_fired():
    dead = DeadLatents(4)
    for latents in ((0, 1), (1,), (1, 2)):
        dead.update(fired(*latents), 10)
    assert dead.rows_since_fired.tolist() == [20, 0, 0, 30]
    assert dead.silent_for(20).tolist() == [True, False, False, True]
    assert dead.silent_for(21).tolist() == [False, False, False, True]
    assert dead.never_fired_fraction() == 0.25


def test_dead_fraction_looks_back_no_further_than_the_rows_there_were():
    dead = DeadLatents(4)
    dead.update(fired(0), 10)
    assert dead.dead_fraction(1000) == 0.75
    for _ in range(99):
        dead.update(fired(1, 2), 10)
    assert dead.dead_fraction(1000) == 0.25  # latent 0 fired on the first of the last 1000 rows' batch
    dead.update(fired(1, 2), 10)
    assert dead.dead_fraction(1000) == 0.5
    assert dead.never_fired_fraction() == 0.25


def test_counts_do_not_depend_on_the_batch_size_where_batches_divide():
    """Rows 0, 15 and 30 to 39 fire latent 0, 1 and 2: in batches of 5 or of 10 the counts agree to a batch."""
    counts = []
    for size in (5, 10):
        dead = DeadLatents(4)
        for start in range(0, 40, size):
            rows = range(start, start + size)
            dead.update(fired(*[latent for latent, row in ((0, 0), (1, 15), (2, 39)) if row in rows]), size)
        counts.append(dead.rows_since_fired)
    assert int((counts[0] - counts[1]).abs().max()) <= 5
    assert counts[0].tolist() == [35, 20, 0, 40]


def test_resampled_latents_begin_anew_but_have_still_never_fired():
    dead = DeadLatents(4)
    dead.update(fired(0), 10)
    dead.forget(fired(3))
    assert dead.rows_since_fired.tolist() == [0, 10, 10, 0]
    assert dead.never_fired_fraction() == 0.75


def test_counters_travel_with_the_state():
    dead = DeadLatents(4)
    dead.update(fired(0), 10)
    again = DeadLatents(4)
    again.load_state_dict(dead.state_dict())
    assert again.rows_since_fired.tolist() == [0, 10, 10, 10]
    assert again.ever_fired.tolist() == [True, False, False, False]
    assert int(again.rows_seen) == 10
    assert {name for name, _ in dead.named_buffers()} == {"rows_since_fired", "ever_fired", "rows_seen"}
