"""The keys that say where pages go and what is done with them, of every command that writes some."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae.commands.binding import bind, make, parameters_of, typed

__all__ = ["ShowNode", "read_show"]


@dataclass(frozen=True, kw_only=True)
class ShowNode:
    """The keys at the top of `conf/dashboard.yaml` that say where the pages go and what is done with them."""

    out: str | None = None
    open: bool = False
    serve: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must lie between 0 and {2**16 - 1}, got {self.port}")


def read_show(tree: Mapping[str, Any], problems: list[str]) -> ShowNode | None:
    """The keys, bound; None where something is wrong, for which sentences are added."""
    parameters = parameters_of(ShowNode)
    given = {key: tree[key] for key in parameters}
    found = [mistake.removeprefix("pages.") for mistake in bind("pages", given, parameters)]
    problems += found
    return None if found else make(lambda: ShowNode(**typed(given, parameters)), problems)
