import importlib.util
import json
import pickle

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sae.errors import UserError
from sae.tokens.documents import Document, DocumentSource
from sae.tokens.json_lines import JsonLines
from sae.tokens.mixture import Mixture
from sae.tokens.text_files import TextFiles, cut_text
from sae.tokens.tokenised import TokenisedRows
from sae.tokens.wikipedia_sample import WikipediaSample, plain_text


def assert_starts_anywhere(source):
    """Documents from number n on are all documents without the first n, again and again."""
    everything = list(source.documents())
    for start in range(len(everything) + 2):
        assert list(source.documents(start)) == everything[start:]
    assert isinstance(source, DocumentSource)
    json.dumps(source.provenance())


def texts_of(source):
    return [document.text for document in source.documents()]


class TestTextFiles:
    def test_a_file_a_folder_and_a_pattern(self, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "b.txt").write_text("second", encoding="utf-8")
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\nline")
        (tmp_path / "sub" / "c.txt").write_text("third", encoding="utf-8")
        (tmp_path / "notes.md").write_text("a note", encoding="utf-8")
        (tmp_path / ".hidden.txt").write_text("no", encoding="utf-8")
        (tmp_path / "empty.txt").write_text("  \n", encoding="utf-8")
        assert texts_of(TextFiles(path=str(tmp_path / "b.txt"))) == ["second"]
        assert texts_of(TextFiles(path=str(tmp_path))) == ["first\nline", "second", "third"]
        assert texts_of(TextFiles(path=str(tmp_path / "**" / "*.md"))) == ["a note"]
        assert_starts_anywhere(TextFiles(path=str(tmp_path)))

    def test_blank_lines_part_documents(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one\nstill one\n\ntwo\n \n\nthree\n", encoding="utf-8")
        assert texts_of(TextFiles(path=str(path), split_on="blank_lines")) == ["one\nstill one", "two", "three\n"]

    def test_a_book_becomes_several_documents(self, tmp_path):
        path = tmp_path / "book.txt"
        path.write_text("\n\n".join(f"Paragraph {number}." for number in range(100)), encoding="utf-8")
        documents = texts_of(TextFiles(path=str(path), max_characters=100))
        assert "".join(documents) == path.read_text(encoding="utf-8")
        assert all(document.startswith("Paragraph") and len(document) <= 100 for document in documents)

    def test_the_checksum_follows_the_content(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("one", encoding="utf-8")
        first = TextFiles(path=str(path)).provenance()
        assert first == TextFiles(path=str(path)).provenance()
        path.write_text("two", encoding="utf-8")
        assert first["sha256"] != TextFiles(path=str(path)).provenance()["sha256"]
        (tmp_path / "b.txt").write_text("three", encoding="utf-8")
        assert TextFiles(path=str(tmp_path)).provenance()["files"] == 2

    def test_mistakes(self, tmp_path):
        with pytest.raises(UserError, match=r"`data.path` is '.*gone.txt'. Nothing is there"):
            TextFiles(path=str(tmp_path / "gone.txt"))
        with pytest.raises(UserError, match=r"holds no file like '\*\*/\*.txt'"):
            TextFiles(path=str(tmp_path))
        path = tmp_path / "latin.txt"
        path.write_bytes("café".encode("latin-1"))
        with pytest.raises(UserError, match=r"latin.txt is not UTF-8: byte 3 is 0xe9"):
            list(TextFiles(path=str(path)).documents())
        with pytest.raises(UserError, match=r"`data.max_characters` is 0"):
            TextFiles(path=str(path), max_characters=0)
        with pytest.raises(UserError, match=r"`data.split_on` is 'lines'. Expected `blank_lines` or null"):
            TextFiles(path=str(path), split_on="lines")


@settings(max_examples=80, deadline=None)
@given(text=st.text(alphabet="ab \n", max_size=120), longest=st.integers(1, 20))
def test_cut_text_loses_nothing_and_keeps_within_the_limit(text, longest):
    pieces = cut_text(text, longest)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= longest for piece in pieces) or not text
    assert all(len(piece) >= longest // 2 for piece in pieces[:-1])


def test_cut_text_prefers_paragraphs_to_lines_to_words():
    assert cut_text("aaaaa\n\nb\nc d", 10) == ["aaaaa\n\n", "b\nc d"]
    assert cut_text("aaaaaa\nc ddd", 10) == ["aaaaaa\n", "c ddd"]
    assert cut_text("aaaaaaa ddd", 10) == ["aaaaaaa ", "ddd"]
    # A border in the first half is passed over: pieces stay longer than half.
    assert cut_text("aa\n\naaaa dddd", 10) == ["aa\n\naaaa ", "dddd"]
    assert cut_text("aa aaaaaaaaa", 10) == ["aa aaaaaaa", "aa"]


class TestJsonLines:
    def test_columns_and_blank_lines(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "one", "body": "x"}\n\n{"text": "two \\ud83d", "body": "y"}\n', encoding="utf-8")
        assert texts_of(JsonLines(path=str(path))) == ["one", "two \ud83d"]
        assert texts_of(JsonLines(path=str(tmp_path), column="body")) == ["x", "y"]
        assert_starts_anywhere(JsonLines(path=str(path)))

    @pytest.mark.parametrize(
        ("line", "match"),
        [
            (b"{not json", r"a.jsonl, line 3 is not JSON \(.* at column 2\)"),
            (b'["text"]', "a.jsonl, line 3 holds a list. Expected an object"),
            (b'{"body": "x", "title": "y"}', r"line 3 has no column 'text'; its columns are \['body', 'title'\]"),
            (b'{"text": [1, 2]}', "line 3 holds a list in column 'text'. .*data=tokenised"),
            (b'{"text": "\xe9"}', "a.jsonl, line 3 is not UTF-8"),
        ],
    )
    def test_mistakes_name_the_line(self, line, match, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
        with pytest.raises(UserError, match=match):
            list(JsonLines(path=str(path)).documents())


ROWS = [[5, 6, 7], [8, 9, 10]]


class TestTokenisedRows:
    def test_every_kind_of_file_gives_the_same_rows(self, tmp_path):
        np.save(tmp_path / "rows.npy", np.array(ROWS, dtype=np.uint16))
        save_file({"ids": np.array(ROWS, dtype=np.int32)}, tmp_path / "rows.safetensors")
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"ids": row}) for row in ROWS), encoding="utf-8")
        Dataset.from_dict({"ids": ROWS, "other": [0, 1]}).save_to_disk(tmp_path / "saved")
        for name in ("rows.npy", "rows.safetensors", "rows.jsonl", "saved"):
            source = TokenisedRows(path=str(tmp_path / name))
            assert [document.ids for document in source.documents()] == ROWS
            assert_starts_anywhere(source)

    def test_mistakes(self, tmp_path):
        np.save(tmp_path / "flat.npy", np.arange(4))
        np.save(tmp_path / "float.npy", np.ones((2, 2)))
        (tmp_path / "pickled.npy").write_bytes(pickle.dumps(ROWS))
        save_file({"tokens": np.array(ROWS)}, tmp_path / "rows.safetensors")
        (tmp_path / "cut.safetensors").write_bytes((tmp_path / "rows.safetensors").read_bytes()[:40])
        (tmp_path / "rows.jsonl").write_text('{"ids": [1, 2]}\n{"ids": [[1], [2, 3]]}', encoding="utf-8")
        (tmp_path / "rows.txt").write_text("1 2", encoding="utf-8")
        Dataset.from_dict({"tokens": ROWS}).save_to_disk(tmp_path / "saved")
        for name, match in {
            "gone.npy": "nothing is there",
            "rows.txt": "Expected a .npy, .safetensors or .jsonl file",
            "flat.npy": r"an array of shape \[4\]. Expected \[rows, length\]",
            "float.npy": "row 0 is no list of token ids: expected integers",
            "pickled.npy": "no array that can be read safely",
            "rows.safetensors": r"has no tensor 'ids'; it has \['tokens'\]",
            "cut.safetensors": "is no whole safetensors file",
            "rows.jsonl": "line 2 is no list of token ids",
            "saved": r"has no column 'ids'; it has \['tokens'\]",
        }.items():
            with pytest.raises(UserError, match=match):
                list(TokenisedRows(path=str(tmp_path / name)).documents())


