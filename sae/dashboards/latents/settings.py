"""What the pages of latents show, and how much memory their making may take."""

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, final

from sae.errors import UserError

__all__ = ["LayoutMethod", "PageSettings"]

LayoutMethod: TypeAlias = Literal["auto", "umap", "pca"]


@final
@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Settings of `sae.dashboards.latents.records.LatentPages`.

    Attributes:
        top: strongest examples a latent.
        intervals: equal parts of (0, max] that examples are drawn from.
        per_interval: examples of each.
        random: examples drawn from all firings.
        window_before: tokens shown before the one that an example was chosen for.
        window_after: tokens shown after it.
        bins: of a latent's histograms.
        tokens: commonest tokens listed.
        logits: logits listed as raised most, and as lowered most.
        neighbours: nearest latents listed, by decoder and by co-activation.
        neurons: dimensions of the decoder row listed.
        seed: of everything that is drawn.
        memory_bytes: for the entries of a bucket of latents and what is made of them; it changes no result. On top come 20
            bytes a token of the text, codes in row order (256 MiB at most), lists for each latent, a copy of the weights, and
            blocks of products (512 MiB at most). A file's worth of latents is worked on whole, however often they fire.
        pairs: pairs of latents on one row that are counted for co-activation; where there are more, a sample of rows is.
        layout: how the map is made; auto: UMAP where umap-learn is installed, else PCA.
        ultra_low: density below which a latent is ultra-low.
        index_size: latents in a file of the index.
        latents_size: latents in a file of pages.
        search_size: latents in a file of the search.
    """

    top: int = 20
    intervals: int = 10
    per_interval: int = 3
    random: int = 5
    window_before: int = 20
    window_after: int = 20
    bins: int = 40
    tokens: int = 10
    logits: int = 10
    neighbours: int = 10
    neurons: int = 5
    seed: int = 0
    memory_bytes: int = 2**30
    pairs: int = 2**31
    layout: LayoutMethod = "auto"
    ultra_low: float | int = 1e-5
    index_size: int = 8192
    latents_size: int = 32
    search_size: int = 8192

    def __post_init__(self) -> None:
        """Refuse sizes below 1, and counts below 0.

        Raises:
            UserError: one of them.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int):
                least = 1 if field.name in ("intervals", "bins", "pairs", "memory_bytes") or field.name.endswith("_size") else 0
                if value < least:
                    raise UserError(f"dashboard setting {field.name}={value}: expected a whole number of at least {least}.")
