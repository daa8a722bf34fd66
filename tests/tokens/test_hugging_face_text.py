import json

import datasets
import pytest
from datasets import Dataset, DatasetDict

from sae.errors import UserError
from sae.tokens.documents import Document, DocumentSource
from sae.tokens.hugging_face import HuggingFaceText

TEXTS = [f"document {number}" for number in range(6)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as `save_to_disk` writes it, with two splits."""
    folder = tmp_path_factory.mktemp("saved")
    train = Dataset.from_dict({"text": [*TEXTS[:5], None], "number": list(range(6))})
    DatasetDict({"train": train, "test": train.select(range(2))}).save_to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of data files, as people keep them."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_saved_data_set_starts_anywhere(streaming, saved):
    source = HuggingFaceText(path=saved, streaming=streaming)
    assert isinstance(source, DocumentSource)
    assert source.finite is not streaming
    everything = list(source.documents())
    assert [document.text for document in everything] == [*TEXTS[:5], ""]
    for start in range(8):
        assert list(source.documents(start)) == everything[start:]
    json.dumps(source.provenance())


def test_a_folder_of_files_is_streamed(files):
    source = HuggingFaceText(path=files)
    assert list(source.documents(2)) == [Document.of_text(text) for text in TEXTS[2:]]


def test_equal_data_have_equal_fingerprints(saved):
    first, second = (HuggingFaceText(path=saved, streaming=False).provenance() for _ in range(2))
    assert first == second
    assert first["fingerprint"]
    assert first["fingerprint"] != HuggingFaceText(path=saved, split="test", streaming=False).provenance()["fingerprint"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_missing_column_lists_those_there_are(streaming, saved):
    source = HuggingFaceText(path=saved, column="body", streaming=streaming)
    with pytest.raises(UserError, match=r"no column 'body'; its columns are \['number', 'text'\]. Set `data.column`"):
        list(source.documents())


def test_a_stream_that_learns_its_columns_from_its_rows_says_the_same(monkeypatch):
    def rows():
        yield {"number": 1}

    stream = datasets.IterableDataset.from_generator(rows)
    assert stream.column_names is None
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: stream)
    with pytest.raises(UserError, match=r"no column 'text'; its columns are \['number'\]"):
        list(HuggingFaceText(path="org/name").documents())


def test_a_column_that_is_no_text_is_refused(saved):
    with pytest.raises(UserError, match=r"Row 0 of .* holds a int in column 'number'. Expected text"):
        list(HuggingFaceText(path=saved, column="number").documents())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_split_that_is_not_there_lists_those_there_are(streaming, saved, files):
    with pytest.raises(UserError, match=r"`data.split` is 'dev'; .* holds \['test', 'train'\]"):
        list(HuggingFaceText(path=saved, split="dev", streaming=streaming).documents())
    with pytest.raises(UserError, match=r"could not be read with split 'dev': .*train"):
        list(HuggingFaceText(path=files, split="dev", streaming=streaming).documents())


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path):
    for path in (str(tmp_path / "gone"), "./gone", "three/levels/deep"):
        with pytest.raises(UserError, match=r"no such folder. Expected a folder, or a name on the hub"):
            HuggingFaceText(path=path)


def test_a_hub_out_of_reach_names_the_packaged_text(monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"'org/name:en' could not be loaded \(ConnectionError.*`data=wikipedia-sample`"):
        list(HuggingFaceText(path="org/name", name="en").documents())


def test_a_stream_that_breaks_says_where(monkeypatch):
    def rows():
        yield {"text": "fine"}
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: datasets.IterableDataset.from_generator(rows))
    with pytest.raises(UserError, match="Reading 'org/name' broke off at row 1: reset by peer"):
        list(HuggingFaceText(path="org/name").documents())


def test_what_the_data_set_is_asked_for(monkeypatch):
    calls = []

    def load(*arguments, **options):
        calls.append((arguments, options))
        return Dataset.from_dict({"body": TEXTS}, info=datasets.DatasetInfo(license="odc-by"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = HuggingFaceText(path="org/name", name="en", split="test", column="body", revision="abc", streaming=False)
    assert len(list(source.documents())) == 6
    assert calls == [(("org/name", "en"), {"split": "test", "revision": "abc", "streaming": False})]
    assert source.provenance()["licence"] == "odc-by"
    assert source.provenance()["revision"] == "abc"
