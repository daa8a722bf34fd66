"""Neuronpedia's files have every key of the right type, and what they say is what the pages say."""

import gzip
import json
from datetime import datetime
from types import NoneType

import pytest

from sae.dashboards.exports.neuronpedia import write_neuronpedia
from sae.dashboards.exports.neuronpedia_heads import NeuronpediaNames
from sae.errors import UserError
from tests.dashboards.exports.collected import collected, text_of

# Of SAEDashboard 3ea1249, neuronpedia_export.py: its data classes, which are those of Neuronpedia's importer.
TEXT, TEXT_OR_NONE, NUMBER, NUMBER_OR_NONE = (str,), (str, NoneType), (float, int), (float, int, NoneType)
TIME, FLAG, WHOLE, WHOLE_OR_NONE = datetime, (bool,), (int,), (int, NoneType)
TEXTS, NUMBERS, WHOLES = [str], [float, int], [int]
SCHEMA = {
    "release": {
        "name": TEXT,
        "description": TEXT,
        "creatorName": TEXT,
        "creatorId": TEXT,
        "visibility": TEXT,
        "isNewUi": FLAG,
        "featured": FLAG,
        "descriptionShort": TEXT_OR_NONE,
        "urls": TEXTS,
        "creatorEmail": TEXT_OR_NONE,
        "creatorNameShort": TEXT_OR_NONE,
        "defaultSourceSetName": TEXT_OR_NONE,
        "defaultSourceId": TEXT_OR_NONE,
        "defaultUmapSourceIds": TEXTS,
        "createdAt": TIME,
    },
    "model": {
        "id": TEXT,
        "instruct": FLAG,
        "creatorId": TEXT,
        "displayNameShort": TEXT,
        "displayName": TEXT,
        "tlensId": TEXT_OR_NONE,
        "dimension": WHOLE_OR_NONE,
        "visibility": TEXT,
        "defaultSourceSetName": TEXT_OR_NONE,
        "defaultSourceId": TEXT_OR_NONE,
        "inferenceEnabled": FLAG,
        "layers": WHOLE,
        "neuronsPerLayer": WHOLE,
        "createdAt": TIME,
        "owner": TEXT,
        "updatedAt": TIME,
        "website": TEXT_OR_NONE,
    },
    "sourceset": {
        "modelId": TEXT,
        "name": TEXT,
        "creatorId": TEXT,
        "hasDashboards": FLAG,
        "visibility": TEXT,
        "description": TEXT,
        "type": TEXT,
        "creatorName": TEXT,
        "urls": TEXTS,
        "creatorEmail": TEXT_OR_NONE,
        "releaseName": TEXT_OR_NONE,
        "defaultOfModelId": TEXT_OR_NONE,
        "defaultRange": WHOLE,
        "defaultShowBreaks": FLAG,
        "showDfa": FLAG,
        "showCorrelated": FLAG,
        "showHeadAttribution": FLAG,
        "showUmap": FLAG,
        "createdAt": TIME,
    },
    "source": {
        "id": TEXT,
        "modelId": TEXT,
        "setName": TEXT,
        "creatorId": TEXT,
        "hasDashboards": FLAG,
        "inferenceEnabled": FLAG,
        "inferenceHosts": TEXTS,
        "saelensConfig": TEXT_OR_NONE,
        "saelensRelease": TEXT_OR_NONE,
        "saelensSaeId": TEXT_OR_NONE,
        "hfRepoId": TEXT_OR_NONE,
        "hfFolderId": TEXT_OR_NONE,
        "visibility": TEXT,
        "defaultOfModelId": TEXT_OR_NONE,
        "hasUmap": FLAG,
        "hasUmapLogSparsity": FLAG,
        "hasUmapClusters": FLAG,
        "num_prompts": WHOLE_OR_NONE,
        "num_tokens_in_prompt": WHOLE_OR_NONE,
        "dataset": TEXT_OR_NONE,
        "notes": TEXT_OR_NONE,
        "createdAt": TIME,
    },
    "features": {
        "modelId": TEXT,
        "layer": TEXT,
        "index": TEXT,
        "creatorId": TEXT_OR_NONE,
        "createdAt": TIME,
        "maxActApprox": NUMBER_OR_NONE,
        "hasVector": FLAG,
        "vector": NUMBERS,
        "vectorLabel": TEXT_OR_NONE,
        "vectorDefaultSteerStrength": NUMBER_OR_NONE,
        "hookName": TEXT_OR_NONE,
        "topkCosSimIndices": WHOLES,
        "topkCosSimValues": NUMBERS,
        "neuron_alignment_indices": WHOLES,
        "neuron_alignment_values": NUMBERS,
        "neuron_alignment_l1": NUMBERS,
        "correlated_neurons_indices": WHOLES,
        "correlated_neurons_pearson": NUMBERS,
        "correlated_neurons_l1": NUMBERS,
        "correlated_features_indices": WHOLES,
        "correlated_features_pearson": NUMBERS,
        "correlated_features_l1": NUMBERS,
        "neg_str": TEXTS,
        "neg_values": NUMBERS,
        "pos_str": TEXTS,
        "pos_values": NUMBERS,
        "frac_nonzero": NUMBER,
        "freq_hist_data_bar_heights": NUMBERS,
        "freq_hist_data_bar_values": NUMBERS,
        "logits_hist_data_bar_heights": NUMBERS,
        "logits_hist_data_bar_values": NUMBERS,
        "decoder_weights_dist": NUMBERS,
        "sourceSetName": TEXT_OR_NONE,
    },
    "activations": {
        "id": TEXT,
        "tokens": TEXTS,
        "index": TEXT,
        "layer": TEXT,
        "modelId": TEXT,
        "maxValue": NUMBER,
        "maxValueTokenIndex": WHOLE,
        "minValue": NUMBER,
        "values": NUMBERS,
        "creatorId": TEXT,
        "dataSource": TEXT_OR_NONE,
        "dataIndex": TEXT_OR_NONE,
        "dfaValues": NUMBERS,
        "dfaTargetIndex": WHOLE_OR_NONE,
        "dfaMaxValue": NUMBER_OR_NONE,
        "createdAt": TIME,
        "lossValues": NUMBERS,
        "logitContributions": TEXT_OR_NONE,
        "binMin": NUMBER_OR_NONE,
        "binMax": NUMBER_OR_NONE,
        "binContains": NUMBER_OR_NONE,
        "qualifyingTokenIndex": WHOLE_OR_NONE,
        "zIndices": (NoneType,),
        "zValues": (NoneType,),
    },
    "explanations": {
        "id": TEXT,
        "modelId": TEXT,
        "layer": TEXT,
        "index": TEXT,
        "description": TEXT,
        "authorId": TEXT,
        "embedding": TEXT_OR_NONE,
        "triggeredById": TEXT_OR_NONE,
        "typeName": TEXT_OR_NONE,
        "explanationModelName": TEXT_OR_NONE,
        "notes": TEXT_OR_NONE,
        "createdAt": TIME,
    },
}

