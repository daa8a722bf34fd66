"""The folder of a dashboard of factors: pages of factors, of words and of texts, the index, the search and the manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.factor_schema import Agreement, FactorManifest, FactorsInfo, SaliencyShare
from sae.dashboards.pages.folder import Pages, new_pages
from sae.factors.layers import Layer
from sae.factors.levels import LEVEL_RULE
from sae.factors.paths import PathReader
from sae.factors.records import FactorPages
from sae.factors.saliency.measure import measure_saliency
from sae.factors.saliency.plan import plan_saliency
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.shown import Contexts, ShownContexts
from sae.factors.settings import FactorSettings
from sae.factors.subject import FactorSubject
from sae.factors.words import word_pages

__all__ = ["FactorAbout", "FactorsWritten", "write_factor_dashboard"]

MANIFEST_VERSION = 1


@final
@dataclass(frozen=True, kw_only=True)
class FactorAbout:
    """What the manifest says that neither codes nor settings know.

    Attributes:
        title: of the dashboard.
        sae: numbers and names for the head of pages.
        model: its name.
        source: the text: name and licence.
        method: sparse coding, or the architecture of the SAE.
        run_page: file name of the run's page in the folder.
        sweep_page: file name of the page of the run's sweep.
    """

    title: str
    sae: Mapping[str, str | int | float | None]
    model: str
    source: str
    method: str
    run_page: str | None = None
    sweep_page: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class FactorsWritten:
    """What was written: the manifest, and the size of all data files in bytes."""

    manifest: FactorManifest
    size: int


def write_factor_dashboard(
    folder: Path,
    *,
    codes: CollectedCodes,
    sae: SparseAutoencoder,
    layers: Sequence[Layer],
    about: FactorAbout,
    settings: FactorSettings,
    unembedding: Float[Tensor, "vocab d_stream"] | None,
    text_of: Callable[[int], str],
    texts_of: Callable[[Sequence[int]], list[str]],
    read_as: Callable[[str], str],
    words: Sequence[str],
    texts: Sequence[str],
    subject: FactorSubject | None,
    beside: Mapping[str, bytes],
    saliency: SaliencySettings | None = None,
    on_factors: Callable[[int, int], None],
    on_chosen: Callable[[int, int, float | int], None] = lambda measured, shown, seconds: None,
    on_contexts: Callable[[int, int], None] = lambda done, total: None,
) -> FactorsWritten:
    """Write everything that the browser reads; old pages stay until it is all there.

    Args:
        folder: of the dashboard.
        codes: of the dictionary on some text; row i * L + l is layer l at the i-th kept position.
        sae: the dictionary.
        layers: that were read, in order.
        about: for the manifest.
        settings: what pages show.
        unembedding: what each dimension of the residual stream adds to each logit; None where there is none.
        text_of: a token as people read it.
        texts_of: the tokens of a text as people read them, from their ids in order.
        read_as: what a text is read as once it is tokens.
        words: that get a page each; one that is nowhere in the text gets a page that says so.
        texts: that get a page each, with the paths of their tokens.
        subject: what texts are read with and saliency is measured with; needed for these alone.
        beside: names and contents of the files at the top of the folder: the app and the run's pages.
        saliency: how much of it is measured, and how; None: none.
        on_factors: told (factors done, factors in all).
        on_chosen: told (contexts whose saliency will be measured, contexts shown, seconds that it takes), before it is.
        on_contexts: told (contexts whose saliency is measured, contexts in all).

    Raises:
        UserError: codes, dictionary and layers do not belong together, or a word or a text cannot be read.
        ValueError: there are texts, or saliency is asked for, and there is no subject.
        OSError: the disk is full or the folder cannot be written.
    """
    if subject is None and (texts or saliency is not None):
        raise ValueError("texts are read and saliency is measured with a subject: give one")
    factors = FactorPages(
        codes, sae, layers=layers, settings=settings, unembedding=unembedding, text_of=text_of, texts_of=texts_of
    )
    with new_pages(folder, beside=beside) as pages:
        shown = ShownContexts()
        for number, shard in enumerate(factors.factor_shards()):
            on_factors(shard["first"], sae.d_sae)
            shown.add(shard)
            pages.put(f"factors/{number}", shard)
        on_factors(sae.d_sae, sae.d_sae)
        for number, shard in enumerate(factors.index_shards()):
            pages.put(f"index/{number}", shard)
        for number, shard in enumerate(factors.search_shards()):
            pages.put(f"search/{number}", shard)
        share, agreement = _write_saliency(
            pages, shown.strongest_first, subject, codes, saliency, settings, on_chosen=on_chosen, on_contexts=on_contexts
        )
        info = FactorsInfo(
            layers=factors.layer_infos,
            importance_top=settings.importance_top,
            contexts=settings.pages.top,
            level_rule=LEVEL_RULE,
            size=settings.pages.latents_size,
            words=_write_words(pages, codes, factors, words, settings, text_of, texts_of, read_as),
            paths=_write_paths(pages, subject, texts, settings, texts_of),
            method=about.method,
            saliency=share,
            agreement=agreement,
        )
        manifest = _manifest(about, codes, factors, settings, info)
        pages.put("manifest", manifest)
    return FactorsWritten(manifest=manifest, size=pages.size)


def _write_saliency(
    pages: Pages,
    shown: Contexts,
    subject: FactorSubject | None,
    codes: CollectedCodes,
    saliency: SaliencySettings | None,
    settings: FactorSettings,
    *,
    on_chosen: Callable[[int, int, float | int], None],
    on_contexts: Callable[[int, int], None],
) -> tuple[SaliencyShare, list[Agreement]]:
    """Measure it and write it into the pages of factors; gives how much there is, and how far its ways agree."""
    method = None if saliency is None or saliency.method == "none" else saliency.method
    if subject is None or saliency is None or len(shown) == 0:
        return SaliencyShare(method=method, measured=0, shown=len(shown)), []
    reader = ActivationReader(subject, batch_tokens=saliency.batch_tokens)
    plan = plan_saliency(
        reader, shown, saliency, block=codes.block, window=(settings.pages.window_before, settings.pages.window_after)
    )
    on_chosen(plan.contexts, len(shown), plan.seconds)
    agreement = measure_saliency(
        pages,
        plan.chosen,
        reader=reader,
        block=codes.block,
        settings=saliency,
        factors_size=settings.pages.latents_size,
        on_contexts=on_contexts,
    )
    return SaliencyShare(method=method, measured=plan.contexts, shown=len(shown)), agreement


def _write_words(
    pages: Pages,
    codes: CollectedCodes,
    factors: FactorPages,
    words: Sequence[str],
    settings: FactorSettings,
    text_of: Callable[[int], str],
    texts_of: Callable[[Sequence[int]], list[str]],
    read_as: Callable[[str], str],
) -> list[str]:
    """The pages of words; gives their titles."""
    found = word_pages(
        codes,
        factors.text,
        words,
        num_layers=factors.num_layers,
        settings=settings,
        text_of=text_of,
        texts_of=texts_of,
        read_as=read_as,
    )
    for number, page in enumerate(found):
        pages.put(f"words/{number}", page)
    return [page["word"] for page in found]


def _write_paths(
    pages: Pages,
    subject: FactorSubject | None,
    texts: Sequence[str],
    settings: FactorSettings,
    texts_of: Callable[[Sequence[int]], list[str]],
) -> list[str]:
    """The pages of texts; gives their titles."""
    if subject is None:
        return []
    reader = PathReader(subject, texts_of=texts_of, strongest=settings.strongest)
    titles = []
    for number, text in enumerate(texts):
        page = reader.page(text)
        pages.put(f"paths/{number}", page)
        titles.append(page["title"])
    return titles


def _manifest(
    about: FactorAbout, codes: CollectedCodes, factors: FactorPages, settings: FactorSettings, info: FactorsInfo
) -> FactorManifest:
    pages, document = settings.pages, factors.text.document
    return FactorManifest(
        version=MANIFEST_VERSION,
        title=about.title,
        sae=dict(about.sae),
        model=about.model,
        hook_point=", ".join(layer["name"] for layer in info["layers"]),
        source=about.source,
        rows=codes.num_rows,
        documents=len(np.unique(document[document >= 0])),
        blocks=codes.num_blocks,
        context=codes.context_length,
        window=[pages.window_before, pages.window_after],
        effects=None,
        exact_effects=None,
        index_size=pages.index_size,
        latents_size=pages.latents_size,
        search_size=pages.search_size,
        num_latents=codes.num_latents,
        columns=factors.columns,
        coactive_rows=0,
        dead=int((factors.fired == 0).sum()),
        ultra_low=pages.ultra_low,
        texts=[],
        layout=factors.map[1],
        has_scores=False,
        run_page=about.run_page,
        sweep_page=about.sweep_page,
        made_with=version("sae"),
        factors=info,
    )
