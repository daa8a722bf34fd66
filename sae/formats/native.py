"""The native format: a folder with `cfg.json`, `sae.safetensors` and a model card `README.md`.

`cfg.json` holds `format_version`, `architecture` (a name from the registry), `config` (the constructor's keyword arguments),
`d_in`, `d_sae`, `dtype`, `weights_sha256`, and whatever sections about its origin the caller gives (model, hook, text,
training, scale, versions, metrics). The checksum ties the two files together: each appears whole or not at all, and weights
that do not belong to their `cfg.json` are refused. Needs nothing beyond torch and safetensors.

An SAE of mixed layers has `layers.safetensors` beside them; `cfg.json` names the layers under `layers` and ties that file by
`layers_sha256`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save_file
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits, layer_view
from sae.errors import UserError
from sae.formats.layers import LAYERS, layer_units_bytes, read_layer_units
from sae.formats.model_card import model_card
from sae.formats.registry import architecture_class, architecture_name
from sae.functional.files import write_whole

__all__ = ["FORMAT_VERSION", "find_sae", "load", "load_layer_units", "read_cfg", "save"]

FORMAT_VERSION = 1
_CFG, _WEIGHTS, _CARD = "cfg.json", "sae.safetensors", "README.md"
_OWN_KEYS = ("format_version", "architecture", "config", "d_in", "d_sae", "dtype", "weights_sha256")
_LAYER_KEYS = ("layers", "layers_sha256")


def save(
    sae: SparseAutoencoder, folder: str | Path, *, cfg: Mapping[str, Any] | None = None, layers: LayerUnits | None = None
) -> Path:
    """Write an SAE to a folder, which is made if needed; other files in it stay.

    Args:
        sae: takes raw activations (scale and decoder norms folded), all parameters of one type, finite.
        folder: where to.
        cfg: sections about its origin, of what JSON can hold; `metrics` become the model card's table.
        layers: units of the layers that it reads, for an SAE of mixed layers.

    Returns:
        The folder.

    Raises:
        ValueError: a weight is not finite, the parameters have several types, or `cfg` has a key that the format writes itself
            or a value that JSON cannot hold. Nothing is written then.
    """
    sections = dict(cfg or {})
    if taken := sorted(set(sections) & {*_OWN_KEYS, *_LAYER_KEYS}):
        raise ValueError(f"cfg may not hold {taken}: the format writes them itself")
    tensors = {name: value.detach().cpu().contiguous() for name, value in sae.state_dict().items()}
    _refuse_non_finite(tensors, "this SAE cannot be saved")
    dtypes = {str(value.dtype).removeprefix("torch.") for value in sae.parameters()}
    if len(dtypes) != 1:
        raise ValueError(f"all parameters must have one type to be saved, got {sorted(dtypes)}")
    of_layers, layers_file = {}, b""
    if layers is not None:
        layers_file = layer_units_bytes(layers)
        of_layers = dict(zip(_LAYER_KEYS, (list(layers.layers), hashlib.sha256(layers_file).hexdigest()), strict=True))
    whole = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture_name(sae),
        "config": sae.config(),
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": dtypes.pop(),
        "weights_sha256": None,  # known once they are written
        **of_layers,
        **sections,
    }
    _json(whole)  # what it cannot hold is refused before anything is written
    folder = Path(folder)
    write_whole(folder / _WEIGHTS, lambda aside: _write_weights(aside, tensors))
    with (folder / _WEIGHTS).open("rb") as written:
        whole["weights_sha256"] = hashlib.file_digest(written, "sha256").hexdigest()
    if layers is not None:
        write_whole(folder / LAYERS, layers_file)
    write_whole(folder / _CARD, model_card(whole))
    write_whole(folder / _CFG, _json(whole))  # last: a folder with a cfg.json is complete
    return folder


def load(path: str | Path, *, device: str | torch.device = "cpu", layer: str | None = None) -> SparseAutoencoder:
    """Load an SAE, equal to the bit to the one that was saved.

    Args:
        path: the SAE's folder, or a run's folder that holds exactly one SAE.
        device: where its parameters shall lie.
        layer: of an SAE of mixed layers: the name of one (`cfg.json` lists them under `layers`), for an SAE of that layer's raw
            activations. None: the SAE as it was trained, which takes each row in its layer's units (`load_layer_units`).

    Returns:
        A module with `d_in`, `d_sae`, `encode`, `decode`, `W_dec`; it takes raw activations.

    Raises:
        UserError: there is no SAE or more than one, or its files are damaged, altered, or of a newer version; or it does not
            have the layer.
    """
    folder = find_sae(path)
    cfg = read_cfg(folder)
    sae = _build(cfg, folder / _CFG)
    tensors = _read_weights(folder / _WEIGHTS, cfg["weights_sha256"])
    where = str(folder / _WEIGHTS)
    _compare(tensors, sae.state_dict(), cfg["dtype"], where)
    _refuse_non_finite(tensors, where)
    # Copied, not assigned: the order of a parameter's numbers in memory, on which rounding depends, is the architecture's.
    sae.to(tensors["W_dec"].dtype).to_empty(device="cpu").load_state_dict(tensors)
    if layer is not None:
        units = load_layer_units(folder)
        if units is None:
            raise UserError(f"layer={layer!r}: the SAE in {folder} reads one place, not mixed layers. Leave layer out")
        sae = layer_view(sae, units, units.number(layer))
    return sae.to(device)


def load_layer_units(path: str | Path) -> LayerUnits | None:
    """The units that an SAE of mixed layers takes rows in; None for an SAE of one place.

    Args:
        path: as for `load`.

    Raises:
        UserError: there is no SAE or more than one, or its files are damaged or do not belong together.
    """
    folder = find_sae(path)
    cfg = read_cfg(folder)
    if "layers" not in cfg:
        return None
    units = read_layer_units(folder, sha256=str(cfg.get("layers_sha256")))
    if list(units.layers) != cfg["layers"] or units.means.shape[1] != cfg["d_in"]:
        raise UserError(f"{folder / _CFG} contradicts {LAYERS}: its layers or d_in are others. Copy or export the SAE again")
    return units


def read_cfg(path: str | Path) -> dict[str, Any]:
    """What `cfg.json` says of an SAE, its weights unread.

    Args:
        path: as for `load`.

    Raises:
        UserError: there is no SAE or more than one, or its `cfg.json` is damaged or of a newer version.
    """
    file = find_sae(path) / _CFG
    try:
        cfg = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} is not valid JSON ({error}): it is damaged, or no SAE's. Copy or export it again.") from None
    version = cfg.get("format_version") if isinstance(cfg, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{file} has format version {version}; this version of sae reads up to {FORMAT_VERSION}. Update sae.")
    if missing := [key for key in _OWN_KEYS if version is None or key not in cfg]:
        raise UserError(f"{file} is not in this project's format: it lacks {', '.join(missing)}")
    return cfg


def find_sae(path: str | Path) -> Path:
    """The folder of the SAE that a path names: itself, or the only one in a run's `saes/`.

    Raises:
        UserError: there is none, or more than one; the message says what is there.
    """
    path = Path(path)
    if (path / _CFG).is_file():
        return path
    if path.is_file():
        raise UserError(f"{path} is a file: name the folder that holds {_CFG} and {_WEIGHTS}")
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: name an SAE's folder or a run's (runs/NAME)")
    found = sorted(cfg.parent for cfg in path.glob(f"saes/*/{_CFG}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path} holds {len(found)} SAEs; name one of them: {', '.join(map(str, found))}")
    names = sorted(entry.name for entry in path.iterdir())
    listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"
    raise UserError(
        f"no SAE in {path}: expected {_CFG} in it, or saes/NAME/{_CFG} as in a run's folder; found {listing}. "
        "A run that was stopped writes its SAEs when it is resumed to the end."
    )


def _build(cfg: Mapping[str, Any], file: Path) -> SparseAutoencoder:
    """The module without weights: on the meta device, so that a mistaken size costs no memory."""
    architecture = architecture_class(cfg["architecture"])
    try:
        config: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in dict(cfg["config"]).items()
        }
        with torch.device("meta"):
            sae = architecture(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file}: `config` does not make a {cfg['architecture']} SAE: {error}") from error
    for key in ("d_in", "d_sae"):
        if cfg[key] != getattr(sae, key):
            raise UserError(f"{file} contradicts itself: {key} is {cfg[key]} but {getattr(sae, key)} in `config`")
    return sae


def _json(cfg: Mapping[str, Any]) -> str:
    return json.dumps(cfg, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write_weights(file: Path, tensors: dict[str, Tensor]) -> None:
    """From where they lie: as bytes they would be there a second time."""
    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{file} cannot be written: {error}") from None


def _read_weights(file: Path, expected_sha256: str) -> dict[str, Tensor]:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file} is missing: copy it from where {_CFG} came from, or export the SAE again") from None
    try:
        tensors = tensors_from_bytes(content)
    except SafetensorError as error:
        raise UserError(f"{file} is truncated or no safetensors file ({error}): copy or export it again") from None
    if hashlib.sha256(content).hexdigest() != expected_sha256:
        raise UserError(
            f"{file} does not belong to its {_CFG}: it was altered, or a save was interrupted between the two "
            f"(weights_sha256 {expected_sha256} was written). Copy or export the SAE again."
        )
    return tensors


def _compare(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: str, where: str) -> None:
    problems = [f"lacks {name}" for name in expected.keys() - tensors.keys()]
    problems += [f"has {name}, which the architecture does not know" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        got, wanted = list(tensors[name].shape), list(expected[name].shape)
        if got != wanted:
            problems.append(f"{name} has shape {got}, expected {wanted}")
        elif str(tensors[name].dtype) != f"torch.{dtype}":
            problems.append(f"{name} has type {str(tensors[name].dtype).removeprefix('torch.')}, {_CFG} says {dtype}")
    if problems:
        raise UserError(f"{where} does not fit its {_CFG}: {'; '.join(sorted(problems))}")


def _refuse_non_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if bad := int((~torch.isfinite(tensor)).sum()):
            raise UserError(
                f"{where}: {name} holds {bad} of {tensor.numel()} values that are not finite. "
                "Training diverged: go back to an earlier checkpoint with a lower learning rate."
            )
