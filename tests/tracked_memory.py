"""How much memory tensors take at the most while a block runs: every storage from the operation that made it to its end."""

import weakref
from typing import Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@final
class TrackedMemory(TorchDispatchMode):
    """Sums the storages that operations give, forward and backward; what an operation takes for itself is not seen.

    Attributes:
        held: bytes now, of tensors made inside the block.
        peak: the most of them so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._note(storage, before)
        return result

    def _note(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in before:
            return
        self._known.add(key)
        weakref.finalize(storage, self._freed, key, size)
        self.held += size
        self.peak = max(self.peak, self.held)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of its tensors with zeros; compressed ones are made of such tensors."""
    return [
        leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided
    ]
