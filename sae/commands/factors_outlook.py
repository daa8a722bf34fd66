"""What the pages of a dictionary over several layers will take, before they are made: a piece of the work is done and timed."""

import time
from dataclasses import dataclass

import torch

from sae.activations.mixed import MIXED
from sae.commands.factors_job import FactorsJob
from sae.commands.factors_node import PagesNode
from sae.commands.summary import in_minutes
from sae.dashboards.collect.encode import encode_positive
from sae.factors.saliency.plan import measured_rates
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.work import expected_work

__all__ = ["PagesOutlook", "SaliencyOutlook", "pages_bytes", "pages_outlook"]

CODE_BYTES = 8  # of an activation, its factor and its share of a row, in files of codes
CONTEXT_BYTES = 150  # of a context of 41 tokens, packed; 106 and 99 were measured, with all that stands beside contexts
SHOWN_TOKENS = 41


@dataclass(frozen=True, kw_only=True)
class SaliencyOutlook:
    """What saliency takes.

    Attributes:
        seconds: of all contexts that are wanted by a cheap way.
        lime_seconds: of those that are wanted by LIME.
        minutes: that the cheap ways may take; then the strongest contexts are measured.
    """

    seconds: float | int
    lime_seconds: float | int
    minutes: float | int

    def in_words(self) -> str:
        """For the line before the work begins."""
        words = f"about {in_minutes(min(self.seconds, 60 * self.minutes))} for saliency"
        if self.seconds > 60 * self.minutes:
            words += f" of the strongest contexts (pages.saliency_minutes; all would take about {in_minutes(self.seconds)})"
        return words + (f", about {in_minutes(self.lime_seconds)} for LIME" if self.lime_seconds else "")


@dataclass(frozen=True, kw_only=True)
class PagesOutlook:
    """What pages take.

    Attributes:
        disk_bytes: codes that are not there yet, and pages.
        reading_seconds: of the text; None: its codes are there.
        saliency: None: none is measured.
    """

    disk_bytes: int
    reading_seconds: float | None
    saliency: SaliencyOutlook | None

    def in_words(self) -> str:
        """For the line before the work begins."""
        reading = "already read" if self.reading_seconds is None else f"about {in_minutes(self.reading_seconds)} to read"
        saliency = [] if self.saliency is None else [self.saliency.in_words()]
        return ", ".join([reading, *saliency, f"about {self.disk_bytes / 1e9:.2f} GB of disk"])


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


def _saliency(job: FactorsJob) -> SaliencyOutlook | None:
    settings, node = job.saliency, job.node
    if not settings.measures_any:
        return None
    reader, layers = ActivationReader(job.subject, batch_tokens=settings.batch_tokens), len(job.units.layers)
    work = expected_work(
        settings,
        contexts=job.sae.d_sae * layers * node.top,
        tokens=job.blocks.num_rows,
        layers=layers,
        context_length=job.blocks.context_length,
        window=node.window,
        causal=job.origin.model.has_lm_head,
    )
    longest = int(job.blocks.keep.sum(dim=1).argmax())
    block = job.blocks.select(torch.tensor([longest]))
    rates = measured_rates(reader, block, settings, work, window=(node.window, node.window))
    lime = rates.lime * work.lime
    return SaliencyOutlook(seconds=rates.seconds(work) - lime, lime_seconds=lime, minutes=settings.minutes)
