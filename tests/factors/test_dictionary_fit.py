"""Fits of dictionaries: planted ones recovered, stopped and gone on to the bit, and what is said when it cannot work."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from sae.errors import UserError
from sae.factors.dictionary_fit import DictionaryFit, code_figures
from sae.factors.totals import CodeTotals
from sae.factors.updates import DiagonalHessianUpdate, OnlineUpdate
from sae.functional.matching import mean_max_cosine
from sae.functional.sparse import sparse_decode, sparse_from_dense
from sae.functional.sparse_coding import CodingSettings, sparse_code
from tests.cases import ramp
from tests.reference import sparse_coding as twin
from tests.reference.dictionaries import planted_atoms, planted_rows
from tests.reference.geometry import fvu

UPDATES = {
    "online": lambda: OnlineUpdate(),
    "diagonal_hessian": lambda: DiagonalHessianUpdate(rate=0.2, history=30),
}


@pytest.fixture(params=list(UPDATES))
def update(request):
    return UPDATES[request.param]


def planted(num_rows, d_in=16, seed=1):
    """2 d_in unit atoms, each present with p = 0.04 at unit strength, without noise."""
    generator = torch.Generator().manual_seed(seed)
    atoms = planted_atoms(2 * d_in, d_in, generator)
    return planted_rows(atoms, num_rows, 0.04, generator), atoms


def leaves(state):
    """Tensors and numbers of nested dictionaries."""
    return [leaf for value in state.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def a_fit(update, **settings):
    settings = {"d_in": 16, "d_sae": 32, "l1_coefficient": 0.3, "dead_after_rows": 1500, **settings}
    return DictionaryFit(update=update, **settings)


@pytest.mark.parametrize("start", ["normal", "rows"])
def test_planted_dictionaries_are_recovered(update, start):
    rows, atoms = planted(8_000)
    fit = a_fit(update(), start=start)
    before = float(mean_max_cosine(fit.dictionary, atoms))
    for batch in rows.split(125):
        fit.step(batch)
    assert before < 0.75
    assert float(mean_max_cosine(fit.dictionary, atoms)) > 0.95
    assert float(mean_max_cosine(atoms, fit.dictionary)) > 0.95
    torch.testing.assert_close(fit.dictionary.norm(dim=1), torch.ones(32))
    assert fit.problems() == []


@pytest.mark.parametrize("at", [0, 1, 4])
def test_stopped_and_gone_on_to_the_bit(update, at, tmp_path):
    rows, _ = planted(480)
    tokens, counts = torch.arange(480) % 7, torch.arange(7) * 5
    settings = {"dead_after_rows": 60, "token_counts": counts, "start": "rows", "l1_coefficient": 0.8, "dtype": torch.float64}
    batches = [(rows[part], tokens[part]) for part in torch.arange(480).split(80)]
    whole, first = a_fit(update(), **settings), a_fit(update(), **settings)
    for batch in batches:
        whole.step(*batch)
    for batch in batches[:at]:
        first.step(*batch)
    torch.save(first.state_dict(), tmp_path / "fit.pt")
    second = a_fit(update(), **settings, seed=9)
    second.load_state_dict(torch.load(tmp_path / "fit.pt", weights_only=True))
    first.step(*batches[at])  # what is loaded is a copy
    for batch in batches[at:]:
        second.step(*batch)
    assert whole.redrawn > 0
    assert torch.equal(second.dictionary, whole.dictionary)
    assert second.take_figures() == whole.take_figures()
    for ours, theirs in zip(leaves(second.state_dict()), leaves(whole.state_dict()), strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_accumulated_statistics_are_those_of_one_pass():
    codes, rows, weights = torch.relu(ramp(40, 9)), ramp(40, 4, phase=1), ramp(40, phase=2).abs()
    update, dictionary = OnlineUpdate(forgetting=0), torch.nn.functional.normalize(ramp(9, 4, phase=3), dim=1)
    update.start(dictionary)
    for part in torch.arange(40).split(7):
        update.step(dictionary, sparse_from_dense(codes[part]), rows[part], rows[part], weights[part])
    second, cross = twin.statistics(codes.numpy(), rows.numpy(), weights.numpy())
    np.testing.assert_allclose(update.statistics.second.numpy(), second, rtol=1e-12)
    np.testing.assert_allclose(update.statistics.cross.numpy(), cross, rtol=1e-12, atol=1e-14)


def test_forgetting_weighs_batches_as_the_paper_does():
    codes, rows = torch.relu(ramp(30, 9)), ramp(30, 4, phase=1)
    update, dictionary = OnlineUpdate(forgetting=1), torch.nn.functional.normalize(ramp(9, 4, phase=3), dim=1)
    update.start(dictionary)
    for part in torch.arange(30).split(10):
        update.step(dictionary, sparse_from_dense(codes[part]), rows[part], rows[part], None)
    parts = [twin.statistics(codes[part].numpy(), rows[part].numpy())[0] for part in torch.arange(30).split(10)]
    wanted = parts[0] * (1 / 2) * (2 / 3) + parts[1] * (2 / 3) + parts[2]
    np.testing.assert_allclose(update.statistics.second.numpy(), wanted, rtol=1e-12)


def test_frequent_tokens_pull_less(update):
    """Two groups of rows want two directions of the one atom that there is: the rare token's wins."""
    rows = torch.tensor([[1.0, 0.0]] * 90 + [[0.0, 1.0]] * 10)
    tokens = torch.tensor([0] * 90 + [1] * 10)
    angles = {}
    for name, counts in (("plain", None), ("weighted", torch.tensor([1_000_000, 1]))):
        fit = DictionaryFit(d_in=2, d_sae=1, l1_coefficient=0.01, update=update(), token_counts=counts)
        fit.dictionary.copy_(torch.tensor([[0.8, 0.6]]))
        for _ in range(20):
            fit.step(rows, tokens)
        angles[name] = fit.dictionary[0].tolist()
    assert angles["plain"][0] > 0.9
    assert angles["weighted"][1] > 0.9


