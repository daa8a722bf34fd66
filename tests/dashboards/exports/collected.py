"""Codes and pages of a tiny model, to export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import collect
from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.records import LatentPages, PageSettings
from sae.dashboards.schema import LatentShard
from sae.tokens.blocks import TokenBlocks
from tests.cases import CASES
from tests.dashboards.collect.texts import harvester, make_blocks, open_model, points_for, sae_for

HOSTILE = "</script>\u2028\u202e🙂\"',\n"
TOPK = next(case for case in CASES if case.name == "topk")


@dataclass(frozen=True)
class Collected:
    """A text, its codes on the disk, and the latents' pages."""

    sae: SparseAutoencoder
    blocks: TokenBlocks
    codes: CollectedCodes
    shards: list[LatentShard]

    def entries(self) -> dict[tuple[int, int, int], float]:
        """(block, position, latent) -> activation, one by one."""
        found = {}
        for number in range(len(self.codes)):
            chunk = self.codes.chunk(number)
            places = chunk.blocks.keep.nonzero().tolist()
            dense = chunk.acts.to_dense()
            for (block, position), row in zip(places, dense, strict=True):
                for latent in row.nonzero()[:, 0].tolist():
                    found[self.codes.first_block(number) + block, position, latent] = float(row[latent])
        return found


def text_of(token: int) -> str:
    return f" t{token}{HOSTILE}" if token % 3 == 0 else f"t{token}"


def collected(folder: Path, *, effects: bool = True, dead: int | None = 3, **settings: Any) -> Collected:
    model, blocks, sae = open_model(), make_blocks(), sae_for(TOPK)
    if dead is not None:
        with torch.no_grad():
            sae.W_enc[:, dead] = 0
            sae.b_enc[dead] = -100
    points = points_for(model, TOPK)
    codes = collect(
        folder,
        sae=sae,
        source=harvester(model, points),
        hook_points=[point.name for point in points],
        blocks=blocks,
        belongs_to={},
        chunk_blocks=3,
        effects=LossEffects(model, sae, inputs=points, targets=points, forward_blocks=2) if effects else None,
        on_rows=lambda done, total: None,
    )
    assert codes is not None
    worse, better = {"text": "b", "source": "by hand", "score": 0.1}, {"text": "a" + HOSTILE, "source": "by hand", "score": 0.5}
    words = {0: [worse, better]}
    pages = LatentPages(
        codes,
        sae,
        settings=PageSettings(**{"top": 4, "per_interval": 2, "latents_size": 4, **settings}),
        unembedding=torch.randn(model.vocabulary_size, sae.d_out, generator=torch.Generator().manual_seed(0)),
        text_of=text_of,
        explanations=Explanations(texts=words),
    )
    return Collected(sae=sae, blocks=blocks, codes=codes, shards=list(pages.latent_shards()))
