"""Stretches of text around chosen firings: the strongest, some from every interval of activation, and some at random."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.choice import Firings, choose
from sae.dashboards.latents.draws import draws
from sae.dashboards.latents.segments import ragged, starts
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.statistics import interval_of
from sae.dashboards.latents.text import Text

__all__ = ["Examples", "Windows", "choose_examples", "windows"]

# Draws looked at first, where some are wanted: nearly always enough to find that many blocks.
LOOKED_AT = 8


@final
@dataclass(frozen=True, kw_only=True)
class Examples:
    """Chosen firings of some latents.

    A latent has `intervals + 2` groups: the top examples, the intervals from the strongest to the weakest, random ones.

    Attributes:
        entry: chosen entries, by group.
        offsets: where each group begins, and the end [latents * (intervals + 2) + 1].
        firings: that belong to each group [latents * (intervals + 2)].
    """

    entry: Int[np.ndarray, " examples"]
    offsets: Int[np.ndarray, " bounds"]
    firings: Int[np.ndarray, " groups"]


def choose_examples(
    entries: LatentEntries, largest: Float[np.ndarray, " latents"], text: Text, settings: PageSettings
) -> Examples:
    """Choose; see `sae.dashboards.latents.choice` for how repetition is avoided.

    Args:
        entries: of the latents.
        largest: activation of each latent.
        text: whose rows they are.
        settings: how many of each kind, windows and seed.
    """
    latents, kinds = entries.latents, settings.intervals + 2
    place = text.place[entries.rows].astype(np.int64)
    block = place // text.context
    interval = interval_of(entries.values.astype(np.float64), largest[latents], settings.intervals)
    drawn = draws(settings.seed, latents + entries.first, entries.rows)
    strongest = ~entries.values.view(np.uint32)  # positive floats are ordered like their bits
    by_interval = latents * settings.intervals + settings.intervals - 1 - interval
    per_interval = np.bincount(by_interval, minlength=len(entries) * settings.intervals)
    fired = np.diff(entries.offsets)

    def chosen(group: np.ndarray, order: np.ndarray, count: int, likely: np.ndarray) -> np.ndarray:
        firings = Firings(group=group, order=order, block=block, place=place)
        before, after = settings.window_before, settings.window_after
        return choose(firings, groups=len(likely), count=count, before=before, after=after, likely=likely)

    top = chosen(latents, strongest, settings.top, _likely_strongest(per_interval, largest, settings))
    strata = chosen(by_interval, drawn[0], settings.per_interval, _likely(per_interval, settings.per_interval))
    random = chosen(latents, drawn[1], settings.random, _likely(fired, settings.random))
    group = np.concatenate(
        [
            latents[top] * kinds,
            latents[strata] * kinds + 1 + by_interval[strata] % settings.intervals,
            latents[random] * kinds + kinds - 1,
        ]
    )
    order = np.argsort(group, kind="stable")
    return Examples(
        entry=np.concatenate([top, strata, random])[order],
        offsets=starts(np.bincount(group, minlength=len(entries) * kinds)),
        firings=np.column_stack([fired, per_interval.reshape(len(entries), -1), fired]).ravel(),
    )


def _likely(sizes: Int[np.ndarray, " groups"], count: int) -> Float[np.ndarray, " groups"]:
    """A 32-bit draw up to which `LOOKED_AT` times as many firings as wanted, and a few, are expected."""
    return np.minimum((LOOKED_AT * count + 8) / np.maximum(sizes, 1), 1.0) * 2.0**32


def _likely_strongest(
    per_interval: Int[np.ndarray, " groups"], largest: Float[np.ndarray, " latents"], settings: PageSettings
) -> Float[np.ndarray, " latents"]:
    """The order of an activation above which there are several times as many firings as wanted, as far as intervals tell."""
    above = np.cumsum(per_interval.reshape(-1, settings.intervals), axis=1)
    wanted = (above < 4 * settings.top).sum(axis=1) + 1  # intervals from the strongest
    edge = np.nan_to_num(largest * np.maximum(settings.intervals - wanted, 0) / settings.intervals)
    return (~edge.astype(np.float32).view(np.uint32)).astype(np.float64)


@final
@dataclass(frozen=True, kw_only=True)
class Windows:
    """The text around examples, and the latent's activations in it.

    Attributes:
        block: of each example.
        document: of the token that the example was chosen for.
        start: position of the first token shown.
        peak: offset of the token that the example was chosen for.
        token_offsets: where the example's tokens begin, and the end.
        tokens: shown, special ones too.
        act_offsets: where its activations begin, and the end.
        places: offset of each activation from the first token shown.
        acts: activations.
        effects: on the loss, nats; None where there are none.
    """

    block: Int[np.ndarray, " examples"]
    document: Int[np.ndarray, " examples"]
    start: Int[np.ndarray, " examples"]
    peak: Int[np.ndarray, " examples"]
    token_offsets: Int[np.ndarray, " bounds"]
    tokens: Int[np.ndarray, " tokens"]
    act_offsets: Int[np.ndarray, " bounds"]
    places: Int[np.ndarray, " acts"]
    acts: Float[np.ndarray, " acts"]
    effects: Float[np.ndarray, " acts"] | None


def windows(entries: LatentEntries, chosen: Int[np.ndarray, " examples"], text: Text, settings: PageSettings) -> Windows:
    """Cut windows at the ends of the block and of what is attended to in it.

    Args:
        entries: of the latents.
        chosen: the entries that examples are made of.
        text: whose rows they are.
        settings: the window.
    """
    latents = entries.latents
    place = text.place[entries.rows[chosen]].astype(np.int64)
    block = place // text.context
    begin = np.maximum(place - settings.window_before, text.begin[block])
    end = np.minimum(place + settings.window_after + 1, text.end[block])
    tokens = text.ids[ragged(begin, end - begin)]
    # Entries are in order of (latent, row), so those of one latent between two rows lie together.
    keys = latents * text.num_rows + entries.rows
    low, high = (np.searchsorted(keys, latents[chosen] * text.num_rows + text.row[bound]) for bound in (begin, end))
    inside = ragged(low, high - low)
    return Windows(
        block=block,
        document=text.document[place].astype(np.int64),
        start=begin - block * text.context,
        peak=place - begin,
        token_offsets=starts(end - begin),
        tokens=tokens,
        act_offsets=starts(high - low),
        places=text.place[entries.rows[inside]] - np.repeat(begin, high - low),
        acts=entries.values[inside],
        effects=None if entries.effects is None else entries.effects[inside],
    )