NAMES = {"model": "tiny", "layer": 1, "source_set": "res-13-topk", "hook": "hook_resid_post", "creator": "someone"}
MANIFEST = {"title": "runs/tiny", "sae": {"architecture": "topk"}, "blocks": 7, "context": 16, "source": "words"}
CREATED = "2026-01-02T03:04:05.000+00:00"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("codes"))


@pytest.fixture(scope="module")
def lines(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("neuronpedia")
    write(folder, made)
    inside = folder / "tiny" / "1-res-13-topk"
    found = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in inside.glob("*.jsonl")}
    for kind in ("features", "activations", "explanations"):
        batches = sorted((inside / kind).iterdir(), key=lambda path: int(path.name.split("-")[1].split(".")[0]))
        assert [path.name for path in batches][:1] == ["batch-0.jsonl.gz"]
        found[kind] = [json.loads(line) for path in batches for line in gzip.decompress(path.read_bytes()).splitlines()]
    return found


def write(folder, made):
    write_neuronpedia(
        folder,
        made.shards,
        MANIFEST,
        W_dec=made.sae.W_dec.detach().float(),
        names=NeuronpediaNames(**NAMES),
        num_layers=3,
        created_at=CREATED,
    )


def conforms(value, kind):
    if kind is TIME:
        return datetime.fromisoformat(value) is not None
    if isinstance(kind, list):
        return isinstance(value, list) and all(type(one) in kind for one in value)
    return type(value) in kind


