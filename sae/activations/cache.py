"""A store that a run makes for itself, where it passes over the same text more than once, and that later runs find again."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from sae.activations.row_source import RowSource
from sae.activations.store import StoreDescription, plan_store, write_store
from sae.activations.stored import StoredRows
from sae.tokens.blocks import TokenBlocks

__all__ = ["cached_rows"]


def cached_rows(
    cache_dir: Path,
    blocks: TokenBlocks,
    source: RowSource,
    description: StoreDescription,
    *,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> StoredRows:
    """Rows from the cache's store of just these blocks, model and hook points, which is written first where it is not there.

    Two runs that want the same store at once do not both harvest: the second waits for the first.

    Args:
        cache_dir: folder of all cached stores.
        blocks: token blocks.
        source: gives the activations that are not there yet.
        description: where they come from.
        on_rows: told (rows done, rows in all) while harvesting.

    Returns:
        The stored rows.

    Raises:
        UserError: the disk is too small or full.
    """
    folder = cache_dir / plan_store(blocks, source, description).identity[:32]
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        write_store(folder, blocks, source, description, on_rows=on_rows)
    return StoredRows(folder)
