"""The `dashboard` node: what is read, what pages show, and what is written beside them."""

import re
from dataclasses import dataclass
from typing import Literal

from sae.dashboards.latents.settings import LayoutMethod

__all__ = ["DashboardNode"]

LEAST_GB, MOST_GB = 1e-3, 1e6
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class DashboardNode:
    """`dashboard`: see `conf/dashboard.yaml`."""

    tokens: int = 500_000
    split: Literal["all", "held_out"] = "all"
    top: int = 20
    intervals: int = 10
    per_interval: int = 3
    random: int = 5
    window: int = 20
    effects: Literal["auto", "gradient", "none"] = "auto"
    effects_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    exact_effects: int = 64
    texts: tuple[str, ...] = ()
    explanations: str | None = None
    memory_gb: float = 1.0
    layout: LayoutMethod = "auto"
    shard: str = "1/1"
    export: tuple[Literal["neuronpedia", "delphi", "parquet"], ...] = ()
    neuronpedia_model: str | None = None
    neuronpedia_set: str | None = None
    neuronpedia_creator: str = "anonymous"

    def __post_init__(self) -> None:
        leasts = {"tokens": 1, "top": 1, "intervals": 1, "per_interval": 0, "random": 0, "window": 0, "exact_effects": 0}
        wrong = [
            f"dashboard.{key} must be at least {least}, got {getattr(self, key)}"
            for key, least in leasts.items()
            if getattr(self, key) < least
        ]
        if not LEAST_GB <= self.memory_gb <= MOST_GB:
            wrong.append(f"dashboard.memory_gb must lie between {LEAST_GB:g} and {MOST_GB:g}, got {self.memory_gb:g}")
        if self.neuronpedia_model is not None and not MODEL_NAME.fullmatch(self.neuronpedia_model):
            wrong.append(
                f"dashboard.neuronpedia_model={self.neuronpedia_model!r}: a folder is named by it: expected letters, digits, "
                "dots, hyphens and underscores, a letter or digit first"
            )
        parts = SHARD.fullmatch(self.shard)
        if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
            wrong.append(f"dashboard.shard={self.shard}: expected a part and how many there are, as in 2/4: 1/4 to 4/4")
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def part(self) -> tuple[int, int]:
        """The shard as a number from 0, and how many there are."""
        number, count = self.shard.split("/")
        return int(number) - 1, int(count)
