"""scripts/reproduce/transformer_factors: rows, dictionary and whole scripts on the packaged encoder and a few sentences."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sae
from sae.architectures.layer_units import LayerUnits
from sae.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "reproduce" / "transformer_factors"))
material, reading, disambiguation, broken_pattern, equal_l0 = (
    importlib.import_module(name) for name in ("material", "reading", "disambiguation", "broken_pattern", "equal_l0")
)
TEXTS = [f"Sentence {number} says that {number + 3} rivers, hills, and woods lie north of the town." for number in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    parser = argparse.ArgumentParser()
    material.add_arguments(parser)
    sizes = ["--d-sae", "32", "--positions", "300", "--held-out-positions", "120", "--l1", "0.8"]
    options = parser.parse_args([*sizes, "--out", str(tmp_path_factory.mktemp("material"))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material.Material, "texts", lambda self, *, held_out: TEXTS[20:] if held_out else TEXTS[:20])
        one = material.Material(options)
        one.rows(held_out=False), one.rows(held_out=True), one.dictionary()
        yield one


@pytest.mark.slow
def test_row_i_is_of_layer_i_modulo_the_layers(made):
    rows = made.rows(held_out=False)
    blocks, _ = reading.document_blocks(made.model, TEXTS[:20])
    states = reading.hidden_states(made.model, made.points, blocks)
    assert rows.shape[1:] == (384,)
    assert 300 <= len(rows) / 7 < 340
    flat = states.reshape(-1, 384)
    for number in (0, 1, 6, 7, 100, len(rows) - 1):
        distance = torch.linalg.vector_norm(flat - torch.from_numpy(rows[number].copy()), dim=1)
        near = torch.nonzero(distance < 1e-3).flatten() % 7
        assert len(near)
        assert set(near.tolist()) == {number % 7}


@pytest.mark.slow
def test_the_dictionary_is_kept_and_reconstructs(made):
    found = equal_l0.measure(made.dictionary(), torch.from_numpy(np.array(made.rows(held_out=True))), 7)
    assert 1 < found["l0"] < 32
    assert found["fvu"] < 0.6
    assert json.loads((made.out / "sparse_coding.json").read_text())["seconds"] > 0
    assert torch.equal(sae.load(made.out / "sparse_coding").W_dec, made.dictionary().W_dec)


@pytest.mark.slow
def test_a_saved_dictionary_brings_its_own_layers(made, tmp_path):
    """Two layers, in units of their own: views take raw rows, and labels say after which block they are."""
    names = ("layers.0.resid_pre", "layers.4.resid_post")
    means, scales = torch.randn(2, 384, dtype=torch.float64), torch.tensor([2.0, 0.5], dtype=torch.float64)
    sae.save(made.dictionary(), tmp_path / "two", layers=LayerUnits(layers=names, means=means, scales=scales))
    options = argparse.Namespace(**vars(made.options) | {"source": tmp_path / "two", "out": tmp_path})
    other = material.Material(options)
    assert [point.name for point in other.points] == list(names)
    assert other.labels() == ["0", "5"]
    rows = torch.from_numpy(made.rows(held_out=True)[:14].copy())
    for number, view in enumerate(other.views()):
        scaled = ((rows - means[number]) * scales[number]).float()
        wanted = made.dictionary().encode(scaled) / scales[number]
        assert torch.allclose(view.encode(rows), wanted.float(), atol=1e-3)
    assert made.labels() == ["0", "1", "2", "3", "4", "5", "6"]
    sae.save(made.dictionary(), tmp_path / "one")
    with pytest.raises(UserError, match="a dictionary of mixed layers is expected"):
        material.Material(argparse.Namespace(**vars(options) | {"source": tmp_path / "one"}))


@pytest.mark.slow
def test_the_activation_of_a_rewrite_is_the_largest_of_its_marked_words(made):
    view = made.dictionary()
    text = "There are {rivers, hills, and woods} there."
    blocks, (tokens,) = reading.document_blocks(made.model, [text.replace("{", "").replace("}", "")])
    with torch.no_grad():
        codes = view.encode(reading.hidden_states(made.model, made.points, blocks)[:, 4])
    inside = [place for place, (begin, end) in enumerate(tokens.spans) if begin < 34 and end > 10]
    factor = int(codes[inside].amax(dim=0).argmax())
    assert broken_pattern.largest(made, view, 4, factor, text) == pytest.approx(float(codes[inside, factor].max()), rel=1e-4)


@pytest.mark.slow
def test_a_word_is_told_apart_in_every_fold(made, tmp_path):
    """A toy corpus whose "left" is a verb after "she" and an adjective after "the": a whole vector of any later layer tells."""
    generator = np.random.default_rng(0)
    verb, adjective = [("she", "pps"), ("left", "vbd"), ("town", "nn")], [("the", "at"), ("left", "jj"), ("hand", "nn")]
    corpus = {f"c{number}": [verb if generator.random() < 0.6 else adjective for _ in range(4)] for number in range(15)}
    fold_of = {file: number % 5 for number, file in enumerate(corpus)}
    task = disambiguation.Task("left", "verb", disambiguation.VERB)
    found = disambiguation.find_occurrences(corpus, task)
    tags = disambiguation.tagged(corpus, fold_of, {"left": found}, tmp_path / "tags.json")["left"]
    assert tags == [corpus[one.file][one.sentence][1][1] for one in found]
    states = disambiguation.word_states(made, corpus, found, tmp_path / "left.npy")
    assert states.shape == (60, 7, 384)
    result = disambiguation.evaluate(task, found, states, made.views(), tags, fold_of, seed=0)
    assert result["scores"]["whole vector"]["f1"]["value"] > 0.95
    assert result["scores"]["tagger"]["f1"]["value"] == 1
    assert result["one factor less"]["tagger"]["value"] <= 0
    assert sum(count for _, count in result["factors"]) == 5


def test_a_model_without_config_is_refused():
    with pytest.raises(UserError, match=r"no conf/model/bert\.yaml"):
        reading.open_model("bert")
