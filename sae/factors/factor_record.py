"""From arrays over the factors of one file to what the browser reads."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.factor_schema import Context, FactorLayer, FactorRecord
from sae.dashboards.latents.examples import Windows
from sae.dashboards.latents.record_parts import cut, histograms, logit_entries, neighbour_entries, token_entries
from sae.dashboards.latents.rounding import optional, rounded
from sae.dashboards.latents.statistics import ActivationStatistics
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.token_statistics import TokenStatistics
from sae.dashboards.latents.weight_parts import WeightParts
from sae.factors.levels import LEVELS, Levels

__all__ = ["FactorParts", "LayerParts", "factor_records"]


@final
@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """What is known of some factors at each layer: row or run c * L + l is that of factor c at layer l.

    Attributes:
        fired: tokens on which the factor is active there.
        max: largest activation; NaN where it never fires.
        importance: as in `sae.factors.importance`; zero where it never fires.
        tokens: that it fires on.
        context_offsets: where the contexts of each begin, and the end [factors * L + 1].
        windows: of the contexts.
    """

    fired: Int[np.ndarray, " segments"]
    max: Float[np.ndarray, " segments"]
    importance: Float[np.ndarray, " segments"]
    tokens: TokenStatistics
    context_offsets: Int[np.ndarray, " bounds"]
    windows: Windows


@final
@dataclass(frozen=True, kw_only=True)
class FactorParts:
    """All that is known of some factors, row i or run i of each from factor `first + i`.

    Attributes:
        first: number of the first.
        num_layers: L.
        activations: of all layers together.
        tokens: likewise.
        levels: and layers of the largest importance.
        layers: at each layer.
        weights: of the dictionary.
    """

    first: int
    num_layers: int
    activations: ActivationStatistics
    tokens: TokenStatistics
    levels: Levels
    layers: LayerParts
    weights: WeightParts

    def __len__(self) -> int:
        """Number of factors."""
        return len(self.activations.fired)

    def token_ids(self) -> list[np.ndarray]:
        """All token ids that a file of these factors refers to, some of them often."""
        logits = self.weights.logits
        weighed = [] if logits is None else [logits.raised.number, logits.lowered.number]
        return [self.layers.tokens.token, self.layers.windows.tokens, *(numbers[numbers >= 0] for numbers in weighed)]


def factor_records(parts: FactorParts, strings: Strings, *, bins: int) -> list[FactorRecord]:
    """The pages of the factors, floats rounded to four significant digits.

    Args:
        parts: of the factors.
        strings: tokens of the file.
        bins: of the histograms.
    """
    layers = _layers(parts.layers, strings)
    numbers = {name: optional(getattr(parts.activations, name)) for name in ("density", "max")}
    numbers |= {name: optional(getattr(parts.tokens, name)) for name in ("concentration", "entropy")}
    numbers["decoder_norm"] = optional(parts.weights.norm)
    bars = histograms(parts.activations, bins)
    logits = logit_entries(parts.weights.logits, strings, len(parts))
    neighbours = neighbour_entries(parts.weights.neighbours)
    level, peak = parts.levels.level.tolist(), parts.levels.peak.tolist()
    return [
        FactorRecord(
            factor=parts.first + i,
            level=LEVELS[level[i]] if fired else None,
            peak_layer=peak[i] if fired else None,
            fired=fired,
            histogram=bars[i],
            neighbours=neighbours[i],
            logits=logits[i],
            layers=layers[i * parts.num_layers : (i + 1) * parts.num_layers],
            **{name: values[i] for name, values in numbers.items()},  # pyright: ignore[reportArgumentType]
        )
        for i, fired in enumerate(parts.activations.fired.tolist())
    ]


def _layers(parts: LayerParts, strings: Strings) -> list[FactorLayer]:
    tokens = token_entries(parts.tokens, strings)
    contexts = cut(_contexts(parts.windows, strings), parts.context_offsets)
    largest, importance = optional(parts.max), optional(np.where(parts.fired > 0, parts.importance, np.nan))
    return [
        FactorLayer(fired=fired, max=largest[i], importance=importance[i], contexts=contexts[i], tokens=tokens[i])
        for i, fired in enumerate(parts.fired.tolist())
    ]


def _contexts(windows: Windows, strings: Strings) -> list[Context]:
    tokens = cut(strings.places_in_text(windows.tokens, windows.token_offsets).tolist(), windows.token_offsets)
    places, acts = (cut(array.tolist(), windows.act_offsets) for array in (windows.places, rounded(windows.acts)))
    columns = [array.tolist() for array in (windows.document, windows.block, windows.start, windows.peak)]
    return [
        Context(
            document=document,
            block=block,
            start=start,
            peak=peak,
            tokens=tokens[i],
            places=places[i],
            acts=acts[i],
            saliency=[],
        )
        for i, (document, block, start, peak) in enumerate(zip(*columns, strict=True))
    ]
