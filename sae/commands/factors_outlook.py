"""What the pages of a dictionary over several layers will take, before they are made: a piece of the work is done and timed."""

import time

import torch

from sae.activations.mixed import MIXED
from sae.commands.factors_job import FactorsJob
from sae.commands.summary import in_minutes
from sae.dashboards.collect.encode import encode_positive
from sae.dashboards.factor_schema import SaliencyMethod
from sae.factors.saliency.methods import seconds_per_context
from sae.factors.saliency.reader import ActivationReader

__all__ = ["outlook_words"]


def outlook_words(job: FactorsJob) -> str:
    """What the pages will take, for the line before the work begins; a piece of the text is read for it."""
    parts = []
    if job.folder.codes() is None:
        piece = torch.arange(1)
        encode_positive(job.sae, job.source.rows(job.blocks, piece).values[MIXED])  # the first pass of a kind is slow
        began = time.perf_counter()
        piece = torch.arange(min(len(job.blocks), job.source.piece_blocks))
        rows = len(encode_positive(job.sae, job.source.rows(job.blocks, piece).values[MIXED]).offsets) - 1
        seconds = (time.perf_counter() - began) / max(1, rows)
        share = job.blocks.num_rows * len(job.units.layers) / job.node.part[1]
        parts.append(f"about {in_minutes(seconds * share)} to read")
    else:
        parts.append("already read")
    saliency = job.saliency
    if saliency.measures_any:
        reader = ActivationReader(job.subject, batch_tokens=saliency.batch_tokens)
        window = (job.node.window, job.node.window)
        ways: list[tuple[SaliencyMethod, int]] = [("lime", len(saliency.lime_factors) * saliency.lime_contexts)]
        if saliency.method != "none":
            ways.insert(0, (saliency.method, saliency.contexts))
        for method, contexts in (way for way in ways if way[1] > 0):
            each = seconds_per_context(reader, job.blocks, method, saliency, window=window)
            parts.append(f"at most {in_minutes(each * contexts)} for saliency by {method} of {contexts:,} contexts")
    return ", ".join(parts)
