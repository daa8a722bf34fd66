"""From arrays over the latents of one file to what the browser reads: here alone is a step for every latent."""

import itertools
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float

from sae.dashboards.latents.examples import Examples, Windows
from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.rounding import optional, rounded
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.statistics import ActivationStatistics
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.token_statistics import TokenStatistics
from sae.dashboards.schema import Bars, Example, ExampleGroup, LatentRecord, TokenEntry

__all__ = ["LatentParts", "latent_records"]


@final
@dataclass(frozen=True, kw_only=True)
class LatentParts:
    """All that is known of some latents, row i or run i of each from latent `first + i`."""

    first: int
    activations: ActivationStatistics
    tokens: TokenStatistics
    examples: Examples
    windows: Windows
    decoder_norm: Float[np.ndarray, " latents"]

    def strings_of(self) -> list[np.ndarray]:
        """All token ids."""
        return [self.tokens.token, self.windows.tokens]


def latent_records(
    parts: LatentParts, strings: Strings, settings: PageSettings, explanations: Explanations
) -> list[LatentRecord]:
    """The pages of the latents, floats rounded to four significant digits."""
    activations = parts.activations
    numbers = {name: optional(getattr(activations, name)) for name in ("density", "max", "mean", "std", "skewness", "kurtosis")}
    numbers |= {name: optional(getattr(parts.tokens, name)) for name in ("concentration", "entropy")}
    numbers["decoder_norm"] = optional(parts.decoder_norm)
    tokens = _token_entries(parts.tokens, strings)
    groups = _groups(parts, settings, _examples(parts.windows, strings))
    histograms = _histograms(activations, settings.bins)
    return [
        LatentRecord(
            latent=parts.first + i,
            fired=fired,
            histogram=histograms[i],
            tokens=tokens[i],
            logits=None,
            decoder_neighbours=[],
            coactive_neighbours=[],
            neurons=[],
            groups=groups[i] if fired else [],
            explanations=explanations.texts.get(parts.first + i, []),
            scores=explanations.scores.get(parts.first + i, []),
            **{name: values[i] for name, values in numbers.items()},  # pyright: ignore[reportArgumentType]
        )
        for i, fired in enumerate(activations.fired.tolist())
    ]


def _histograms(activations: ActivationStatistics, bins: int) -> list[Bars]:
    edges = rounded(np.nan_to_num(activations.max)[:, None] * np.arange(bins + 1) / bins).tolist()
    counts, fired = activations.histogram.tolist(), activations.fired.tolist()
    return [Bars(edges=edges[i], counts=counts[i]) if fired[i] else Bars(edges=[0.0], counts=[]) for i in range(len(fired))]


def _token_entries(tokens: TokenStatistics, strings: Strings) -> list[list[TokenEntry]]:
    columns = (strings.places(tokens.token), tokens.count, rounded(tokens.share), rounded(tokens.mean))
    entries = [
        TokenEntry(token=token, count=count, share=share, mean=mean)
        for token, count, share, mean in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return _cut(entries, tokens.offsets)


def _examples(windows: Windows, strings: Strings) -> list[Example]:
    tokens = _cut(strings.places(windows.tokens).tolist(), windows.token_offsets)
    places, acts = (_cut(array.tolist(), windows.act_offsets) for array in (windows.places, rounded(windows.acts)))
    effects: list[Any] = [None] * len(tokens)
    if windows.effects is not None:
        effects = _cut(rounded(windows.effects).tolist(), windows.act_offsets)
    columns = [array.tolist() for array in (windows.document, windows.block, windows.start, windows.peak)]
    return [
        Example(
            document=document,
            block=block,
            start=start,
            peak=peak,
            tokens=tokens[i],
            places=places[i],
            acts=acts[i],
            effects=effects[i],
            exact={},
        )
        for i, (document, block, start, peak) in enumerate(zip(*columns, strict=True))
    ]


def _groups(parts: LatentParts, settings: PageSettings, examples: list[Example]) -> list[list[ExampleGroup]]:
    kinds = settings.intervals + 2
    edges = np.nan_to_num(parts.activations.max)[:, None] * np.arange(settings.intervals, -1, -1) / settings.intervals
    edges, firings = rounded(edges).tolist(), parts.examples.firings.tolist()
    chosen = _cut(examples, parts.examples.offsets)

    def group(latent: int, kind: int) -> ExampleGroup:
        name: Literal["top", "interval", "random"] = "interval"
        low: float | None = None
        high: float | None = None
        if kind in (0, kinds - 1):
            name = "random" if kind else "top"
        else:
            high, low = edges[latent][kind - 1 : kind + 1]
        number = latent * kinds + kind
        return ExampleGroup(kind=name, low=low, high=high, count=firings[number], examples=chosen[number])

    return [[group(latent, kind) for kind in range(kinds)] for latent in range(len(edges))]


def _cut(items: list[Any], offsets: np.ndarray) -> list[list[Any]]:
    bounds = offsets.tolist()
    return [items[low:high] for low, high in itertools.pairwise(bounds)]
