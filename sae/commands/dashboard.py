"""`scripts/dashboard.py`: pages for every latent of a trained SAE, in a folder that opens from disk."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import command, say

if TYPE_CHECKING:
    from sae.commands.dashboard_job import Job
    from sae.dashboards.collect.codes import CollectedCodes
    from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["main"]

HELP = """
Write pages for every latent of a trained SAE: what it fires on, its logits and neighbours, a table and a map of all, a search.

  python scripts/dashboard.py from=runs/NAME                            then open runs/NAME/dashboard/index.html
  python scripts/dashboard.py from=runs/NAME open=true                  opens it
  python scripts/dashboard.py from=runs/NAME/saes/relu                  one SAE of several
  python scripts/dashboard.py from=runs/NAME data=text data.path=my.txt   read on other text
  python scripts/dashboard.py from=runs/NAME dashboard.tokens=100000 dashboard.effects=none   sooner
  python scripts/dashboard.py from=runs/NAME 'dashboard.texts=["Paris is in"]'   with a page for a prompt
  python scripts/dashboard.py from=runs/NAME 'dashboard.export=[neuronpedia,delphi,parquet]'   for other tools too
  python scripts/dashboard.py from=runs/NAME serve=true                 type any text, hold latents, go on with it
  python scripts/dashboard.py from=runs/NAME dry_run=true               memory, disk and time, then stop

Inside a run's own folder from= may be left out. Model, hook points and text are those of the SAE's cfg.json unless given here.
What was stopped goes on with the same command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    return command(name="dashboard", text=HELP, run=run, complete=_complete, arguments=arguments)


def _complete(overrides: list[str]) -> list[str]:
    from sae.commands.saved_sae import with_saved_choices

    if not any(line.startswith("from=") for line in overrides) and (Path("cfg.json").is_file() or Path("saes").is_dir()):
        overrides = ["from=.", *overrides]
    return with_saved_choices("dashboard", overrides)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """Build one dashboard, and open or serve it.

    Raises:
        UserError: something that was given is wrong, or the disk is full.
    """
    from sae.commands.dashboard_job import prepare
    from sae.commands.progress import Interrupted
    from sae.training.callbacks.checkpoints import StopSignals

    job = prepare(tree, overrides)
    built = job.folder.is_built()
    if job.show.serve and job.folder.has_pages() and not any(line.startswith(("dashboard.", "data")) for line in overrides):
        say(f"{job.folder.out} is built already, and served as it is.")
        return _serve(job)
    title, source = job.folder.places.title, job.origin.config.source.name
    say(f"{title}: {job.sae.d_sae:,} latents on {job.blocks.num_rows:,} tokens of {source}")
    say(f"  {job.outlook().in_words()}")
    if built:
        say("  the text was read before: only the pages are written again")
    if job.show.dry_run:
        return 0
    signals = StopSignals()
    signals.install()
    try:
        done = _build(job, signals)
    except Interrupted:
        say("Stopped; what is finished is kept, and the same command goes on.")
        return signals.exit_status
    finally:
        signals.restore()
    if done and job.show.serve:
        return _serve(job)
    if done and job.show.open:
        import webbrowser

        webbrowser.open((job.folder.out / "index.html").absolute().as_uri())
    return 0


def _build(job: "Job", signals: "StopSignals") -> bool:
    """Whether there is a dashboard now: another process may still be making its part of the codes."""
    began = time.perf_counter()
    done = job.folder.build(job.node.part, lambda: _collect(job, signals), lambda codes: _write(job, codes, signals, began))
    if not done:
        say(f"Part {job.node.shard} of the codes is made. Whoever makes the last one writes the pages.")
    return done


def _collect(job: "Job", signals: "StopSignals") -> "CollectedCodes | None":
    from sae.commands.progress import HarvestProgress
    from sae.dashboards.collect.collector import collect

    return collect(
        job.folder.collected,
        sae=job.sae,
        source=job.origin.harvester,
        shard=job.node.part,
        on_rows=HarvestProgress(signals, what="reading", unit="token"),
        **job.keywords,
    )


def _write(job: "Job", codes: "CollectedCodes", signals: "StopSignals", began: float) -> None:
    from sae.commands.dashboard_exports import write_exports
    from sae.commands.dashboard_pages import write_dashboard
    from sae.commands.progress import HarvestProgress

    read = time.perf_counter()
    written = write_dashboard(
        job,
        codes,
        on_latents=HarvestProgress(signals, what="pages", unit="latent"),
        on_firings=HarvestProgress(signals, what="exact effects", unit="firing"),
    )
    exports = write_exports(
        job.folder.out,
        job.node,
        codes=codes,
        origin=job.origin,
        sae=job.sae,
        architecture=job.cfg["architecture"],
    )
    job.folder.settle()
    now = time.perf_counter()
    out, manifest = job.folder.out, written.manifest
    print(
        f"Dashboard of {manifest['title']}: {manifest['num_latents']:,} latents ({manifest['dead']:,} dead) on "
        f"{manifest['rows']:,} tokens, read in {read - began:.0f} s and written in {now - read:.0f} s\n"
        f"  page     {out / 'index.html'} (open it in a browser; {written.size / 1e6:.0f} MB of data)"
    )
    for folder in exports:
        print(f"  {folder.name:<8} {folder}")
    print(f"  next     {job.folder.places.serving}")


def _serve(job: "Job") -> int:
    from sae.commands.dashboard_pages import unembedding_of
    from sae.dashboards.live.server import serve

    return serve(
        job.folder.out,
        sae=job.sae,
        model=job.origin.model,
        inputs=job.origin.inputs,
        targets=job.origin.targets,
        unembedding=unembedding_of(job.origin),
        host=job.show.host,
        port=job.show.port,
        open_browser=job.show.open,
        say=say,
    )
