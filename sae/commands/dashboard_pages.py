"""From collected codes to the dashboard's folder: pages of latents and texts, the app, the run's page."""

import csv
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae.commands.dashboard_job import Job
from sae.commands.dashboard_node import DashboardNode
from sae.commands.origin import Origin
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.document import with_link
from sae.dashboards.latents.records import LatentPages, PageSettings
from sae.dashboards.live.quantiles import ActivationQuantiles
from sae.dashboards.live.subject import Subject
from sae.dashboards.live.text_page import TextReader
from sae.dashboards.pages.display import displayed, displayed_together
from sae.dashboards.pages.exact import MeasuredEffects, StrongestEffects, measure_effects
from sae.dashboards.pages.folder import Pages, new_pages
from sae.dashboards.pages.quantiles import collected_quantiles
from sae.dashboards.schema import ExactEffects, Manifest
from sae.models.unembedding import direct_unembedding

__all__ = ["Written", "app_files", "found_pages", "numbers_of", "source_words", "unembedding_of", "write_dashboard"]

OnWork = Callable[[int, int], None]

MANIFEST_VERSION = 1
APP = ("index.html", "app.js", "app.css")
RUN_PAGE, SWEEP_PAGE = "run.html", "sweep.html"
NUMBERS_OF_THE_SAE = ("l0", "fvu", "dead_fraction", "ce_increase", "tokens_trained")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written: the manifest, and the size of all data files in bytes."""

    manifest: Manifest
    size: int


def write_dashboard(job: Job, codes: CollectedCodes, *, on_latents: OnWork, on_firings: OnWork) -> Written:
    """Write everything that the browser reads; old pages stay until it is all there.

    Args:
        job: what it is built from.
        codes: of the SAE on the text.
        on_latents: told (latents done, latents in all).
        on_firings: told (firings removed one by one, firings in all).

    Raises:
        UserError: a prompt cannot be read.
        OSError: the disk is full or the folder cannot be written.
    """
    settings, unembedding = page_settings(job.node, job.origin.config.seed), unembedding_of(job.origin)
    text_of = displayed(job.origin.model.tokenizer)
    latents = LatentPages(
        codes,
        job.sae,
        settings=settings,
        unembedding=unembedding,
        text_of=text_of,
        texts_of=displayed_together(job.origin.model.tokenizer),
        explanations=job.explanations,
    )
    quantiles = collected_quantiles(codes, latents.fired, memory_bytes=settings.memory_bytes)
    quantiles.write(codes.folder)
    subject = Subject(model=job.origin.model, sae=job.sae, inputs=job.origin.inputs, targets=job.origin.targets)
    found = found_pages(job.folder.places.run)
    with new_pages(job.folder.out, beside=app_files() | found) as pages:
        strongest = StrongestEffects(job.node.exact_effects)
        for number, shard in enumerate(latents.latent_shards()):
            on_latents(shard["first"], job.sae.d_sae)
            strongest.add(shard)
            pages.put(f"latents/{number}", shard)
        on_latents(job.sae.d_sae, job.sae.d_sae)
        measured = None
        if job.effects is not None and len(strongest.firings) > 0:
            measured = measure_effects(
                pages,
                strongest,
                effects=job.effects,
                blocks=job.blocks,
                latents_size=settings.latents_size,
                on_firings=on_firings,
            )
            latents.put_exact_effects(measured.largest())
        for number, shard in enumerate(latents.index_shards()):
            pages.put(f"index/{number}", shard)
        for number, shard in enumerate(latents.search_shards()):
            pages.put(f"search/{number}", shard)
        on_latents(job.sae.d_sae, job.sae.d_sae)  # a signal that came meanwhile is heeded before old pages go
        titles = _write_texts(pages, job.node.texts, subject, quantiles, unembedding)
        manifest = _manifest(job, codes, latents, settings, measured, titles=titles, beside=found.keys())
        pages.put("manifest", manifest)
    return Written(manifest=manifest, size=pages.size)


def page_settings(node: DashboardNode, seed: int) -> PageSettings:
    """What pages show."""
    return PageSettings(
        top=node.top,
        intervals=node.intervals,
        per_interval=node.per_interval,
        random=node.random,
        window_before=node.window,
        window_after=node.window,
        layout=node.layout,
        seed=seed,
        memory_bytes=round(node.memory_gb * 1e9),
    )


def unembedding_of(origin: Origin) -> Float[Tensor, "vocabulary d_out"] | None:
    """What turns a decoder row into its direct effect on the logits; None where it is not written into the stream."""
    target, *others = origin.targets
    return None if others else direct_unembedding(origin.model_of(target), target)


def _write_texts(
    pages: Pages,
    texts: tuple[str, ...],
    subject: Subject,
    quantiles: ActivationQuantiles,
    unembedding: Float[Tensor, "vocabulary d_out"] | None,
) -> list[str]:
    """The pages of prompts; gives their titles."""
    if not texts:
        return []
    texts_of = displayed_together(subject.model.tokenizer)
    reader = TextReader(subject, texts_of=texts_of, quantiles=quantiles, unembedding=unembedding)
    titles = []
    for number, text in enumerate(texts):
        page = reader.page(text)
        pages.put(f"texts/{number}", page)
        titles.append(page["title"])
    return titles


def _manifest(
    job: Job,
    codes: CollectedCodes,
    latents: LatentPages,
    settings: PageSettings,
    measured: MeasuredEffects | None,
    *,
    titles: list[str],
    beside: Set[str],
) -> Manifest:
    return Manifest(
        version=MANIFEST_VERSION,
        title=job.folder.places.title,
        sae={"architecture": job.cfg["architecture"], "d_in": job.sae.d_in, "d_sae": job.sae.d_sae, **numbers_of(job.cfg)},
        model=str(job.origin.model.provenance().get("name")),
        hook_point=job.origin.place,
        source=source_words(job.origin),
        rows=codes.num_rows,
        documents=job.blocks.num_documents,
        blocks=codes.num_blocks,
        context=codes.context_length,
        window=[settings.window_before, settings.window_after],
        effects=None if job.effects is None else "gradient",
        exact_effects=None if measured is None else ExactEffects(firings=len(measured.firings), agreement=measured.agreement),
        index_size=settings.index_size,
        latents_size=settings.latents_size,
        search_size=settings.search_size,
        num_latents=codes.num_latents,
        columns=latents.columns,
        coactive_rows=latents.coactivation.rows,
        dead=int((latents.fired == 0).sum()),
        ultra_low=settings.ultra_low,
        texts=titles,
        layout=latents.map[1],
        has_scores=bool(job.explanations.scores),
        run_page=RUN_PAGE if RUN_PAGE in beside else None,
        sweep_page=SWEEP_PAGE if SWEEP_PAGE in beside else None,
        made_with=version("sae"),
    )


def numbers_of(cfg: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an SAE's `cfg.json` that stand at the head of its pages."""
    metrics = cfg.get("metrics", {})
    return {key: metrics[key] for key in NUMBERS_OF_THE_SAE if isinstance(metrics.get(key), int | float)}