@pytest.mark.parametrize("name", SCHEMA)
def test_every_key_is_there_and_of_its_type(lines, name):
    assert lines[name]
    for line in lines[name]:
        assert set(line) == set(SCHEMA[name])
        assert [key for key, kind in SCHEMA[name].items() if not conforms(line[key], kind)] == []


def test_latents_say_what_their_pages_say(made, lines):
    records = [(record, shard["strings"]) for shard in made.shards for record in shard["latents"]]
    assert [line["index"] for line in lines["features"]] == [str(number) for number in range(made.codes.num_latents)]
    for line, (record, strings) in zip(lines["features"], records, strict=True):
        assert line["vector"] == made.sae.W_dec[record["latent"]].float().tolist()
        assert line["frac_nonzero"] == record["density"]
        assert line["maxActApprox"] == (record["max"] or 0)
        assert line["hookName"] == "blocks.1.hook_resid_post"
        assert len(line["freq_hist_data_bar_heights"]) == len(line["freq_hist_data_bar_values"])
        logits = record["logits"]
        assert line["pos_values"] == ([] if logits is None else [weight for _, weight in logits["raised"]])
        assert line["neg_str"] == ([] if logits is None else [strings[token]["text"] for token, _ in logits["lowered"]])
    first = records[0][0]["histogram"]
    assert lines["features"][0]["freq_hist_data_bar_values"][0] == (first["edges"][0] + first["edges"][1]) / 2


def test_examples_say_what_the_codes_say(made, lines):
    entries = made.entries()
    strongest = {}
    for (_, _, latent), value in entries.items():
        strongest[latent] = max(value, strongest.get(latent, 0))
    tops = [line for line in lines["activations"] if line["binMin"] == -1]
    for line in tops:
        assert (line["binContains"], line["binMax"]) == (-1, pytest.approx(strongest[int(line["index"])], rel=1e-3))
    assert {int(line["index"]) for line in tops} == set(strongest)
    for latent, value in strongest.items():
        first = next(line for line in tops if line["index"] == str(latent))
        assert first["maxValue"] == pytest.approx(value, rel=1e-3)
    for line in lines["activations"]:
        assert len(line["tokens"]) == len(line["values"])
        assert line["values"][line["maxValueTokenIndex"]] == line["maxValue"] == max(line["values"])
        assert line["minValue"] == min(line["values"])
        assert line["values"][line["qualifyingTokenIndex"]] > 0
        if line["binMin"] != -1:
            assert line["binMin"] * 0.999 <= line["values"][line["qualifyingTokenIndex"]] <= line["binMax"] * 1.001
    shown = {text_of(token) for token in made.blocks.ids.flatten().tolist()}
    assert {token for line in lines["activations"] for token in line["tokens"]} <= shown


def test_shares_of_the_intervals_sum_to_one(lines):
    of_first = {line["binMin"]: line["binContains"] for line in lines["activations"] if line["index"] == "0"}
    shares = [share for low, share in of_first.items() if low != -1]
    assert 0 < sum(shares) <= 1 + 1e-9


def test_names_are_one_to_a_line(lines):
    for kind in ("activations", "explanations"):
        names = [line["id"] for line in lines[kind]]
        assert len(set(names)) == len(names)


def test_it_repeats_to_the_byte(made, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, made)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()} for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("name", ["", "Res", "a_b", "a--b", "-a", "a/b", "../x"])
def test_a_name_that_neuronpedia_does_not_take_is_refused(name):
    with pytest.raises(UserError, match="neuronpedia_set="):
        NeuronpediaNames(**{**NAMES, "source_set": name})
