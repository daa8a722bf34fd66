"""Load a frozen transformer: packaged, from a folder, or from the hub."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sae.errors import UserError
from sae.models.conversion import default_cache_dir
from sae.models.device import resolve_device, resolve_dtype
from sae.models.folders import model_folder
from sae.models.language_model import LanguageModel
from sae.models.packaged import PACKAGED, find_packaged, made_folder
from sae.models.quiet import quiet_transformers
from sae.models.weights import check_finite, weights_sha256

__all__ = ["ModelOutline", "document_marks", "is_causal", "load_model", "read_model_outline", "read_tokenizer"]


@dataclass(frozen=True, kw_only=True)
class ModelOutline:
    """A model's measures, known before its weights are read.

    Attributes:
        d_model: width of the residual stream.
        num_layers: number of blocks.
        vocabulary_size: rows of the token embedding.
        predicts: whether it has a head that predicts next tokens.
        config: what transformers makes the model of; of a packaged model that was not converted yet, what says its widths.
    """

    d_model: int
    num_layers: int
    vocabulary_size: int
    predicts: bool = True
    config: PreTrainedConfig | None = None


def read_model_outline(
    *, source: str, name: str | None = None, path: str | None = None, revision: str | None = None
) -> ModelOutline:
    """A model's measures without its weights, in about a second.

    Args:
        source: "packaged", "local" or "hub".
        name: name of a packaged model, or ORG/NAME on the hub.
        path: folder of a local model.
        revision: branch, tag or commit on the hub.

    Returns:
        The measures.

    Raises:
        UserError: no such model, or it cannot be reached or read.
    """
    if source == "packaged":
        packaged, _, _ = find_packaged(name)
        made = made_folder(name)
        return ModelOutline(
            d_model=packaged.d_model,
            num_layers=packaged.num_layers,
            vocabulary_size=packaged.vocabulary_size,
            predicts=packaged.predicts,
            config=packaged.config() if made is None else _read_config(made),
        )
    folder = model_folder(source=source, name=name, path=path, revision=revision, cache_dir=None, weights=False)
    config = _read_config(folder)
    text = config.get_text_config()
    return ModelOutline(
        d_model=text.hidden_size,
        num_layers=text.num_hidden_layers,
        vocabulary_size=text.vocab_size,
        predicts=is_causal(config),
        config=config,
    )


def load_model(
    *,
    source: str,
    name: str | None = None,
    path: str | None = None,
    revision: str | None = None,
    document_start: str | None = None,
    document_end: str | None = None,
    attention: str = "sdpa",
    dtype: str = "float32",
    device: str = "cpu",
    cache_dir: str | Path | None = None,
) -> LanguageModel:
    """Load a model with its tokenizer, frozen and checked.

    Args:
        source: "packaged", "local" or "hub".
        name: name of a packaged model, or ORG/NAME on the hub.
        path: folder of a local model.
        revision: branch, tag or commit on the hub; None for the main branch.
        document_start: token that opens every block. None: the tokenizer's CLS token, else BOS, else EOS, else none.
        document_end: token that closes every block. None: the tokenizer's SEP token where CLS opens blocks, else none.
        attention: "sdpa" or "eager".
        dtype: number format of the weights: "float32", "bfloat16" or "float16".
        device: "auto" (CUDA, else the CPU), "cpu", "cuda" or "cuda:N".
        cache_dir: where converted models and hashes are kept; None for `default_cache_dir`.

    Returns:
        The model.

    Raises:
        UserError: no such model or device, or the files cannot be read, lack tensors, or hold NaN.
    """
    torch_device, torch_dtype = resolve_device(device), resolve_dtype(dtype)
    if attention not in ("sdpa", "eager"):
        raise UserError(f"model.attention={attention!r} is unknown: expected sdpa or eager.")
    cache = Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir()
    folder = model_folder(source=source, name=name, path=path, revision=revision, cache_dir=cache)
    config = _read_config(folder)
    called = _called(source, name, path)
    module = _read_module(folder, config, called, dtype=torch_dtype, device=torch_device, attention=attention)
    check_finite(module, called)
    tokenizer = _read_tokenizer(folder, called)
    document_start, document_end = document_marks(tokenizer, document_start, document_end)
    return LanguageModel(
        module=module,
        tokenizer=tokenizer,
        document_start=document_start,
        document_end=document_end,
        provenance={
            "source": source,
            "name": name or folder.resolve().name,
            **_origin(source, name, folder, config),
            "weights_sha256": weights_sha256(folder, cache),
        },
    )


def read_tokenizer(
    *,
    source: str,
    name: str | None = None,
    path: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> Any:
    """A model's tokenizer without its weights; a packaged model is converted first, if it has not been yet.

    Args:
        source: "packaged", "local" or "hub".
        name: name of a packaged model, or ORG/NAME on the hub.
        path: folder of a local model.
        revision: branch, tag or commit on the hub.
        cache_dir: where converted models are kept; None for `default_cache_dir`.

    Raises:
        UserError: no such model, or it cannot be reached or read.
    """
    cache = Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir()
    place = {"source": source, "name": name, "path": path, "revision": revision}
    folder = model_folder(**place, cache_dir=cache, weights=False, tokenizer=True)
    return _read_tokenizer(folder, _called(source, name, path))


def document_marks(tokenizer: Any, start: str | None, end: str | None) -> tuple[str | None, str | None]:
    """The tokens that open and close every block: those given, or the tokenizer's own choice.

    Args:
        tokenizer: of the model.
        start: opens a block. None: the tokenizer's CLS token, else BOS, else EOS, else none.
        end: closes a block. None: the tokenizer's SEP token where CLS opens blocks, else none.
    """
    if start is not None:
        return start, end
    starts = (tokenizer.cls_token, tokenizer.bos_token, tokenizer.eos_token)
    chosen = next((token for token in starts if token is not None), None)
    return chosen, tokenizer.sep_token if end is None and tokenizer.cls_token is not None else end


def _called(source: str, name: str | None, path: str | None) -> str:
    return f"model={name}" if source == "packaged" else f"model.name={name}" if source == "hub" else f"model.path={path}"


def _read_config(folder: Path) -> PreTrainedConfig:
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder / 'config.json'} is not a configuration that transformers knows: {reason}") from error
    if config.is_encoder_decoder:
        raise UserError(
            f"{type(config).__name__} describes an encoder with a decoder, which reads two texts at once. "
            f"Expected a decoder (GPT-2, Llama, ...) or an encoder (BERT, ...)."
        )
    return config


def _read_module(
    folder: Path, config: PreTrainedConfig, called: str, *, dtype: torch.dtype, device: torch.device, attention: str
) -> PreTrainedModel:
    """The model with its language modelling head where the folder holds a causal one, else the model below the head."""
    kind: Any = AutoModelForCausalLM if is_causal(config) else AutoModel
    try:
        with quiet_transformers():
            module, report = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (SafetensorError, OSError) as error:
        raise UserError(f"The weights of {called} cannot be read ({error}). Get the files in {folder} again.") from error
    except (ValueError, RuntimeError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"transformers cannot load {called} with model.attention={attention}: {reason}") from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)  # poolers read what blocks gave
    if missing:
        listed = ", ".join(missing[:5])
        raise UserError(f"The weights of {called} lack {len(missing)} tensors of {type(module).__name__}: {listed}.")
    return module.to(device)


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether the model that was saved predicts next tokens."""
    return any(name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for name in config.architectures or [])


def _read_tokenizer(folder: Path, called: str) -> Any:
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{called} has no tokenizer that transformers can read in {folder}: {reason}") from error


def _origin(source: str, name: str | None, folder: Path, config: PreTrainedConfig) -> dict[str, object]:
    """Where the files came from, their quantisation and licence, as far as known."""
    if source == "packaged" and name is not None:
        packaged = PACKAGED[name]
        package = f"{packaged.distribution}=={importlib.metadata.version(packaged.distribution)}"
        return {"package": package, "quantisation": packaged.quantisation, "licence": packaged.licence}
    quantised = getattr(config, "quantization_config", None)
    method = quantised.get("quant_method") if isinstance(quantised, dict) else None
    card = folder / "README.md"
    licence = re.search(r"^license:\s*(\S+)", card.read_text(errors="replace"), re.MULTILINE) if card.is_file() else None
    origin: dict[str, object] = {"quantisation": method, "licence": licence[1] if licence else None}
    return {"revision": folder.name, **origin} if source == "hub" else {"path": str(folder.resolve()), **origin}
