"""Train, evaluate and look inside sparse autoencoders of transformer activations.

The names below are fetched when they are first used, so that `import sae` is quick and loading a trained SAE needs torch and
safetensors alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae.formats.native import load as load
    from sae.formats.native import save as save

_MODULE_OF = {
    "load": "sae.formats.native",
    "save": "sae.formats.native",
}

__all__ = ["load", "save"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
