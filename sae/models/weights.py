"""Weight files: their hash, which says exactly what was run, and numbers that cannot be right."""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["check_finite", "weights_sha256"]


def weights_sha256(folder: Path, cache_dir: Path) -> str:
    """SHA-256 over a model folder's weight files; read once and remembered as long as the files do not change.

    Args:
        folder: holds `*.safetensors`.
        cache_dir: where the hash is remembered.

    Returns:
        The hash of the file; of several, the hash of the lines "name hash" in the order of their names.
    """
    files = sorted(folder.glob("*.safetensors"))
    state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    remembered = cache_dir / "weights" / f"{key}.sha256"
    if remembered.is_file():
        return remembered.read_text().strip()
    hashes = []
    for path in files:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    lines = "".join(f"{path.name} {digest}\n" for path, digest in zip(files, hashes, strict=True))
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    write_whole(remembered, f"{digest}\n")
    return digest


def check_finite(module: nn.Module, source: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Args:
        module: the model.
        source: how the user calls the model.

    Raises:
        UserError: names the first such tensor and how many of its entries are not numbers.
    """
    for name, parameter in module.named_parameters():
        # The sum of finite numbers may overflow, but is NaN or infinite whenever one of them is, and is quick to take.
        if not torch.isfinite(parameter.sum()):
            wrong = int((~torch.isfinite(parameter)).sum())
            if wrong:
                raise UserError(
                    f"The weights of {source} hold NaN or infinity: {wrong} of {parameter.numel()} entries of {name}. "
                    f"Get the files again, or check what wrote them."
                )
