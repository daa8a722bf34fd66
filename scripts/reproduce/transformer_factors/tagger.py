"""A part-of-speech tagger learnt from tagged sentences alone: a greedy averaged perceptron.

Features and greedy decoding follow Honnibal's tagger of 2013, which NLTK ships; weights are a matrix here, so that a pass
over a million words takes a minute. It differs from that tagger in that no word has its tag looked up: all are predicted.
"""

import random
from collections.abc import Hashable, Sequence
from typing import final

import numpy as np
from brown import TaggedWord
from jaxtyping import Float32, Int

__all__ = ["PerceptronTagger"]

START = "-START-"
END = "-END-"
PASSES = 3


@final
class PerceptronTagger:
    """Predicts each word's tag from the word, its neighbours and the two tags before it.

    After n examples the averaged weights are w - u / n, where w is the sum of all updates and u the sum of each update times
    the number of examples before it (Daume 2006, figure 2.3).

    Args:
        sentences: of (word, tag).
        passes: over all of them.
        seed: of the order of the sentences in each pass.
    """

    def __init__(self, sentences: Sequence[Sequence[TaggedWord]], *, passes: int = PASSES, seed: int = 0) -> None:
        self.tags = sorted({tag for sentence in sentences for _, tag in sentence})
        self._number = {tag: number for number, tag in enumerate([*self.tags, START])}
        self._rows: dict[Hashable, int] = {}
        self._weights = np.zeros((1 << 12, len(self.tags)), dtype=np.float32)
        self._learn(sentences, passes, random.Random(seed))

    def tag(self, words: Sequence[str]) -> list[str]:
        """The tags of one sentence."""
        before, last = self._number[START], self._number[START]
        found = []
        for fixed, word in zip(_fixed_features(words), words, strict=True):
            rows = [self._rows[key] for key in (*fixed, *_tag_features(word, before, last)) if key in self._rows]
            before, last = last, int(self._weights[rows].sum(axis=0).argmax())
            found.append(self.tags[last])
        return found

    def _learn(self, sentences: Sequence[Sequence[TaggedWord]], passes: int, generator: random.Random) -> None:
        late = np.zeros_like(self._weights)  # u: each update times the number of examples before it
        examples = []
        for sentence in sentences:
            words = [word for word, _ in sentence]
            fixed = [[self._row(key) for key in keys] for keys in _fixed_features(words)]
            examples.append((words, fixed, [self._number[tag] for _, tag in sentence]))
        seen = 0
        for _ in range(passes):
            generator.shuffle(examples)
            for words, fixed, truth in examples:
                before, last = self._number[START], self._number[START]
                for word, rows, right in zip(words, fixed, truth, strict=True):
                    active = np.array(rows + [self._row(key) for key in _tag_features(word, before, last)])
                    while len(self._rows) > len(self._weights):
                        self._weights, late = _longer(self._weights), _longer(late)
                    guess = int(self._weights[active].sum(axis=0).argmax())
                    if guess != right:
                        for table, amount in ((self._weights, 1.0), (late, float(seen))):
                            _add(table, active, right, amount)
                            _add(table, active, guess, -amount)
                    seen += 1
                    before, last = last, guess
        self._weights -= late / max(seen, 1)

    def _row(self, key: Hashable) -> int:
        return self._rows.setdefault(key, len(self._rows))


def _fixed_features(words: Sequence[str]) -> list[list[Hashable]]:
    """What is known of each word before any tag is."""
    plain = [START, START, *map(_normal, words), END, END]
    features: list[list[Hashable]] = []
    for place, word in enumerate(words, start=2):
        two_before, one_before, own, one_after, two_after = plain[place - 2 : place + 3]
        features.append(
            [
                "bias",
                ("suffix", word[-3:]),
                ("first", word[0]),
                ("word", own),
                ("word-1", one_before),
                ("suffix-1", one_before[-3:]),
                ("word-2", two_before),
                ("word+1", one_after),
                ("suffix+1", one_after[-3:]),
                ("word+2", two_after),
            ]
        )
    return features


def _tag_features(word: str, before: int, last: int) -> tuple[Hashable, ...]:
    """What the tags of the two words before add."""
    return (("tag-1", last), ("tag-2", before), ("tags", last, before), ("tag-1 word", last, _normal(word)))


def _normal(word: str) -> str:
    """Numbers look alike, and so do capitals and small letters."""
    if "-" in word and word[0] != "-":
        return "-HYPHEN-"
    if word.isdigit() and len(word) == 4:
        return "-YEAR-"
    if word[0].isdigit():
        return "-DIGITS-"
    return word.lower()


def _longer(table: Float32[np.ndarray, "rows tags"]) -> Float32[np.ndarray, "longer tags"]:
    return np.concatenate([table, np.zeros_like(table)])


def _add(table: Float32[np.ndarray, "rows tags"], rows: Int[np.ndarray, " active"], tag: int, amount: float) -> None:
    table[rows, tag] += amount  # no feature occurs twice in an example
