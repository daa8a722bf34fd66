"""The file beside the weights of an SAE of mixed layers: which layers they are, and their units.

`layers.safetensors` holds `means` [layers, width] and `scales` [layers] in float64, and the layers' names in its header.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sae.architectures.layer_units import LayerUnits
from sae.errors import UserError

__all__ = ["LAYERS", "layer_units_bytes", "read_layer_units"]

LAYERS = "layers.safetensors"


def layer_units_bytes(units: LayerUnits) -> bytes:
    """The content of the file."""
    tensors = {"means": units.means.contiguous(), "scales": units.scales.contiguous()}
    return save(tensors, metadata={"layers": json.dumps(units.layers)})  # of several keys, the order would change by chance


def read_layer_units(folder: Path, *, sha256: str | None = None) -> LayerUnits:
    """What was written, equal to the bit.

    Args:
        folder: that holds the file.
        sha256: what its checksum must be, if that is known.

    Raises:
        UserError: the file is missing, damaged or another, or its units are no units.
    """
    file = folder / LAYERS
    if not file.is_file():
        raise UserError(f"{file} is missing: it says what each layer's rows were centred and scaled by. Copy it too")
    if sha256 is not None and hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        raise UserError(f"{file} was altered or is another SAE's: its checksum is not that of cfg.json. Copy it again")
    try:
        with safe_open(file, "pt") as content:
            layers = tuple(json.loads((content.metadata() or {})["layers"]))
            means, scales = content.get_tensor("means"), content.get_tensor("scales")
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged or no file of layers ({error}): copy it again, or train again") from None
    fits = means.ndim == 2 and len(means) == len(layers) and scales.shape == (len(layers),)
    sound = bool(means.isfinite().all()) and bool(((scales > 0) & scales.isfinite()).all())
    if not fits or not sound or {means.dtype, scales.dtype} != {torch.float64}:
        raise UserError(f"{file} is damaged: expected a finite mean and a positive scale for each of {len(layers)} layers")
    return LayerUnits(layers=layers, means=means, scales=scales)
