"""The pages of a dictionary over several layers: codes of all layers in one pass over the text, then what the browser reads."""

import time

from sae.commands.dashboard_pages import RUN_PAGE, SWEEP_PAGE, app_files, found_pages, numbers_of, source_words, unembedding_of
from sae.commands.entry import say
from sae.commands.factors_job import FactorsJob
from sae.commands.progress import HarvestProgress
from sae.commands.summary import in_minutes
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import collect
from sae.dashboards.factor_schema import SaliencyShare
from sae.dashboards.pages.display import displayed, displayed_text, displayed_together
from sae.factors.layers import Layer
from sae.factors.write import FactorAbout, write_factor_dashboard
from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["build_pages"]


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
        read_as=displayed_text(job.origin.model.tokenizer),
        words=job.node.words,
        texts=job.node.texts,
        subject=job.subject,
        beside=app_files() | found,
        saliency=job.saliency if job.saliency.measures_any else None,
        on_factors=HarvestProgress(signals, what="pages", unit="factor"),
        on_chosen=_say_chosen,
        on_contexts=HarvestProgress(signals, what="saliency", unit="context"),
    )
    job.folder.settle()
    now, manifest = time.perf_counter(), written.manifest
    say(f"Read in {in_minutes(read - began)}, written in {in_minutes(now - read)}.")
    print(
        f"Pages of {manifest['title']}: {manifest['num_latents']:,} factors ({manifest['dead']:,} silent) on "
        f"{manifest['rows']:,} tokens at {len(job.units.layers)} layers\n"
        f"  saliency     {_saliency_words(manifest['factors']['saliency'])}\n"
        f"  page         {job.folder.out / 'index.html'} (open it in a browser; {written.size / 1e6:.0f} MB of data)\n"
        f"  next         {places.serving}"
    )


def _say_chosen(measured: int, shown: int, seconds: float | int) -> None:
    what = f"all {shown:,} contexts" if measured == shown else f"{measured:,} of {shown:,} contexts, the strongest first"
    say(f"Saliency of {what}: about {in_minutes(seconds)}.")


def _saliency_words(share: SaliencyShare) -> str:
    """How many contexts have it, and how the others get it."""
    if share["method"] is None:
        return "not measured (pages.saliency=leave_one_out_shortlist)"
    words = f"of {share['measured']:,} of the {share['shown']:,} contexts shown"
    if share["measured"] == share["shown"]:
        return words
    return f"{words}, the strongest; of more: a larger pages.saliency_minutes or pages.saliency_contexts, or serve=true"


def _layers(job: FactorsJob) -> list[Layer]:
    """The layers, with how much of each was left unexplained on held-out text."""
    measured = {layer["hook_point"]: layer.get("fvu") for layer in job.cfg.get("metrics", {}).get("layers") or ()}
    return [Layer(name=point.name, number=point.layer, fvu=measured.get(point.name)) for point in job.origin.inputs]