def test_figures_are_those_of_all_rows_however_they_are_cut():
    rows, atoms = planted(90)
    wanted = code_figures(atoms.double(), [rows], 0.2)
    cut = code_figures(atoms.double(), rows.split([40, 1, 49]), 0.2)
    assert asdict(cut) == pytest.approx(asdict(wanted), rel=1e-9, abs=1e-12)
    codes = sparse_code(rows.double(), atoms.double(), 0.2).acts.to_dense()
    recon = codes @ atoms.double()
    assert wanted.rows == 90
    assert wanted.l0 == pytest.approx(float((codes > 0).sum() / 90))
    assert wanted.density == pytest.approx(wanted.l0 / 32)
    assert wanted.fvu == pytest.approx(fvu(rows.numpy(), recon.numpy()), rel=1e-6)
    parts = [
        twin.objective(x, atoms.double().numpy(), code, 0.2)
        for x, code in zip(rows.double().numpy(), codes.numpy(), strict=True)
    ]
    assert wanted.objective == pytest.approx(np.mean(parts))
    assert wanted.atoms_used == int((codes > 0).any(dim=0).sum())
    assert code_figures(atoms.double(), [rows[:2]], 0.2).atoms_used == int((codes[:2] > 0).any(dim=0).sum()) < 32
    assert 0 <= wanted.gap <= 1e-5 * wanted.objective
    assert wanted.unconverged == 0
    assert np.isnan(CodeTotals(3, 4).figures().l0)


def test_saved_sums_stay_as_they_were():
    rows, atoms = planted(60)
    totals, loaded, again = (CodeTotals(16, 32) for _ in range(3))

    def add(totals, part):
        codes = sparse_code(part, atoms, 0.2)
        totals.add(part, part - sparse_decode(codes.acts, atoms), codes)

    add(totals, rows[:5])
    saved, before, fired = totals.state_dict(), totals.figures(), totals.firings.clone()
    add(totals, rows[5:])
    loaded.load_state_dict(saved)
    assert (loaded.figures(), loaded.firings.tolist()) == (before, fired.tolist())
    add(loaded, rows[5:])
    assert loaded.figures() == totals.figures() != before
    again.load_state_dict(saved)
    assert (again.figures(), again.firings.tolist()) == (before, fired.tolist())


