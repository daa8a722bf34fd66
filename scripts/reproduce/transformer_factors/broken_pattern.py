"""Does a factor fall silent when its pattern is broken? Yun et al. 2021 rewrite sentences and watch one activation.

    python scripts/reproduce/transformer_factors/mid_level.py          first: it finds the factors
    python scripts/reproduce/transformer_factors/broken_pattern.py

For each pattern of rewrites.py the factor and layer are those that mid_level.py found on its first half of the documents.
Each sentence is read by itself; the activation is the largest inside the marked words. A rewrite that keeps the pattern
with other words is the control: a factor of the words would fall there as well. One that breaks the pattern but keeps the
token tells a factor of the pattern from one of the token. Intervals are of 2,000 resamplings of the sentences.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from material import Material, add_arguments
from reading import document_blocks, hidden_states, tokens_of_spans
from rewrites import REWRITES, marked

from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.functional.files import write_whole

KINDS = ("original", "kept", "broken", "token_kept")
RESAMPLES = 2000


def main() -> None:
    """Read the rewrites and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    material = Material(options)
    found = material.out / "mid_level.json"
    if not found.exists():
        raise UserError(f"{found} is not there: run mid_level.py with the same options first.")
    factors = {row["pattern"]: row for row in json.loads(found.read_text())}
    views = material.views()
    results = [one_pattern(material, views, factors[name], name, seed=options.seed) for name in REWRITES if name in factors]
    write_whole(material.out / "broken_pattern.json", json.dumps(results, indent=1) + "\n")
    show(results, material)


def one_pattern(
    material: Material, views: list[SparseAutoencoder], row: dict[str, Any], name: str, *, seed: int
) -> dict[str, Any]:
    """Activations of one pattern's factor on its sentences."""
    view, layer, factor = views[row["layer"]], row["layer"], row["factor"]
    acts = np.array(
        [[largest(material, view, layer, factor, getattr(rewrite, kind)) for kind in KINDS] for rewrite in REWRITES[name]]
    )
    drawn = acts[np.random.default_rng(seed).integers(len(acts), size=(RESAMPLES, len(acts)))].mean(axis=1)
    return {
        "pattern": name,
        "factor": factor,
        "layer": layer,
        "acts": acts.tolist(),
        "mean": acts.mean(axis=0).tolist(),
        "low": np.percentile(drawn, 2.5, axis=0).tolist(),
        "high": np.percentile(drawn, 97.5, axis=0).tolist(),
        "fell": {kind: int((acts[:, number] < acts[:, 0] / 2).sum()) for number, kind in enumerate(KINDS)},
        "silent_before": int((acts[:, 0] == 0).sum()),
    }


def largest(material: Material, view: SparseAutoencoder, layer: int, factor: int, text: str) -> float:
    """The factor's largest activation on the marked words of one sentence."""
    plain, span = marked(text)
    blocks, (tokens,) = document_blocks(material.model, [plain])
    (places,) = tokens_of_spans(tokens, [span])
    states: Float[torch.Tensor, "tokens layers width"] = hidden_states(material.model, material.points, blocks)
    with torch.no_grad():
        return float(view.encode(states[places.start : places.stop, layer])[:, factor].max())


def show(results: list[dict[str, Any]], material: Material) -> None:
    """The table, as it stands in RESULTS.md."""
    print("\n| pattern | factor, after block | original | pattern kept | broken | broken, token kept | fell by half |")
    print("|---|---|---|---|---|---|---|")
    for row in results:
        cells = [f"{row['mean'][i]:.2f} ({row['low'][i]:.2f} to {row['high'][i]:.2f})" for i in range(len(KINDS))]
        fell = f"{', '.join(str(row['fell'][kind]) for kind in KINDS[1:])} of {len(row['acts'])}"
        place = f"{row['factor']}, {material.labels()[row['layer']]}"
        print(f"| {row['pattern']} | {place} | {' | '.join(cells)} | {fell} |")


if __name__ == "__main__":
    main()
