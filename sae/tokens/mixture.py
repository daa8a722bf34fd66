"""Several sources read as one, in given shares."""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import final

from sae.errors import UserError
from sae.tokens.documents import Document, DocumentSource

__all__ = ["Mixture"]


@final
class Mixture:
    """Documents of several sources, each next one drawn from a source with the probability of its weight.

    The mixture ends where the drawn source has no further document, so that the shares hold up to its end.

    Args:
        sources: name -> source.
        weights: name -> share of documents (not of tokens), any positive scale.
        seed: of the draws. It is a setting of the text and not of the run: runs with other seeds read the same mixture.

    Raises:
        UserError: no source, names of sources and weights that differ, or a weight that is not positive and finite.
    """

    name = "mixture"

    def __init__(self, *, sources: Mapping[str, DocumentSource], weights: Mapping[str, float | int], seed: int = 0) -> None:
        if not sources:
            raise UserError(
                "`data.sources` is empty. Expected at least one source, such as `wikipedia: {source: wikipedia-sample}`."
            )
        if set(sources) != set(weights):
            raise UserError(
                f"`data.weights` names {sorted(weights)}, `data.sources` names {sorted(sources)}. Give each source one weight."
            )
        wrong = {label: weight for label, weight in weights.items() if not 0 < weight < float("inf")}
        if wrong:
            raise UserError(f"`data.weights` holds {wrong}. Expected positive numbers; leave out a source that is not wanted.")
        self.sources = dict(sources)
        self.weights = {label: float(weights[label]) for label in self.sources}
        self.seed = seed
        self.finite = all(source.finite for source in self.sources.values())
        licences = {source.licence for source in self.sources.values()}
        self.licence = " AND ".join(sorted(licence for licence in licences if licence)) if None not in licences else None

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Documents from number `start` on: the draws before it are repeated, its documents are skipped."""
        draws = self._draws()
        skipped = Counter(next(draws) for _ in range(start))
        streams = {label: source.documents(max(skipped[label] - 1, 0)) for label, source in self.sources.items()}
        for label in skipped:
            if next(streams[label], None) is None:
                return  # the mixture ended before `start`, where this source was drawn empty
        for label in draws:
            document = next(streams[label], None)
            if document is None:
                return
            yield document

    def provenance(self) -> dict[str, object]:
        """Weights, seed and the provenance of each source."""
        return {
            "source": "mixture",
            "sources": {label: source.provenance() for label, source in self.sources.items()},
            "weights": self.weights,
            "seed": self.seed,
            "licence": self.licence,
        }

    def _draws(self) -> Iterator[str]:
        labels = list(self.weights)
        borders = list(accumulate(self.weights.values()))
        # `random.Random.random` is the one generator whose numbers Python promises to keep from version to version.
        generator = random.Random(self.seed)
        while True:
            yield labels[bisect(borders, generator.random() * borders[-1], hi=len(labels) - 1)]
