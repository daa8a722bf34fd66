"""About a hundred English Wikipedia articles that ship inside the gensim package: real text without a network."""

import bz2
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import final

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.local_files import sha256_of_files

__all__ = ["WikipediaSample", "plain_text"]

ARTICLES = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"

EMPHASIS = re.compile(r"'{2,5}")
EMPTY_LINE = re.compile(r"^[ \t*#:;|=-]+$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n{3,}")


@final
class WikipediaSample:
    """The packaged Wikipedia articles, in the order of the dump: case and punctuation kept, markup taken out."""

    finite = True
    name = "wikipedia-sample"
    licence: str | None = "CC-BY-SA-3.0"

    def documents(self, start: int = 0) -> Iterator[Document]:
        """Articles from number `start` on.

        Raises:
            UserError: gensim is not installed.
        """
        return islice((Document.of_text(text) for text in self._articles), start, None)

    def provenance(self) -> dict[str, object]:
        """Package, version and checksum of the file.

        Raises:
            UserError: gensim is not installed.
        """
        return {
            "source": "wikipedia-sample",
            "package": "gensim",
            "version": importlib.metadata.version("gensim"),
            "sha256": sha256_of_files([_articles_file()]),
            "licence": self.licence,
        }

    @cached_property
    def _articles(self) -> list[str]:
        path = _articles_file()
        # Late: gensim takes a second to import, and a cached corpus needs only the file's checksum.
        from gensim.corpora.wikicorpus import extract_pages, filter_wiki  # noqa: PLC0415

        with bz2.open(path) as dump:
            pages = [text for _, text, _ in extract_pages(dump, filter_namespaces=["0"])]  # pyright: ignore[reportArgumentType]
        articles = [text for text in pages if text and not text.lstrip().lower().startswith("#redirect")]
        return [plain_text(filter_wiki(text)) for text in articles]


def plain_text(article: str) -> str:
    """An article without the markup that gensim leaves: quotes of bold and italics, emptied lists, runs of blank lines."""
    article = EMPTY_LINE.sub("", EMPHASIS.sub("", article))
    return BLANK_LINES.sub("\n\n", article).strip()


def _articles_file() -> Path:
    # Found without importing the package.
    spec = importlib.util.find_spec("gensim")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0]) / ARTICLES if folders else None
    if path is None or not path.is_file():
        raise UserError(
            "`data=wikipedia-sample` reads the articles inside the package gensim 4.4.0, which is not installed here. "
            "Run `pip install gensim==4.4.0`, or give your own text by `data=text data.path=FILE`."
        )
    return path