def source_words(origin: Origin) -> str:
    """The text and its licence."""
    source = origin.config.source
    return source.name if source.licence is None else f"{source.name} ({source.licence})"


def app_files() -> dict[str, bytes]:
    """The app as it is shipped."""
    built = files("sae.dashboards") / "app" / "built"
    return {name: (built / name).read_bytes() for name in APP}


def found_pages(run: Path | None) -> dict[str, bytes]:
    """The run's page and its sweep's, where they are there."""
    if run is None:
        return {}
    places = {RUN_PAGE: run / "report.html", SWEEP_PAGE: _sweep_page(run)}
    found = {name: path.read_text(encoding="utf-8") for name, path in places.items() if path is not None and path.is_file()}
    return {name: with_link(page, APP[0], "\N{LEFTWARDS ARROW} Latents").encode("utf-8") for name, page in found.items()}


def _sweep_page(run: Path) -> Path | None:
    """The latest page of a sweep that a run belongs to: sweeps stand beside runs, each with a table that names its runs."""
    pages = []
    for table in run.absolute().parent.glob("sweeps/*/sweep.csv"):
        with table.open(encoding="utf-8", newline="") as lines:
            if any(row.get("run") == run.absolute().name for row in csv.DictReader(lines)):
                pages.append(table.with_name("sweep.html"))
    return max(pages, default=None)
