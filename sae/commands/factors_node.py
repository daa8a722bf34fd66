"""The nodes of `conf/factors.yaml` that no other command has: the dictionary and how it is fitted, and what its pages show."""

import re
from dataclasses import dataclass
from typing import Literal

from sae.activations.scaling import Scaling
from sae.dashboards.latents.settings import LayoutMethod
from sae.errors import UserError
from sae.factors.occurrences import word_pattern
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.updates import DiagonalHessianUpdate, DictionaryUpdate, OnlineUpdate
from sae.functional.sparse_coding import CodingSettings

__all__ = ["FactorsNode", "PagesNode"]

SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class FactorsNode:
    """`factors`: see `conf/factors.yaml`."""

    tokens: int = 300_000
    batch_tokens: int = 2048
    d_sae: int = 2000
    l1_coefficient: float = 2.0
    scaling: Scaling = "none"
    update: Literal["online", "diagonal_hessian"] = "online"
    forgetting: float = 10.0
    sweeps: int = 1
    rate: float = 0.005
    history: float = 300.0
    floor: float = 0.001
    start: Literal["normal", "rows"] = "rows"
    dead_after_tokens: int | None = 40_000
    frequency_weights: bool = False
    method: Literal["working_sets", "fista", "ista"] = "working_sets"
    tolerance: float | None = 1e-5
    max_iterations: int = 2000
    restart: bool = True
    amortise: bool = False

    def __post_init__(self) -> None:
        wrong = [
            f"factors.{key} must be at least 1, got {value}"
            for key, value in (
                ("batch_tokens", self.batch_tokens),
                ("d_sae", self.d_sae),
                ("dead_after_tokens", self.dead_after_tokens),
            )
            if value is not None and value < 1
        ]
        if not self.l1_coefficient > 0:
            wrong.append(f"factors.l1_coefficient must be above 0, got {self.l1_coefficient:g}: without it nothing is sparse")
        if self.tokens < self.batch_tokens:
            wrong.append(f"factors.tokens={self.tokens} is less than one batch (factors.batch_tokens={self.batch_tokens})")
        elif self.tokens < self.d_sae:
            wrong.append(
                f"factors.d_sae={self.d_sae}, and there are factors.tokens={self.tokens} rows: each factor could be one of "
                f"them. Take more tokens, or at most {max(1, self.tokens // 10)} factors (ten rows for each)"
            )
        if self.start == "rows" and self.batch_tokens < self.d_sae:
            wrong.append(
                f"factors.start=rows takes {self.d_sae} different rows of the first batch, which has factors.batch_tokens="
                f"{self.batch_tokens}: raise it to factors.d_sae at least, or set factors.start=normal"
            )
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def steps(self) -> int:
        """Steps of the dictionary, each of one batch."""
        return self.tokens // self.batch_tokens

    def make_update(self) -> DictionaryUpdate:
        """What improves the dictionary after each batch."""
        if self.update == "online":
            return OnlineUpdate(forgetting=self.forgetting, sweeps=self.sweeps)
        return DiagonalHessianUpdate(rate=self.rate, history=self.history, floor=self.floor)

    def make_coding(self) -> CodingSettings:
        """How codes are found while the dictionary is fitted."""
        return CodingSettings(
            method=self.method, tolerance=self.tolerance, max_iterations=self.max_iterations, restart=self.restart
        )


@dataclass(frozen=True, kw_only=True)
class PagesNode:
    """`pages`: see `conf/factors.yaml`."""

    tokens: int = 20_000
    split: Literal["all", "held_out"] = "all"
    top: int = 10
    importance_top: int = 100
    strongest: int = 10
    occurrences: int = 200
    saliency: Literal["leave_one_out_shortlist", "leave_one_out", "integrated_gradients", "none"] = "leave_one_out_shortlist"
    saliency_contexts: int | None = None
    saliency_minutes: float | int = 20
    lime_factors: tuple[int, ...] = ()
    lime_contexts: int = 3
    lime_copies: int = 2001
    words: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    window: int = 20
    memory_gb: float = 1.0
    layout: LayoutMethod = "auto"
    shard: str = "1/1"

    def __post_init__(self) -> None:
        leasts = {
            "tokens": 1,
            "top": 1,
            "importance_top": 1,
            "strongest": 1,
            "occurrences": 1,
            "saliency_contexts": 0,
            "lime_contexts": 1,
            "lime_copies": 2,
            "window": 0,
        }
        wrong = [
            f"pages.{key} must be at least {least}, got {value}"
            for key, least in leasts.items()
            if (value := getattr(self, key)) is not None and value < least
        ]
        if min(self.lime_factors, default=0) < 0:
            wrong.append(f"pages.lime_factors={list(self.lime_factors)}: factors are numbered from 0")
        if not self.saliency_minutes > 0:
            wrong.append(
                f"pages.saliency_minutes must be above 0, got {self.saliency_minutes:g}; pages.saliency=none measures none"
            )
        if not 1e-3 <= self.memory_gb <= 1e6:
            wrong.append(f"pages.memory_gb must lie between 0.001 and 1e+06, got {self.memory_gb:g}")
        for number, word in enumerate(self.words):
            try:
                word_pattern(word)
            except UserError as error:
                wrong.append(f"pages.words[{number}]: {error}")
        parts = SHARD.fullmatch(self.shard)
        if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
            wrong.append(f"pages.shard={self.shard}: expected a part and how many there are, as in 2/4: 1/4 to 4/4")
        if wrong:
            raise ValueError("; ".join(wrong))

    def misfits(self, d_sae: int) -> list[str]:
        """What is asked for and does not go with a dictionary of so many factors, a sentence each."""
        beyond = [number for number in self.lime_factors if number >= d_sae]
        return [f"pages.lime_factors={beyond}: the dictionary has {d_sae} factors, numbered from 0"] if beyond else []

    def saliency_settings(self, seed: int, *, takes_shortlist: bool) -> SaliencySettings:
        """How much saliency is measured, and how.

        Args:
            seed: of LIME's copies.
            takes_shortlist: whether the dictionary searches for its codes; an encoder is always exact.
        """
        exact = self.saliency == "leave_one_out_shortlist" and not takes_shortlist
        return SaliencySettings(
            method="leave_one_out" if exact else self.saliency,
            contexts=self.saliency_contexts,
            minutes=self.saliency_minutes,
            lime_factors=self.lime_factors,
            lime_contexts=self.lime_contexts,
            copies=self.lime_copies,
            seed=seed,
        )

    @property
    def part(self) -> tuple[int, int]:
        """The shard as a number from 0, and how many there are."""
        number, _, count = self.shard.partition("/")
        return int(number) - 1, int(count)
