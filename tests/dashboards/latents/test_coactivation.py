import numpy as np
import pytest

from sae.dashboards.latents import coactivation as module
from sae.dashboards.latents.by_latent import count, gather
from sae.dashboards.latents.coactivation import Coactivation
from sae.dashboards.latents.settings import PageSettings
from tests.dashboards.latents.synthetic import some_codes
from tests.reference import dashboards as twin


def nearest(codes, settings, listed=4, first=0, end=None):
    counted = count(codes)
    entries = gather(codes, counted.fired, 0, codes.num_latents).narrow(first, end or codes.num_latents)
    found = Coactivation(codes, counted.active, settings)
    return found, found.nearest(entries, listed)


def check(listed, together, first=0):
    for i, (numbers, values) in enumerate(zip(listed.number, listed.value, strict=True), start=first):
        expected = twin.best(((other, np.float32(value)) for other, value in enumerate(together[i])), len(numbers))
        held = numbers >= 0
        assert numbers[held].tolist() == [other for other, _ in expected]
        np.testing.assert_allclose(values[held], [together[i][other] for other, _ in expected], rtol=1e-15)


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("step", [1, 50, 2**20])
def test_nearest_have_the_largest_jaccard_index(monkeypatch, few, step):
    """By a table, in steps of a few pairs or at once, and by sorting."""
    monkeypatch.setattr(module, "FEW_PAIRS", few)
    monkeypatch.setattr(module, "STEP_PAIRS", step)
    codes = some_codes()
    together = twin.jaccard(twin.firings(codes))
    found, listed = nearest(codes, PageSettings())
    assert found.rows == codes.blocks.num_rows
    check(listed, together)
    assert (listed.number[0] == -1).all()  # dead
    check(nearest(codes, PageSettings(), first=6, end=9)[1], together, first=6)


def test_a_sample_of_rows_is_counted_where_pairs_are_too_many():
    codes = some_codes(blocks=60)
    active = count(codes).active
    settings = PageSettings(pairs=int((active.astype(int) ** 2).sum()) // 3)
    found, listed = nearest(codes, settings)
    drawn = [row for row in range(len(active)) if twin.draw(0, codes.num_latents, row)[0] < 2**32 / 3]
    assert found.rows == pytest.approx(len(drawn), abs=2)
    assert 0.25 < found.rows / len(active) < 0.42
    firings = [[firing for firing in own if firing["row"] in drawn] for own in twin.firings(codes)]
    assert found.fired.tolist() == [len(own) for own in firings]
    check(listed, twin.jaccard(firings))
    again = nearest(some_codes(blocks=60, chunk_blocks=7), settings)[1]
    assert (again.number == listed.number).all()
    assert nearest(codes, PageSettings(pairs=settings.pairs, seed=1))[1].number.tolist() != listed.number.tolist()
