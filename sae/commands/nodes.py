"""Nodes of the configuration that no other part owns, each with the range of its values."""

from dataclasses import dataclass
from typing import Literal

from sae.activations.placement import RowsDevice
from sae.architectures.layer_units import LayerLaw
from sae.tokens.packing import Packing
from sae.training.run import TrainerSettings

__all__ = ["ActivationsNode", "DataNode", "EvaluationNode", "HookNode", "RunNode", "TrainNode", "TrainerNode"]


def _require(checks: list[tuple[bool, str]]) -> None:
    problems = [text for wrong, text in checks if wrong]
    if problems:
        raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class RunNode:
    """`run`: name and place of the run's folder; a sweep puts the keys that it goes over into `name_keys`."""

    name: str | None = None
    name_keys: tuple[str, ...] = ()
    folder: str = "runs"
    if_exists: Literal["error", "resume", "overwrite"] = "error"

    def __post_init__(self) -> None:
        name = self.name or "-"
        wrong = name in (".", "..") or any(letter in "/\\\0" for letter in name) or len(name.encode()) > 200
        _require([(wrong, f"run.name={self.name!r} must be the name of one folder; run.folder says where it goes")])


@dataclass(frozen=True, kw_only=True)
class HookNode:
    """`hook`: what is read, and the target of a transcoder, or those of a cross-layer transcoder."""

    site: str | None = None
    layer: int | None = None
    layers: tuple[int, ...] | None = None
    mix: bool = False
    layer_units: LayerLaw = "none"
    module: str | None = None
    tensor: str = "output"
    target_site: str | None = None
    target_layer: int | None = None
    target_module: str | None = None
    target_tensor: str = "output"


@dataclass(frozen=True, kw_only=True)
class TrainNode:
    """`train`: rows in all and rows a step."""

    tokens: int
    batch_tokens: int

    def __post_init__(self) -> None:
        _require(
            [
                (self.batch_tokens < 1, f"train.batch_tokens must be at least 1, got {self.batch_tokens}"),
                (
                    self.tokens < self.batch_tokens,
                    f"train.tokens={self.tokens} is less than one batch (train.batch_tokens={self.batch_tokens})",
                ),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class DataNode:
    """`data`, the keys that every source shares: blocks, split and caps."""

    context_length: int = 128
    packing: Packing = "document"
    min_tail: int = 16
    held_out_fraction: float = 0.1
    held_out_rows: int = 32768
    max_rows: int | None = None
    window_blocks: int = 8192
    repeat: bool = False

    def __post_init__(self) -> None:
        _require(
            [
                (self.context_length < 2, f"data.context_length must be at least 2, got {self.context_length}"),
                (self.min_tail < 1, f"data.min_tail must be at least 1, got {self.min_tail}"),
                (
                    not 0 < self.held_out_fraction < 1,
                    f"data.held_out_fraction must lie between 0 and 1, got {self.held_out_fraction}: every number of a run is "
                    "measured on text that it was not trained on",
                ),
                (self.held_out_rows < 1, f"data.held_out_rows must be at least 1, got {self.held_out_rows}"),
                (self.max_rows is not None and self.max_rows < 1, f"data.max_rows must be at least 1, got {self.max_rows}"),
                (self.window_blocks < 1, f"data.window_blocks must be at least 1, got {self.window_blocks}"),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class ActivationsNode:
    """`activations`: run the model while training, or read a store."""

    mode: Literal["live", "stored"]
    path: str | None = None
    chunk_tokens: int = 131072
    forward_blocks: int = 16
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: RowsDevice = "auto"
    max_norm_multiple: float | None = None
    cache: bool | Literal["auto"] = "auto"
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        multiple = self.max_norm_multiple
        _require(
            [
                (self.mode == "stored" and self.path is None, "activations=stored needs activations.path=FOLDER"),
                (self.chunk_tokens < 1, f"activations.chunk_tokens must be at least 1, got {self.chunk_tokens}"),
                (self.forward_blocks < 1, f"activations.forward_blocks must be at least 1, got {self.forward_blocks}"),
                (
                    multiple is not None and multiple <= 1,
                    f"activations.max_norm_multiple is a multiple of the median norm above 1, got {multiple}",
                ),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationNode:
    """`evaluation`: what is measured on held-out text, and how often."""

    every_tokens: int | None = None
    rows: int = 32768
    ce_tokens: int = 8192
    ce_every_tokens: int | None = None
    batch_rows: int = 4096

    def __post_init__(self) -> None:
        _require(
            [
                (value is not None and value < least, f"evaluation.{key} must be at least {least}, got {value}")
                for key, value, least in (
                    ("every_tokens", self.every_tokens, 1),
                    ("rows", self.rows, 2),
                    ("ce_tokens", self.ce_tokens, 0),
                    ("ce_every_tokens", self.ce_every_tokens, 1),
                    ("batch_rows", self.batch_rows, 1),
                )
            ]
        )


@dataclass(frozen=True, kw_only=True)
class TrainerNode(TrainerSettings):
    """`trainer`: where things run and how exactly, the model and the SAE each."""

    model_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