def test_rows_that_did_not_converge_are_counted():
    rows, atoms = planted(50)
    coding = CodingSettings(method="ista", max_iterations=3)
    figures = code_figures(atoms, [rows], 0.2, coding=coding)
    assert 0 < figures.unconverged <= 1
    assert figures.gap > 1e-5 * figures.objective


def test_dead_atoms_take_directions_of_residuals(update):
    rows, _ = planted(64, seed=3)
    fit = a_fit(update(), l1_coefficient=0.1, dead_after_rows=64)
    fit.step(rows)
    assert bool(next(iter(fit._update.state_dict().values()))[6].any())
    fit.dictionary[6] = 0
    before = fit.redrawn
    residual = rows - sparse_decode(sparse_code(rows, fit.dictionary, 0.1).acts, fit.dictionary)
    fit.step(rows)
    assert fit.redrawn > before
    cosines = torch.nn.functional.normalize(residual, dim=1) @ fit.dictionary[6]
    assert float(cosines.max()) == pytest.approx(1, abs=1e-5)
    memory = fit._update.state_dict()
    assert all(not bool(memory[name][6].any()) for name in memory if name != "batches")


def test_what_is_remembered_of_an_atom_is_forgotten_with_it(update):
    rows, _ = planted(200)
    ours = update()
    a_fit(ours, dead_after_rows=None).step(rows)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    atoms = torch.zeros(32, dtype=torch.bool)
    atoms[4] = True
    ours.forget(atoms)
    for name, value in ours.state_dict().items():
        if name != "batches":
            assert bool(before[name][4].any())
            assert not bool(value[4].any())
            assert bool(value[5].any())
            assert name != "second" or not bool(value[:, 4].any())


def test_a_coefficient_that_kills_every_code_is_said_with_the_density():
    rows, _ = planted(40)
    with pytest.raises(UserError, match=r"l1_coefficient=50.0 kills every code: density 0 on the first 40 rows.*try 0\.\d+"):
        a_fit(OnlineUpdate(), l1_coefficient=50.0).step(rows)


def test_a_dictionary_that_the_data_do_not_fill_is_said():
    rows, _ = planted(400)
    with pytest.raises(UserError, match=r"d_sae=32, and there are 31 rows"):
        a_fit(OnlineUpdate(), total_rows=31)
    small = a_fit(OnlineUpdate(), total_rows=32)
    small.step(rows[:20])
    assert "20 rows for 32 atoms" in small.problems()[0]
    wide = a_fit(OnlineUpdate(), d_sae=300, dead_after_rows=None)
    wide.step(rows[:1].expand(300, -1) + 0.001 * rows[:300])
    assert "of 300 atoms were active on none of 300 rows" in wide.problems()[0]


def test_mistakes_are_named(update):
    rows, _ = planted(40)
    with pytest.raises(UserError, match="came without tokens"):
        a_fit(update(), token_counts=torch.ones(3, dtype=torch.int64)).step(rows)
    with pytest.raises(UserError, match="rows that are not zero for 32 atoms"):
        a_fit(update(), start="rows").step(rows[:9])
    with pytest.raises(UserError, match=r"\[32, 16\], this one \[31, 16\]"):
        a_fit(update(), d_sae=31).load_state_dict(a_fit(update()).state_dict())
    with pytest.raises(UserError, match="d_sae=0"):
        a_fit(update(), d_sae=0)
    with pytest.raises(UserError, match="forgetting=-1"):
        OnlineUpdate(forgetting=-1)
    with pytest.raises(UserError, match="history=0"):
        DiagonalHessianUpdate(history=0)


def test_the_silent_share_counts_atoms_without_activation_on_the_last_rows():
    """By hand: which atoms fired in the last batches, of rows that leave some of them out."""
    rows, _ = planted(600)
    fit = a_fit(OnlineUpdate(), dead_after_rows=None)
    fired = [fit.step(batch).acts.fired() for batch in rows.split(20)]
    shares = []
    for batches in (1, 3, 30):
        silent = ~torch.stack(fired[-batches:]).any(dim=0)
        shares.append(float(silent.double().mean()))
        assert fit.silent_fraction(20 * batches) == shares[-1]
    assert 0 <= shares[2] <= shares[1] < shares[0] < 1
