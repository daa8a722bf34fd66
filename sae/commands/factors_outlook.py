"""What the pages of a dictionary over several layers will take, before they are made: a piece of the work is done and timed."""

import time
from dataclasses import dataclass

import torch

from sae.activations.mixed import MIXED
from sae.commands.factors_job import FactorsJob
from sae.commands.factors_node import PagesNode
from sae.commands.summary import in_minutes
from sae.dashboards.collect.encode import encode_positive
from sae.dashboards.factor_schema import SaliencyMethod
from sae.factors.saliency.methods import seconds_per_context
from sae.factors.saliency.reader import ActivationReader

__all__ = ["PagesOutlook", "pages_bytes", "pages_outlook"]

CODE_BYTES = 8  # of an activation, its factor and its share of a row, in files of codes
CONTEXT_BYTES = 150  # of a context of 41 tokens, packed; 106 and 99 were measured, with all that stands beside contexts
SHOWN_TOKENS = 41


@dataclass(frozen=True, kw_only=True)
class PagesOutlook:
    """What pages take.

    Attributes:
        disk_bytes: codes that are not there yet, and pages.
        reading_seconds: of the text; None: its codes are there.
        saliency: each way, the contexts that it is measured of, and the seconds that it takes at most.
    """

    disk_bytes: int
    reading_seconds: float | None
    saliency: list[tuple[SaliencyMethod, int, float]]

    def in_words(self) -> str:
        """For the line before the work begins."""
        reading = "already read" if self.reading_seconds is None else f"about {in_minutes(self.reading_seconds)} to read"
        ways = [
            f"at most {in_minutes(seconds)} for saliency by {method} of {contexts:,} contexts"
            for method, contexts, seconds in self.saliency
        ]
        return ", ".join([reading, *ways, f"about {self.disk_bytes / 1e9:.2f} GB of disk"])


def pages_bytes(node: PagesNode, *, d_sae: int, layers: int, activations: float) -> float:
    """What codes and pages take of the disk.

    Args:
        node: what pages show.
        d_sae: factors.
        layers: that they are shown at.
        activations: in all codes; 0 where these are there.
    """
    contexts = d_sae * layers * node.top
    return CODE_BYTES * activations + CONTEXT_BYTES * contexts * (2 * node.window + 1) / SHOWN_TOKENS


def pages_outlook(job: FactorsJob) -> PagesOutlook:
    """Estimate from one piece of the text that is read for it, and timed, where its codes are not there yet."""
    seconds, activations, layers = None, 0.0, len(job.units.layers)
    if job.folder.codes() is None:
        _read(job, 1)  # the first pass of a kind is slow
        began = time.perf_counter()
        rows, active = _read(job, job.source.piece_blocks)
        share = job.blocks.num_rows * layers / job.node.part[1]
        seconds = (time.perf_counter() - began) / max(1, rows) * share
        activations = active / max(1, rows) * share
    return PagesOutlook(
        disk_bytes=round(pages_bytes(job.node, d_sae=job.sae.d_sae, layers=layers, activations=activations)),
        reading_seconds=seconds,
        saliency=_saliency(job),
    )


def _read(job: FactorsJob, blocks: int) -> tuple[int, int]:
    """Rows and activations of the first blocks."""
    piece = torch.arange(min(len(job.blocks), blocks))
    codes = encode_positive(job.sae, job.source.rows(job.blocks, piece).values[MIXED])
    return codes.pattern.num_rows, len(codes.values)


def _saliency(job: FactorsJob) -> list[tuple[SaliencyMethod, int, float]]:
    settings = job.saliency
    if not settings.measures_any:
        return []
    reader = ActivationReader(job.subject, batch_tokens=settings.batch_tokens)
    window = (job.node.window, job.node.window)
    ways: list[tuple[SaliencyMethod, int]] = [("lime", len(settings.lime_factors) * settings.lime_contexts)]
    if settings.method != "none":
        ways.insert(0, (settings.method, settings.contexts))
    return [
        (method, contexts, contexts * seconds_per_context(reader, job.blocks, method, settings, window=window))
        for method, contexts in ways
        if contexts > 0
    ]