class Letters:
    """Endless documents of one letter and a number."""

    def __init__(self, letter, licence, count=10**9):
        self.name = letter
        self.licence = licence
        self.finite = count < 10**9
        self.count = count

    def documents(self, start=0):
        return (Document.of_text(f"{self.name}{number}") for number in range(start, self.count))

    def provenance(self):
        return {"source": "letters", "name": self.name}


def take(source, count, start=0):
    stream = source.documents(start)
    return [next(stream).text for _ in range(count)]


class TestMixture:
    def test_shares_follow_the_weights_and_each_source_keeps_its_order(self):
        mixture = Mixture(sources={"a": Letters("a", "MIT"), "b": Letters("b", "CC0-1.0")}, weights={"b": 3, "a": 1})
        texts = take(mixture, 2000)
        of_a = [text for text in texts if text[0] == "a"]
        assert 430 < len(of_a) < 570
        assert of_a == [f"a{number}" for number in range(len(of_a))]
        assert not mixture.finite
        assert mixture.licence == "CC0-1.0 AND MIT"

    def test_it_starts_anywhere_and_repeats_by_its_seed(self):
        sources = {"a": Letters("a", None), "b": Letters("b", "MIT")}
        mixture, other = (Mixture(sources=sources, weights={"a": 0.5, "b": 0.5}, seed=seed) for seed in (0, 1))
        assert take(mixture, 20, start=30) == take(mixture, 50)[30:]
        assert take(mixture, 50) != take(other, 50)
        assert mixture.licence is None

    def test_it_ends_with_the_first_source_that_is_drawn_empty(self):
        mixture = Mixture(sources={"a": Letters("a", None, 5), "b": Letters("b", None, 1000)}, weights={"a": 1, "b": 1})
        assert mixture.finite
        assert_starts_anywhere(mixture)
        texts = texts_of(mixture)
        assert [text for text in texts if text[0] == "a"] == [f"a{number}" for number in range(5)]
        assert 5 <= len(texts) < 40

    @pytest.mark.parametrize(
        ("weights", "match"),
        [
            ({"a": 1}, r"`data.weights` names \['a'\], `data.sources` names \['a', 'b'\]"),
            ({"a": 1, "b": 1, "c": 1}, r"names \['a', 'b', 'c'\]"),
            ({"a": 1, "b": 0}, "`data.weights` holds {'b': 0}. Expected positive numbers"),
            ({"a": -1, "b": float("nan")}, "`data.weights` holds {'a': -1, 'b': nan}"),
        ],
    )
    def test_weights_that_do_not_fit_are_refused(self, weights, match):
        with pytest.raises(UserError, match=match):
            Mixture(sources={"a": Letters("a", None), "b": Letters("b", None)}, weights=weights)

    def test_no_source_is_refused(self):
        with pytest.raises(UserError, match=r"`data.sources` is empty"):
            Mixture(sources={}, weights={})


def test_traces_of_wiki_markup_go_and_text_stays():
    article = "\n\n'''A''' is ''the'' cat's.\n* \n* \n\n\n\n==History==\n-\nLine * with | signs\n"
    assert plain_text(article) == "A is the cat's.\n\n==History==\n\nLine * with | signs"


def test_a_missing_package_names_its_installation(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Run `pip install gensim==4.4.0`"):
        list(WikipediaSample().documents())


@pytest.mark.slow
def test_the_packaged_articles_are_real_text():
    source = WikipediaSample()
    assert_starts_anywhere(source)
    texts = texts_of(source)
    assert len(texts) == 106
    assert 2_900_000 < sum(len(text) for text in texts) < 3_200_000
    assert not any(text.lower().startswith("#redirect") or "'''" in text or "\n\n\n" in text for text in texts)
    assert sum("Aristotle" in text for text in texts) > 3
    assert source.provenance()["version"] == "4.4.0"
