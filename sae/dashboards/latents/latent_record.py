"""From arrays over the latents of one file to what the browser reads: here alone is a step for every latent."""

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from sae.dashboards.latents.examples import Examples, Windows
from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.neighbours import Listed
from sae.dashboards.latents.record_parts import cut, histograms, logit_entries, neighbour_entries, pairs, token_entries
from sae.dashboards.latents.rounding import optional, rounded
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.statistics import ActivationStatistics
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.token_statistics import TokenStatistics
from sae.dashboards.latents.weight_parts import WeightParts
from sae.dashboards.schema import Example, ExampleGroup, LatentRecord, NeuronEntry

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
    coactive: Listed
    weights: WeightParts

    def __len__(self) -> int:
        """Number of latents."""
        return len(self.activations.fired)

    def token_ids(self) -> list[np.ndarray]:
        """All token ids, some of them often."""
        logits = self.weights.logits
        weighed = [] if logits is None else [logits.raised.number, logits.lowered.number]
        return [self.tokens.token, self.windows.tokens, *(numbers[numbers >= 0] for numbers in weighed)]


def latent_records(
    parts: LatentParts, strings: Strings, settings: PageSettings, explanations: Explanations
) -> list[LatentRecord]:
    """The pages of the latents, floats rounded to four significant digits."""
    activations = parts.activations
    numbers = {name: optional(getattr(activations, name)) for name in ("density", "max", "mean", "std", "skewness", "kurtosis")}
    numbers |= {name: optional(getattr(parts.tokens, name)) for name in ("concentration", "entropy")}
    numbers["decoder_norm"] = optional(parts.weights.norm)
    tokens = token_entries(parts.tokens, strings)
    groups = _groups(parts, settings, _examples(parts.windows, strings))
    bars = histograms(activations, settings.bins)
    logits = logit_entries(parts.weights.logits, strings, len(parts))
    by_decoder, by_firings = neighbour_entries(parts.weights.neighbours), neighbour_entries(parts.coactive)
    neurons = _neurons(parts.weights)
    return [
        LatentRecord(
            latent=parts.first + i,
            fired=fired,
            histogram=bars[i],
            tokens=tokens[i],
            logits=logits[i],
            decoder_neighbours=by_decoder[i],
            coactive_neighbours=by_firings[i],
            neurons=neurons[i],
            groups=groups[i] if fired else [],
            explanations=explanations.texts.get(parts.first + i, []),
            scores=explanations.scores.get(parts.first + i, []),
            **{name: values[i] for name, values in numbers.items()},  # pyright: ignore[reportArgumentType]
        )
        for i, fired in enumerate(activations.fired.tolist())
    ]


def _neurons(weights: WeightParts) -> list[list[NeuronEntry]]:
    shares = rounded(weights.neuron_shares).tolist()
    return [
        [NeuronEntry(dimension=dimension, weight=weight, share=shares[i][j]) for j, (dimension, weight) in enumerate(own)]
        for i, own in enumerate(pairs(weights.neurons, weights.neurons.number))
    ]


def _examples(windows: Windows, strings: Strings) -> list[Example]:
    tokens = cut(strings.places_in_text(windows.tokens, windows.token_offsets).tolist(), windows.token_offsets)
    places, acts = (cut(array.tolist(), windows.act_offsets) for array in (windows.places, rounded(windows.acts)))
    effects: list[Any] = [None] * len(tokens)
    if windows.effects is not None:
        effects = cut(rounded(windows.effects).tolist(), windows.act_offsets)
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
    chosen = cut(examples, parts.examples.offsets)

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
