"""Train, evaluate and look inside sparse autoencoders of transformer activations.

The names below are fetched when they are first used, so that `import sae` is quick and loading a trained SAE needs torch and
safetensors alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae.activations.texts import token_blocks as token_blocks
    from sae.architectures.base import SparseAutoencoder as SparseAutoencoder
    from sae.commands.fit import fit as fit
    from sae.commands.show import show as show
    from sae.errors import UserError as UserError
    from sae.evaluation.suite import evaluate as evaluate
    from sae.formats.native import load as load
    from sae.formats.native import save as save
    from sae.models.capture import capture as capture
    from sae.models.hook_points import resolve_hook_point as resolve_hook_point
    from sae.models.loading import load_model as load_model
    from sae.models.splice import splice as splice

_MODULE_OF = {
    "SparseAutoencoder": "sae.architectures.base",
    "UserError": "sae.errors",
    "capture": "sae.models.capture",
    "evaluate": "sae.evaluation.suite",
    "fit": "sae.commands.fit",
    "load": "sae.formats.native",
    "load_model": "sae.models.loading",
    "resolve_hook_point": "sae.models.hook_points",
    "save": "sae.formats.native",
    "show": "sae.commands.show",
    "splice": "sae.models.splice",
    "token_blocks": "sae.activations.texts",
}

__all__ = [
    "SparseAutoencoder",
    "UserError",
    "capture",
    "evaluate",
    "fit",
    "load",
    "load_model",
    "resolve_hook_point",
    "save",
    "show",
    "splice",
    "token_blocks",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
