"""Do some factors stand for patterns of a sentence, and from which layer on? Yun et al. 2021, their mid-level factors.

    python scripts/reproduce/transformer_factors/mid_level.py
    python scripts/reproduce/transformer_factors/mid_level.py --from runs/NAME

There, people read the 200 strongest contexts of a factor and said how many match what they took the factor for. Here a
pattern is a regular expression (patterns.py), and a context matches when the token at which the factor is strongest lies
inside a match. For each pattern the factor and layer with the largest share are found on the half of the documents that the
dictionary was fitted on; the table is of the other half. The base rate is the share of all tokens of that half that lie
inside a match.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from material import Material, add_arguments
from patterns import PATTERNS
from reading import TokenisedText, document_blocks, hidden_states, tokens_of_spans

from sae.architectures.base import SparseAutoencoder
from sae.functional.files import write_whole
from sae.tokens.blocks import TokenBlocks

TOP = 200
LEAST = 50  # a share of fewer contexts than this says nothing
PIECE_BLOCKS = 128


@dataclass(frozen=True)
class Strongest:
    """The tokens on which each factor is strongest, at each layer.

    Attributes:
        token: number of the token in the text of a half, -1 where the factor is active on fewer [layers, factors, TOP].
        act: its activation [layers, factors, TOP].
    """

    token: Int[np.ndarray, "layers factors top"]
    act: Float[np.ndarray, "layers factors top"]

    def shares(self, inside: Bool[np.ndarray, " tokens"]) -> Float[np.ndarray, "layers factors"]:
        """Share of each factor's strongest tokens that lie inside; nan where there are fewer than `LEAST`."""
        there = self.token >= 0
        count = there.sum(axis=2)
        hits = (inside[np.where(there, self.token, 0)] & there).sum(axis=2)
        return np.where(count >= LEAST, hits / np.maximum(count, 1), np.nan)


def main() -> None:
    """Find the factors on one half, print the table of the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--tokens", type=int, default=100_000, help="of each half, in blocks drawn at random")
    options = parser.parse_args()
    material = Material(options)
    views = material.views()
    halves = []
    for held_out in (False, True):
        start = time.perf_counter()
        originals = material.texts(held_out=held_out)
        blocks, texts = document_blocks(material.model, originals)
        blocks, columns = drawn(blocks, options.tokens, seed=options.seed)
        inside, ids = matched(texts, originals)[:, columns], np.concatenate([text.ids for text in texts])[columns]
        halves.append((strongest(material, views, blocks), inside, ids))
        name, seconds = "reported" if held_out else "searched", time.perf_counter() - start
        print(f"{name} half: {len(ids):,} tokens, {seconds:.0f} s", flush=True)
    results = compare(halves[0][:2], halves[1][:2], halves[1][2])
    write_whole(material.out / "mid_level.json", json.dumps(results, indent=1) + "\n")
    show(results, material.labels())


def drawn(blocks: TokenBlocks, tokens: int, *, seed: int) -> tuple[TokenBlocks, Int[np.ndarray, " rows"]]:
    """Blocks with so many kept positions at least, or all, and which of all kept positions theirs are."""
    counts = blocks.rows_per_block().numpy()
    order = np.random.default_rng(seed).permutation(len(blocks))
    chosen = np.sort(order[: int((np.cumsum(counts[order]) < tokens).sum()) + 1])
    columns = np.flatnonzero(np.isin(np.repeat(np.arange(len(counts)), counts), chosen))
    return blocks.select(torch.from_numpy(chosen)), columns


def matched(texts: list[TokenisedText], originals: list[str]) -> Bool[np.ndarray, "patterns tokens"]:
    """Which tokens lie inside a match of each pattern, over all texts one after another."""
    parts = []
    for tokens, text in zip(texts, originals, strict=True):
        inside = np.zeros((len(PATTERNS), len(tokens.ids)), dtype=bool)
        for number, pattern in enumerate(PATTERNS):
            for places in tokens_of_spans(tokens, pattern.spans(text)):
                inside[number, places.start : places.stop] = True
        parts.append(inside)
    return np.concatenate(parts, axis=1)


def strongest(material: Material, views: list[SparseAutoencoder], blocks: TokenBlocks) -> Strongest:
    """Read all blocks and keep each factor's strongest tokens."""
    factors = views[0].d_sae
    act = torch.zeros(len(views), factors, TOP)
    token = torch.full((len(views), factors, TOP), -1)
    done = 0
    for piece in torch.arange(len(blocks)).split(PIECE_BLOCKS):
        states = hidden_states(material.model, material.points, blocks.select(piece))
        for layer, view in enumerate(views):
            with torch.no_grad():
                codes = view.encode(states[:, layer]).T  # [factors, tokens]
            both = torch.cat([act[layer], codes], dim=1)
            numbers = torch.cat([token[layer], torch.arange(done, done + codes.shape[1]).expand(factors, -1)], dim=1)
            act[layer], place = both.topk(TOP, dim=1)
            token[layer] = torch.where(act[layer] > 0, numbers.gather(1, place), -1)
        done += len(states)
    return Strongest(token.numpy(), act.numpy())


def compare(
    searched: tuple[Strongest, np.ndarray], reported: tuple[Strongest, np.ndarray], ids: Int[np.ndarray, " tokens"]
) -> list[dict[str, Any]]:
    """For each pattern the factor that is found on one half, and its shares on the other."""
    results = []
    for number, pattern in enumerate(PATTERNS):
        shares = np.nan_to_num(searched[0].shares(searched[1][number]), nan=-1.0)
        layer, factor = np.unravel_index(int(shares.argmax()), shares.shape)
        found, inside = reported[0], reported[1][number]
        there = found.token[layer, factor][found.token[layer, factor] >= 0]
        results.append(
            {
                "pattern": pattern.name,
                "factor": int(factor),
                "layer": int(layer),
                "searched": float(shares.max()),
                "by_layer": [float(value) for value in found.shares(inside)[:, factor]],
                "act_by_layer": [float(value) for value in found.act[:, factor].mean(axis=1)],
                "base": float(inside.mean()),
                "tokens_inside": int(inside.sum()),
                "different_tokens": len(np.unique(ids[there])),
            }
        )
    return results


def show(results: list[dict[str, Any]], layers: list[str]) -> None:
    """The table, as it stands in RESULTS.md."""
    print(
        f"\n| pattern | factor | base rate | {' | '.join(layers)} | different tokens |\n|---|---|---|{'---|' * len(layers)}---|"
    )
    for row in sorted(results, key=lambda row: -row["by_layer"][row["layer"]]):
        shares = ["-" if np.isnan(value) else f"{100 * value:.0f}" for value in row["by_layer"]]
        shares[row["layer"]] = f"**{shares[row['layer']]}**"
        shown = [row["pattern"], row["factor"], f"{100 * row['base']:.2f}", *shares, row["different_tokens"]]
        print(f"| {' | '.join(map(str, shown))} |")


if __name__ == "__main__":
    main()
