"""A sparse dictionary of rows that come in batches: code a batch, improve the dictionary, forget the batch.

codes        a = argmin over a >= 0 of 1/2 ||x - a D||^2 + l1 sum(a)      sae/functional/sparse_coding.py
dictionary   a step of `OnlineUpdate` or `DiagonalHessianUpdate`           sae/factors/updates.py
"""

from collections.abc import Iterable
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.errors import UserError
from sae.factors.totals import CodeFigures, CodeTotals
from sae.factors.updates import DictionaryUpdate, OnlineUpdate
from sae.functional.dictionary_steps import inverse_root_frequency
from sae.functional.geometry import unit_rows_
from sae.functional.resampling import draw_rows, resampling_probabilities
from sae.functional.sparse import sparse_decode
from sae.functional.sparse_coding import CodingSettings, SparseCodes, sparse_code

__all__ = ["DictionaryFit", "code_figures"]


@final
class DictionaryFit:
    """A dictionary in the making; whatever is saved of it and loaded goes on as if never stopped.

    Args:
        d_in: width of the rows.
        d_sae: atoms.
        l1_coefficient: of the codes, in the units of the rows.
        update: how the dictionary is improved; None: `OnlineUpdate()`.
        coding: how codes are found; None: working sets, to a gap of 1e-5 of the objective.
        start: atoms at first: `normal`, random directions, or `rows`, directions of the first batch's rows.
        dead_after_rows: an atom without activation on so many rows is drawn anew from the residuals; None: never.
        token_counts: how often each token occurs in the text; rows then weigh 1 / sqrt(count) in the dictionary's step.
        total_rows: rows that there are, where that is known; a dictionary with more atoms than rows is refused.
        seed: of all that is drawn.
        dtype: float32 or float64.
        device: where the work is done.

    Attributes:
        dictionary: D [d_sae, d_in], rows of norm 1.
        rows_seen: rows so far.
        redrawn: how often an atom was drawn anew.

    Raises:
        UserError: a value is out of range, or there are more atoms than rows.
    """

    def __init__(
        self,
        *,
        d_in: int,
        d_sae: int,
        l1_coefficient: float | int,
        update: DictionaryUpdate | None = None,
        coding: CodingSettings | None = None,
        start: Literal["normal", "rows"] = "normal",
        dead_after_rows: int | None = None,
        token_counts: Int[Tensor, " vocabulary"] | None = None,
        total_rows: int | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if d_sae < 1 or not l1_coefficient > 0:
            raise UserError(f"d_sae={d_sae}, l1_coefficient={l1_coefficient}: expected at least 1, and above 0")
        if total_rows is not None and total_rows < d_sae:
            raise UserError(
                f"d_sae={d_sae}, and there are {total_rows} rows: each atom could be one of them. Take more text, or at most "
                f"{max(1, total_rows // 10)} atoms (ten rows for each)."
            )
        self._l1, self._coding, self._start = l1_coefficient, coding or CodingSettings(), start
        self._update = update or OnlineUpdate()
        self._dead_after, self._counts = dead_after_rows, token_counts
        self._generator = torch.Generator().manual_seed(seed)
        self.dictionary = unit_rows_(torch.randn(d_sae, d_in, generator=self._generator, dtype=dtype).to(device))
        self._update.start(self.dictionary)
        self.rows_seen = 0
        self._last_fired = torch.zeros(d_sae, dtype=torch.int64)  # rows seen when the atom was last active, or drawn
        self.redrawn = 0
        self._ever = torch.zeros(d_sae, dtype=torch.bool)
        self._totals = CodeTotals(d_in, d_sae)

    def step(self, rows: Float[Tensor, "batch d_in"], tokens: Int[Tensor, " batch"] | None = None) -> SparseCodes:
        """Code one batch with the dictionary as it is, then improve the dictionary.

        Args:
            rows: activation vectors.
            tokens: the token of each, where rows are weighed by their frequency.

        Returns:
            The codes.

        Raises:
            UserError: no code of these rows is above zero and none was before, so that nothing can be learnt; the first batch
                has fewer rows than there are atoms to start from them; there are no tokens and they are needed.
        """
        if self._counts is not None and tokens is None:
            raise UserError("rows are weighed by the frequency of their tokens, and came without tokens")
        rows = rows.to(self.dictionary)
        if self.rows_seen == 0 and self._start == "rows":
            self._start_from(rows)
        codes = sparse_code(rows, self.dictionary, self._l1, settings=self._coding)
        if len(codes.acts.values) == 0 and not bool(self._ever.any()):
            raise UserError(self._killed(rows))
        weights = None
        if self._counts is not None and tokens is not None:
            weights = inverse_root_frequency(self._counts, tokens.cpu()).to(rows.device)
        residual = rows - sparse_decode(codes.acts, self.dictionary)
        self._update.step(self.dictionary, codes.acts, rows, residual, weights)
        self.rows_seen += len(rows)
        self._totals.add(rows, residual, codes)
        fired = codes.acts.fired().cpu()
        self._ever |= fired
        self._last_fired[fired] = self.rows_seen
        if self._dead_after is not None:
            self._redraw(self.rows_seen - self._last_fired >= self._dead_after, residual)
        return codes

    def take_figures(self) -> CodeFigures:
        """Figures of the rows since they were last taken, each coded with the dictionary of its time."""
        figures = self._totals.figures()
        self._totals = CodeTotals(self.dictionary.shape[1], len(self.dictionary))
        return figures

    def silent_fraction(self, window_rows: int) -> float:
        """Share of atoms without activation on the last `window_rows` rows; those drawn anew since count as active then."""
        return float((self.rows_seen - self._last_fired >= window_rows).double().mean())

    def problems(self) -> list[str]:
        """What a user should know before trusting the dictionary; empty if all is well."""
        found, d_sae, never = [], len(self.dictionary), int((~self._ever).sum())
        if self.rows_seen < d_sae:
            found.append(
                f"{self.rows_seen} rows for {d_sae} atoms: each atom can be a row of its own. Take more text or fewer atoms."
            )
        elif 2 * never > d_sae:
            found.append(
                f"{never} of {d_sae} atoms were active on none of {self.rows_seen} rows: the data do not fill so large a "
                f"dictionary at l1_coefficient={self._l1}. Lower the coefficient, or take fewer atoms."
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as tensors and numbers."""
        return {
            "dictionary": self.dictionary.clone(),
            "update": {name: value.clone() for name, value in self._update.state_dict().items()},
            "totals": self._totals.state_dict(),
            "last_fired": self._last_fired.clone(),
            "ever_fired": self._ever.clone(),
            "rows_seen": self.rows_seen,
            "redrawn": self.redrawn,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            UserError: it is of a dictionary of another size.
        """
        if state["dictionary"].shape != self.dictionary.shape:
            raise UserError(
                f"the saved dictionary is {list(state['dictionary'].shape)}, this one {list(self.dictionary.shape)}: a fit "
                "goes on with the sizes that it began with"
            )
        self.dictionary.copy_(state["dictionary"])
        self._update.load_state_dict(state["update"])
        self._totals.load_state_dict(state["totals"])
        self._last_fired, self._ever = state["last_fired"].clone(), state["ever_fired"].clone()
        self.rows_seen, self.redrawn = int(state["rows_seen"]), int(state["redrawn"])
        self._generator.set_state(state["generator"])

    def _start_from(self, rows: Tensor) -> None:
        usable = (rows != 0).any(dim=1).cpu()
        if int(usable.sum()) < len(self.dictionary):
            raise UserError(
                f"start=rows, and the first batch has {int(usable.sum())} rows that are not zero for {len(self.dictionary)} "
                "atoms: take larger batches, or start=normal"
            )
        picks = draw_rows(usable.double() / usable.sum(), len(self.dictionary), self._generator)
        self.dictionary.copy_(unit_rows_(rows[picks.to(rows.device)]))

    def _killed(self, rows: Tensor) -> str:
        most = float((rows @ self.dictionary.T).max()) if len(rows) else 0.0
        return (
            f"l1_coefficient={self._l1} kills every code: density 0 on the first {self.rows_seen + len(rows)} rows. Their "
            f"largest fit with any atom is {most:.4g}, and a code needs a fit above the coefficient: try {0.1 * most:.2g}."
        )

    def _redraw(self, dead: Bool[Tensor, " d_sae"], residual: Tensor) -> None:
        """Give dead atoms directions of residuals, drawn in proportion to their squared length, each once."""
        if not bool(dead.any()):
            return
        lengths = torch.linalg.vector_norm(residual, dim=1)
        picks = draw_rows(resampling_probabilities(lengths), int(dead.sum()), self._generator)
        picks = picks[lengths[picks] > 0]
        chosen = dead.nonzero().squeeze(1)[: len(picks)]
        self.dictionary[chosen.to(residual.device)] = unit_rows_(residual[picks])
        mask = torch.zeros_like(dead).index_fill_(0, chosen, True)
        self._update.forget(mask.to(residual.device))
        self._last_fired[chosen] = self.rows_seen
        self.redrawn += len(chosen)


def code_figures(
    dictionary: Float[Tensor, "d_sae d_in"],
    batches: Iterable[Float[Tensor, "_ d_in"]],
    l1_coefficient: float | int,
    *,
    coding: CodingSettings | None = None,
) -> CodeFigures:
    """Figures of rows under a finished dictionary: of text that it was not fitted on."""
    totals = CodeTotals(dictionary.shape[1], len(dictionary))
    for batch in batches:
        rows = batch.to(dictionary)
        codes = sparse_code(rows, dictionary, l1_coefficient, settings=coding)
        totals.add(rows, rows - sparse_decode(codes.acts, dictionary), codes)
    return totals.figures()
