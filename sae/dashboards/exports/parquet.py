"""The data of a dashboard as tables that pandas, polars, DuckDB and others read.

latents.parquet       one line a latent: the numbers of its page, and what it fires on most
examples.parquet      one line an example: its tokens, and activations and effects at their offsets in it
activations.parquet   one line for each latent that is active on a token, with the place of the token
tokens.parquet        one line a token of the text
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.exports.entries import chunk_entries
from sae.dashboards.latents.explanations import best_explanation
from sae.dashboards.schema import LatentShard

__all__ = ["write_parquet"]

NUMBERS = ("density", "max", "mean", "std", "skewness", "kurtosis", "decoder_norm", "concentration", "entropy")

LATENTS = pa.schema(
    [
        ("latent", pa.int32()),
        ("fired", pa.int64()),
        *((name, pa.float64()) for name in NUMBERS),
        ("top_token", pa.int32()),
        ("top_token_text", pa.string()),
        ("explanation", pa.string()),
        ("explanation_score", pa.float64()),
        ("raised", pa.list_(pa.string())),
        ("lowered", pa.list_(pa.string())),
    ]
)
EXAMPLES = pa.schema(
    [
        ("latent", pa.int32()),
        ("kind", pa.string()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("document", pa.int32()),
        ("block", pa.int32()),
        ("start", pa.int32()),
        ("peak", pa.int32()),
        ("tokens", pa.list_(pa.int32())),
        ("texts", pa.list_(pa.string())),
        ("places", pa.list_(pa.int32())),
        ("activations", pa.list_(pa.float32())),
        ("effects", pa.list_(pa.float32())),
        ("exact_places", pa.list_(pa.int32())),
        ("exact_effects", pa.list_(pa.float32())),
    ]
)
ACTIVATIONS = pa.schema(
    [
        ("block", pa.int32()),
        ("position", pa.int32()),
        ("latent", pa.int32()),
        ("activation", pa.float32()),
        ("effect", pa.float32()),
    ]
)
TOKENS = pa.schema(
    [
        ("block", pa.int32()),
        ("position", pa.int32()),
        ("document", pa.int32()),
        ("token", pa.int32()),
        ("kept", pa.bool_()),
    ]
)


def write_parquet(folder: Path, codes: CollectedCodes, shards: Iterable[LatentShard]) -> None:
    """Write the four tables, a chunk or a shard at a time.

    Args:
        folder: an existing folder.
        codes: of the text.
        shards: the latents' pages, in order.

    Raises:
        OSError: the folder cannot be written.
    """
    with pq.ParquetWriter(folder / "activations.parquet", ACTIVATIONS) as activations:
        for number in range(len(codes)):
            activations.write_table(_activations(codes, number))
    with pq.ParquetWriter(folder / "tokens.parquet", TOKENS) as tokens:
        for number in range(len(codes)):
            tokens.write_table(_tokens(codes, number))
    with (
        pq.ParquetWriter(folder / "latents.parquet", LATENTS) as latents,
        pq.ParquetWriter(folder / "examples.parquet", EXAMPLES) as examples,
    ):
        for shard in shards:
            latents.write_table(pa.Table.from_pylist(list(_latents(shard)), schema=LATENTS))
            examples.write_table(pa.Table.from_pylist(list(_examples(shard)), schema=EXAMPLES))


def _activations(codes: CollectedCodes, number: int) -> pa.Table:
    found = chunk_entries(codes, number)
    effect = pa.nulls(len(found.latent), pa.float32()) if found.effect is None else found.effect.numpy()
    columns = [found.block.numpy(), found.position.numpy(), found.latent.numpy(), found.activation.numpy(), effect]
    return pa.table(columns, schema=ACTIVATIONS)


def _tokens(codes: CollectedCodes, number: int) -> pa.Table:
    """The attended positions of a chunk's blocks."""
    blocks = codes.chunk(number).blocks
    block, position = blocks.attention.nonzero(as_tuple=True)
    columns = [
        (codes.first_block(number) + block).int().numpy(),
        position.int().numpy(),
        blocks.document[block, position].int().numpy(),
        blocks.ids[block, position].int().numpy(),
        blocks.keep[block, position].numpy(),
    ]
    return pa.table(columns, schema=TOKENS)


def _latents(shard: LatentShard) -> Iterator[dict[str, Any]]:
    strings = shard["strings"]
    for record in shard["latents"]:
        commonest = strings[record["tokens"][0]["token"]] if record["tokens"] else None
        explanation = best_explanation(record["explanations"])
        logits = record["logits"]
        yield {
            "latent": record["latent"],
            "fired": record["fired"],
            **{name: record[name] for name in NUMBERS},
            "top_token": None if commonest is None else commonest["id"],
            "top_token_text": None if commonest is None else commonest["text"],
            "explanation": None if explanation is None else explanation["text"],
            "explanation_score": None if explanation is None else explanation["score"],
            "raised": None if logits is None else [strings[token]["text"] for token, _ in logits["raised"]],
            "lowered": None if logits is None else [strings[token]["text"] for token, _ in logits["lowered"]],
        }


def _examples(shard: LatentShard) -> Iterator[dict[str, Any]]:
    strings = shard["strings"]
    for record in shard["latents"]:
        for group in record["groups"]:
            for example in group["examples"]:
                exact = {int(place): nats for place, nats in example["exact"].items()}
                yield {
                    "latent": record["latent"],
                    **{key: group[key] for key in ("kind", "low", "high")},
                    **{key: example[key] for key in ("document", "block", "start", "peak", "places", "effects")},
                    "activations": example["acts"],
                    "tokens": [strings[token]["id"] for token in example["tokens"]],
                    "texts": [strings[token]["text"] for token in example["tokens"]],
                    "exact_places": list(exact),
                    "exact_effects": list(exact.values()),
                }
