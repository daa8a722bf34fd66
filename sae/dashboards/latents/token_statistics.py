"""On which tokens latents fire."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.segments import first_of, reduced, starts
from sae.dashboards.latents.text import Text

__all__ = ["TokenStatistics", "token_statistics"]


@final
@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    """The commonest tokens of some latents, and how their firings spread over tokens.

    Attributes:
        offsets: where each latent's listed tokens begin, and the end [latents + 1].
        token: listed tokens: by count from the largest, of equal counts by id.
        count: firings on each.
        share: of the latent's firings.
        mean: activation there.
        concentration: share of firings on the commonest token [latents]; NaN where the latent never fires.
        entropy: of the firings over tokens, bits [latents]; likewise.
    """

    offsets: Int[np.ndarray, " bounds"]
    token: Int[np.ndarray, " listed"]
    count: Int[np.ndarray, " listed"]
    share: Float[np.ndarray, " listed"]
    mean: Float[np.ndarray, " listed"]
    concentration: Float[np.ndarray, " latents"]
    entropy: Float[np.ndarray, " latents"]


def token_statistics(entries: LatentEntries, text: Text, *, tokens: int) -> TokenStatistics:
    """Count firings by latent and token.

    Args:
        entries: of the latents.
        text: whose rows they are.
        tokens: listed for each latent, at most.
    """
    vocabulary = int(text.ids.max(initial=0)) + 1
    pairs = entries.latents * vocabulary + text.ids[text.place[entries.rows]]
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    begin = np.flatnonzero(np.diff(pairs, prepend=-1))
    count = np.diff(begin, append=len(pairs))
    sums = reduced(np.add, entries.values[order].astype(np.float64), np.append(begin, len(pairs)), empty=0.0)
    latent, token = np.divmod(pairs[begin], vocabulary)

    fired = np.diff(entries.offsets)
    share = count / fired[latent]
    by_latent = np.searchsorted(latent, np.arange(len(entries) + 1))
    entropy = reduced(np.add, -share * np.log2(share), by_latent, empty=np.nan)
    listed = np.lexsort((token, -count, latent))[first_of(by_latent, tokens)]
    return TokenStatistics(
        offsets=starts(np.minimum(np.diff(by_latent), tokens)),
        token=token[listed],
        count=count[listed],
        share=share[listed],
        mean=sums[listed] / count[listed],
        concentration=reduced(np.maximum, share, by_latent, empty=np.nan),
        entropy=entropy + 0.0,  # no minus zero
    )
