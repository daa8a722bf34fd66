"""The pages of a dictionary over several layers: codes of all layers in one pass over the text, then what the browser reads."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch

from sae.activations.mixed import MIXED, MixedLayers
from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.commands.assemble import Text
from sae.commands.dashboard_checks import check_place
from sae.commands.dashboard_pages import RUN_PAGE, SWEEP_PAGE, app_files, found_pages, numbers_of, source_words, unembedding_of
from sae.commands.dashboard_plan import CHUNK_ROWS, DashboardPlaces, chosen_blocks
from sae.commands.entry import say
from sae.commands.factors_node import PagesNode
from sae.commands.origin import Origin, describe_place
from sae.commands.pages_folder import PagesFolder
from sae.commands.progress import HarvestProgress
from sae.commands.summary import in_minutes
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import collect, plan_collection
from sae.dashboards.collect.encode import encode_positive
from sae.dashboards.factor_schema import SaliencyMethod
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.pages.display import displayed, displayed_together
from sae.errors import UserError
from sae.factors.layers import Layer
from sae.factors.occurrences import word_pattern
from sae.factors.paths import path_blocks
from sae.factors.saliency.methods import seconds_per_context
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.settings import FactorSettings
from sae.factors.subject import FactorSubject
from sae.factors.write import FactorAbout, write_factor_dashboard
from sae.tokens.blocks import TokenBlocks
from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["FactorsJob", "build_pages", "check_asked", "factors_job", "outlook_words"]


@final
@dataclass(frozen=True, kw_only=True)
class FactorsJob:
    """What pages are made from.

    Attributes:
        node: settings.
        folder: that they are written to.
        cfg: what the dictionary's `cfg.json` says.
        origin: model and layers.
        sae: the dictionary, which takes rows in units of their layers.
        units: of the layers.
        blocks: the text.
        keywords: of `collect`, those that the plan of the codes was made of.
    """

    node: PagesNode
    folder: PagesFolder
    cfg: Mapping[str, Any]
    origin: Origin
    sae: SparseAutoencoder
    units: LayerUnits
    blocks: TokenBlocks
    keywords: Mapping[str, Any]

    @property
    def source(self) -> MixedLayers:
        """Rows of all layers."""
        return MixedLayers(self.origin.harvester, self.units)

    @property
    def subject(self) -> FactorSubject:
        """What texts are read with."""
        return FactorSubject(model=self.origin.model, sae=self.sae, points=self.origin.inputs, units=self.units)

    @property
    def settings(self) -> FactorSettings:
        """What pages show."""
        node = self.node
        return FactorSettings(
            pages=PageSettings(
                top=node.top,
                tokens=5,
                latents_size=8,
                window_before=node.window,
                window_after=node.window,
                layout=node.layout,
                seed=self.origin.config.seed,
                memory_bytes=round(node.memory_gb * 1e9),
            ),
            importance_top=node.importance_top,
            strongest=node.strongest,
            occurrences=node.occurrences,
        )

    @property
    def saliency(self) -> SaliencySettings:
        """How much saliency is measured, and how."""
        return self.node.saliency_settings(self.origin.config.seed)


def factors_job(
    path: Path,
    out: str | None,
    *,
    node: PagesNode,
    cfg: Mapping[str, Any],
    origin: Origin,
    text: Text,
    sae: SparseAutoencoder,
    units: LayerUnits,
) -> FactorsJob:
    """What pages of a dictionary will be made from; nothing is written yet.

    Args:
        path: of the dictionary or its run.
        out: where to; None: in the run's folder.
        node: settings.
        cfg: what the dictionary's `cfg.json` says.
        origin: model and layers.
        text: the text.
        sae: the dictionary.
        units: of the layers.

    Raises:
        UserError: the folder holds something else, or a factor, a word or a text is named that can have no page.
    """
    places = DashboardPlaces.of(path, out, command="factors")
    check_place(places.out)
    blocks = chosen_blocks(text, tokens=node.tokens, split=node.split, setting="pages.tokens")
    keywords: dict[str, Any] = {
        "hook_points": [MIXED],
        "layers": units.layers,
        "blocks": blocks,
        "belongs_to": {
            "model": origin.model_provenance(),
            "hook_points": {point.name: describe_place(origin, point) for point in origin.hook_points},
            "layer_units": hashlib.sha256(units.means.numpy().tobytes() + units.scales.numpy().tobytes()).hexdigest(),
            "settings": sae.config(),
            "text": origin.text_provenance(),
        },
        "chunk_blocks": max(1, CHUNK_ROWS // (blocks.context_length * len(units.layers))),
        "effects": None,
    }
    job = FactorsJob(
        node=node,
        folder=PagesFolder(places=places, plan=plan_collection(sae, **keywords)),
        cfg=cfg,
        origin=origin,
        sae=sae.to(origin.model.device),
        units=units,
        blocks=blocks,
        keywords=keywords,
    )
    check_asked(node, origin, d_sae=sae.d_sae)
    return job


def check_asked(node: PagesNode, origin: Origin, *, d_sae: int) -> None:
    """Refuse what can have no page before anything that may take long.

    Args:
        node: what pages show.
        origin: model and layers.
        d_sae: factors of the dictionary, which need not be there yet.

    Raises:
        UserError: a factor, a word or a text.
    """
    wrong = [number for number in node.lime_factors if number >= d_sae]
    if wrong:
        raise UserError(f"pages.lime_factors={wrong}: the dictionary has {d_sae} factors, numbered from 0")
    for key, asked, check in (
        ("words", node.words, word_pattern),
        ("texts", node.texts, partial(path_blocks, origin.model)),
    ):
        for number, one in enumerate(asked):
            try:
                check(one)
            except UserError as error:
                raise UserError(f"pages.{key}[{number}]: {error}") from None


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
    if measures(saliency):
        reader = ActivationReader(job.subject, batch_tokens=saliency.batch_tokens)
        window = (job.node.window, job.node.window)
        ways: list[tuple[SaliencyMethod, int]] = [("lime", len(saliency.lime_factors) * saliency.lime_contexts)]
        if saliency.method != "none":
            ways.insert(0, (saliency.method, saliency.contexts))
        for method, contexts in (way for way in ways if way[1] > 0):
            each = seconds_per_context(reader, job.blocks, method, saliency, window=window)
            parts.append(f"at most {in_minutes(each * contexts)} for saliency by {method} of {contexts:,} contexts")
    return ", ".join(parts)


def measures(saliency: SaliencySettings) -> bool:
    """Whether saliency is measured at all."""
    return (saliency.method != "none" and saliency.contexts > 0) or bool(saliency.lime_factors)


def build_pages(job: FactorsJob, signals: StopSignals) -> bool:
    """Collect the codes and write the pages; False where another process has yet to make its part of the codes.

    Raises:
        UserError: a word or a text cannot be read, or the disk is full; what was read stays, and so do old pages.
        Interrupted: a signal came.
    """
    began = time.perf_counter()

    def codes() -> CollectedCodes | None:
        return collect(
            job.folder.collected,
            sae=job.sae,
            source=job.source,
            shard=job.node.part,
            on_rows=HarvestProgress(signals, what="reading", unit="token"),
            **job.keywords,
        )

    return job.folder.build(job.node.part, codes, lambda found: _write(job, found, signals, began))


def _write(job: FactorsJob, codes: CollectedCodes, signals: StopSignals, began: float) -> None:
    read = time.perf_counter()
    places, found = job.folder.places, found_pages(job.folder.places.run)
    written = write_factor_dashboard(
        job.folder.out,
        codes=codes,
        sae=job.sae,
        layers=_layers(job),
        about=FactorAbout(
            title=places.title,
            sae={
                "architecture": job.cfg["architecture"],
                "d_in": job.sae.d_in,
                "d_sae": job.sae.d_sae,
                **numbers_of(job.cfg),
            },
            model=str(job.origin.model.provenance().get("name")),
            source=source_words(job.origin),
            method=str(job.cfg["architecture"]).replace("_", " "),
            run_page=RUN_PAGE if RUN_PAGE in found else None,
            sweep_page=SWEEP_PAGE if SWEEP_PAGE in found else None,
        ),
        settings=job.settings,
        unembedding=unembedding_of(job.origin),
        text_of=displayed(job.origin.model.tokenizer),
        texts_of=displayed_together(job.origin.model.tokenizer),
        words=job.node.words,
        texts=job.node.texts,
        subject=job.subject,
        beside=app_files() | found,
        saliency=job.saliency if measures(job.saliency) else None,
        on_factors=HarvestProgress(signals, what="pages", unit="factor"),
        on_contexts=HarvestProgress(signals, what="saliency", unit="context"),
    )
    job.folder.settle()
    now, manifest = time.perf_counter(), written.manifest
    say(f"Read in {in_minutes(read - began)}, written in {in_minutes(now - read)}.")
    print(
        f"Pages of {manifest['title']}: {manifest['num_latents']:,} factors ({manifest['dead']:,} silent) on "
        f"{manifest['rows']:,} tokens at {len(job.units.layers)} layers\n"
        f"  page         {job.folder.out / 'index.html'} (open it in a browser; {written.size / 1e6:.0f} MB of data)\n"
        f"  next         {places.serving}"
    )


def _layers(job: FactorsJob) -> list[Layer]:
    """The layers, with how much of each was left unexplained on held-out text."""
    measured = {layer["hook_point"]: layer.get("fvu") for layer in job.cfg.get("metrics", {}).get("layers") or ()}
    return [Layer(name=point.name, number=point.layer, fvu=measured.get(point.name)) for point in job.origin.inputs]
