"""The codes as a cache of latents that delphi reads (EleutherAI/delphi 078745e, `delphi/latents/cache.py` and `loader.py`).

    HOOK_POINT/config.json               what it was made from; the loader takes the tokenizer from `model_name`
    HOOK_POINT/START_END.safetensors     latents START to END, both included: `locations` [entries, 3] of (block, position,
                                         latent - START), `activations` [entries] float16, `tokens` [blocks, context] int64

Differs from the cache that delphi writes itself:
1. Activations that float16 rounds to zero or to infinity become its smallest and largest number, so that every firing counts;
   delphi drops those of at most 1e-5.
2. Memory holds the entries of one file at a time.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float16, Int
from safetensors.torch import save_file
from torch import Tensor

from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.exports.entries import Entries, chunk_entries

__all__ = ["write_delphi_cache"]

LEAST, MOST = 2.0**-24, 65504.0  # of float16, above zero
SMALL = 2**16  # numbers of two bytes


def write_delphi_cache(
    folder: Path, codes: CollectedCodes, *, hook_point: str, model_name: str, dataset: str, num_files: int = 5
) -> None:
    """Write the cache of one hook point.

    Args:
        folder: an empty folder.
        codes: of the text.
        hook_point: name of the folder inside.
        model_name: what `AutoTokenizer.from_pretrained` shall load.
        dataset: name of the text.
        num_files: files that the latents are spread over.

    Raises:
        OSError: the folder cannot be written.
    """
    inside = folder / hook_point
    inside.mkdir(parents=True)
    tokens = torch.cat([codes.chunk(number).blocks.ids for number in range(len(codes))]).long()
    count = min(num_files, codes.num_latents)
    edges = [codes.num_latents * number // count for number in range(count + 1)]
    for start, end in pairwise(edges):
        locations, activations = _between(codes, start, end)
        small = max(codes.num_blocks, codes.context_length, end - start) <= SMALL
        tensors = {
            "locations": locations.to(torch.uint16 if small else torch.uint32),
            "activations": activations,
            "tokens": tokens,
        }
        save_file(tensors, inside / f"{start}_{end - 1}.safetensors")
    config: dict[str, Any] = {
        "dataset_repo": dataset,
        "dataset_split": "train",
        "dataset_name": "",
        "dataset_column": "text",
        "batch_size": 1,
        "cache_ctx_len": codes.context_length,
        "n_tokens": tokens.numel(),
        "n_splits": count,
        "model_name": model_name,
    }
    (inside / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _between(codes: CollectedCodes, start: int, end: int) -> tuple[Int[Tensor, "entries 3"], Float16[Tensor, " entries"]]:
    """Where latents start to end - 1 are active, in row-major order, and how strongly."""
    locations, activations = [], []
    for number in range(len(codes)):
        found: Entries = chunk_entries(codes, number)
        wanted = (found.latent >= start) & (found.latent < end)
        location = torch.stack([found.block, found.position, found.latent - start], dim=1)
        locations.append(location[wanted])
        activations.append(found.activation[wanted].clamp(LEAST, MOST).half())
    return torch.cat(locations), torch.cat(activations)
