"""A matrix of weights of which only the rows in use are up to date, that cannot be read wrongly.

An optimizer that passes over rows without a gradient leaves weights behind that are not what they should be. Here they are
handed out: the rows that a sparse product reads are brought up to date first; anything else that touches the matrix, whatever
it is, finds all of it up to date.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["CatchesUp", "LazyRows", "up_to_date"]

# What can be asked of a tensor without reading its numbers.
_METADATA = frozenset(
    [
        "device",
        "dim",
        "dtype",
        "element_size",
        "grad",
        "grad_fn",
        "is_complex",
        "is_contiguous",
        "is_cpu",
        "is_cuda",
        "is_floating_point",
        "is_leaf",
        "is_meta",
        "is_mps",
        "is_nested",
        "is_quantized",
        "is_sparse",
        "layout",
        "names",
        "ndim",
        "nelement",
        "numel",
        "register_hook",
        "requires_grad",
        "requires_grad_",
        "retains_grad",
        "shape",
        "size",
        "stride",
        "__hash__",
        "__len__",
        "_version",
        "_backward_hooks",
    ]
)


@runtime_checkable
class CatchesUp(Protocol):
    """What knows how to bring rows up to date."""

    def catch_up_(self, rows: Int[Tensor, " some"] | None = None) -> None:
        """Bring these rows, or all, up to date in place."""
        ...

    def caught_up(self) -> Float[Tensor, "rows width"]:
        """A copy of all rows, up to date; nothing is changed."""
        ...


@final
class LazyRows(nn.Parameter):
    """A parameter whose rows may be behind.

    Every function of torch that is given it finds all rows up to date, except those that ask for no number (its shape, its
    gradient). `rows` and `behind` are the ways around that, for what knows of it. A deep copy, and what a state dict of its
    module holds (`save_up_to_date`), are plain and up to date, and leave this one as it is: how often something is evaluated or
    saved must not change the last bit of training.
    """

    _keeper: CatchesUp | None = None
    _saving = False

    def while_saved(self, saving: bool) -> None:
        """From now on `detach`, which is what a state dict calls, gives an up-to-date copy; or no longer."""
        self._saving = saving

    def kept_by(self, keeper: CatchesUp) -> None:
        """Say who brings rows up to date."""
        self._keeper = keeper

    @property
    def behind(self) -> Float[Tensor, "rows width"]:
        """The same memory as a plain tensor, as it is; writing to it is not seen by autograd."""
        data: Any = torch.Tensor.data
        return nn.Parameter.__torch_function__(data.__get__, (LazyRows,), (self,), {})

    def rows(self, which: Int[Tensor, " some"]) -> Float[Tensor, "rows width"]:
        """The same memory as a plain tensor, in which these rows are up to date."""
        if self._keeper is not None:
            self._keeper.catch_up_(which)
        return self.behind

    def caught_up(self) -> Float[Tensor, "rows width"]:
        """A plain copy, up to date; nothing is changed."""
        return self.behind.clone() if self._keeper is None else self._keeper.caught_up()

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Bring all rows up to date before anything that may read them."""
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "__delete__"):
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        kwargs = {} if kwargs is None else kwargs
        if name not in _METADATA:
            for one in _lazy_among((args, kwargs)):
                if one._saving and func is torch.Tensor.detach:
                    return one.caught_up()
                if one._keeper is not None:
                    one._keeper.catch_up_()
        return super().__torch_function__(func, types, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        copied = nn.Parameter(self.caught_up(), self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return nn.Parameter(self.caught_up(), self.requires_grad).__reduce_ex__(protocol)


def up_to_date(parameter: nn.Parameter) -> Tensor:
    """A parameter's numbers for a look from outside of training, which changes nothing; a copy where rows are behind."""
    return parameter.caught_up() if isinstance(parameter, LazyRows) else parameter.detach()


def save_up_to_date(module: nn.Module, name: str) -> None:
    """Let state dicts of a module hold its lazy parameter's up-to-date copy, where it is one at that time."""

    def mark(saving: bool) -> Callable[..., None]:
        def hook(module: nn.Module, *_: Any) -> None:
            parameter = dict(module.named_parameters(recurse=False)).get(name)
            if isinstance(parameter, LazyRows):
                parameter.while_saved(saving)

        return hook

    module.register_state_dict_pre_hook(mark(True))
    module.register_state_dict_post_hook(mark(False))


def _lazy_among(arguments: Any) -> list[LazyRows]:
    """The lazy parameters among a function's arguments, in lists and tuples too."""
    if isinstance(arguments, LazyRows):
        return [arguments]
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        return [found for one in arguments for found in _lazy_among(one)]
    return []
