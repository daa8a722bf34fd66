"""The tables hold the codes, the text and the pages."""

import numpy as np
import pytest
from pyarrow import parquet as pq

from sae.dashboards.exports.parquet import write_parquet
from tests.dashboards.exports.collected import HOSTILE, collected


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("codes"))


@pytest.fixture(scope="module")
def tables(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_parquet(folder, made.codes, made.shards)
    assert sorted(path.name for path in folder.iterdir()) == [
        "activations.parquet",
        "examples.parquet",
        "latents.parquet",
        "tokens.parquet",
    ]
    return {path.stem: pq.read_table(path).to_pylist() for path in folder.iterdir()}


def test_activations_are_the_codes(made, tables):
    found = {(line["block"], line["position"], line["latent"]): line["activation"] for line in tables["activations"]}
    assert len(found) == len(tables["activations"]) == made.codes.num_entries
    assert found == made.entries()
    effects = [effect for number in range(len(made.codes)) for effect in made.codes.chunk(number).effects.tolist()]
    assert [line["effect"] for line in tables["activations"]] == effects


def test_tokens_are_the_text(made, tables):
    blocks = made.blocks
    places = blocks.attention.nonzero().tolist()
    assert [(line["block"], line["position"]) for line in tables["tokens"]] == [tuple(place) for place in places]
    for line in tables["tokens"]:
        place = line["block"], line["position"]
        assert line["token"] == blocks.ids[place]
        assert line["document"] == blocks.document[place]
        assert line["kept"] == bool(blocks.keep[place])


def test_latents_are_the_pages_numbers(made, tables):
    records = [record for shard in made.shards for record in shard["latents"]]
    assert [line["latent"] for line in tables["latents"]] == list(range(made.codes.num_latents))
    for line, record in zip(tables["latents"], records, strict=True):
        for name in (
            "fired",
            "density",
            "max",
            "mean",
            "std",
            "skewness",
            "kurtosis",
            "decoder_norm",
            "concentration",
            "entropy",
        ):
            assert line[name] == record[name]
    assert [line["explanation"] for line in tables["latents"]][:2] == ["a" + HOSTILE, None]
    assert tables["latents"][0]["explanation_score"] == 0.5
    dead = tables["latents"][3]
    assert (dead["fired"], dead["max"], dead["top_token"], dead["top_token_text"]) == (0, None, None, None)
    ids = np.array([line["token"] for line in tables["tokens"]])
    assert set(line["top_token"] for line in tables["latents"] if line["fired"]) <= set(ids.tolist())


def test_examples_are_where_the_codes_say(made, tables):
    entries = made.entries()
    assert {line["kind"] for line in tables["examples"]} == {"top", "interval", "random"}
    for line in tables["examples"]:
        at = [line["start"] + place for place in line["places"]]
        expected = [entries[line["block"], position, line["latent"]] for position in at]
        assert line["activations"] == pytest.approx(expected, rel=1e-3)
        span = slice(line["start"], line["start"] + len(line["tokens"]))
        assert line["tokens"] == made.blocks.ids[line["block"], span].tolist()
        assert [text.startswith((f" t{token}", f"t{token}")) for text, token in zip(line["texts"], line["tokens"], strict=True)]
        assert len(line["effects"]) == len(line["places"])
        assert line["exact_places"] == []


def test_without_effects_their_columns_are_empty(tmp_path):
    made = collected(tmp_path / "codes", effects=False)
    (tmp_path / "tables").mkdir()
    write_parquet(tmp_path / "tables", made.codes, made.shards)
    assert pq.read_table(tmp_path / "tables/activations.parquet")["effect"].null_count == made.codes.num_entries
    assert set(pq.read_table(tmp_path / "tables/examples.parquet")["effects"].to_pylist()) == {None}


def test_exact_effects_stand_at_their_places(made, tmp_path):
    shard = made.shards[0]
    example = shard["latents"][0]["groups"][0]["examples"][0]
    example["exact"] = {"2": 0.25, "0": -1.0}
    write_parquet(tmp_path, made.codes, made.shards)
    line = pq.read_table(tmp_path / "examples.parquet").to_pylist()[0]
    example["exact"] = {}
    assert dict(zip(line["exact_places"], line["exact_effects"], strict=True)) == {2: 0.25, 0: -1.0}
