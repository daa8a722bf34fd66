"""Loading from folders and the hub: what is found, and what is said about what cannot be loaded."""

import hashlib
import json
import shutil

import pytest
import torch
from httpx import Request, Response
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sae.errors import UserError
from sae.models import folders, weights
from sae.models.loading import load_model, read_model_outline
from tests.models.tiny import D_MODEL, LAYERS, VOCABULARY, tiny_model, tiny_module, token_blocks

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def save_model(folder, family="llama", special=SPECIAL):
    module = tiny_module(family)
    module.save_pretrained(folder)
    words = [*special.values(), *(f"w{number}" for number in range(VOCABULARY - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("saved") / "llama")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def load(tmp_path):
    def from_folder(folder, **settings):
        return load_model(source="local", path=str(folder), cache_dir=tmp_path / "cache", **settings)

    return from_folder


def test_a_local_model_is_loaded_frozen_with_its_provenance(folder, load):
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    model = load(folder)
    ids, attention = token_blocks()
    expected = tiny_model("llama").module(input_ids=ids, attention_mask=attention).logits
    assert torch.equal(model.module(input_ids=ids, attention_mask=attention).logits, expected)
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert (model.d_model, model.num_layers, model.vocabulary_size, model.has_lm_head) == (D_MODEL, LAYERS, VOCABULARY, True)
    assert (model.document_start, model.document_end, model.pad, model.special) == (1, None, 0, frozenset({0, 1, 2}))
    assert model.provenance() == {
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "source": "local",
        "name": "model",
        "path": str(folder),
        "quantisation": None,
        "licence": "apache-2.0",
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }
    assert json.loads(json.dumps(model.provenance())) == model.provenance()


def test_document_marks_are_the_models_own_or_what_is_asked(folder, load, tmp_path):
    model = load(folder, document_start="</s>", document_end="w0")
    assert (model.document_start, model.document_end) == (2, 3)
    assert model.special == {0, 1, 2, 3}
    encoder = save_model(tmp_path / "bert", "bert", {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"})
    model = load(encoder)
    assert (model.document_start, model.document_end, model.pad) == (1, 2, 0)
    assert not model.has_lm_head
    with pytest.raises(UserError, match=r"model.document_start='<bos>' is not a token of this model.*'<s>'"):
        load(folder, document_start="<bos>")


def test_dtype_and_attention_are_settings(folder, load):
    model = load(folder, dtype="bfloat16", attention="eager")
    assert model.dtype == torch.bfloat16
    assert model.module.config._attn_implementation == "eager"
    assert model.provenance()["dtype"] == "bfloat16"


def test_an_attention_that_the_family_lacks_is_told(tmp_path, load):
    folder = save_model(tmp_path / "gemma", "gemma2")  # its soft cap is not in sdpa
    with pytest.raises(UserError, match=r"cannot load model.path=.* with model.attention=sdpa: .*scaled_dot_product"):
        load(folder)
    assert load(folder, attention="eager").num_layers == LAYERS


def test_the_outline_needs_no_weights(folder):
    (folder / "model.safetensors").unlink()
    outline = read_model_outline(source="local", path=str(folder))
    assert (outline.d_model, outline.num_layers, outline.vocabulary_size) == (D_MODEL, LAYERS, VOCABULARY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "fp32"}, r"dtype='fp32' is unknown: expected one of float32, bfloat16, float16"),
        ({"device": "gpu"}, r"device='gpu' is unknown: expected auto, cpu, cuda"),
        ({"device": "meta"}, r"device='meta' is unknown"),
        ({"attention": "flash"}, r"model.attention='flash' is unknown: expected sdpa or eager"),
    ],
)
def test_settings_that_do_not_exist(folder, load, settings, message):
    with pytest.raises(UserError, match=message):
        load(folder, **settings)


def test_a_device_that_is_not_there(folder, load, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"device='cuda:1' was asked for, but torch .* sees 1 CUDA devices.*device=auto"):
        load(folder, device="cuda:1")


@pytest.mark.parametrize("word", ["mps", "mps:0"])
def test_apples_gpu_is_passed_by_and_refused(word, folder, load, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load(folder, device="auto").device == torch.device("cpu")
    with pytest.raises(UserError, match=rf"device='{word}' cannot be taken: .*float64, which MPS has not.*device=cpu"):
        load(folder, device=word)


def break_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_with_nan_name_the_tensor(folder, load):
    break_weights(folder, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"][3, 4:6].fill_(float("nan")))
    with pytest.raises(UserError, match=r"hold NaN or infinity: 2 of 960 entries of model.layers.1.mlp.up_proj.weight"):
        load(folder)


def test_large_finite_weights_are_not_nan(folder, load):
    break_weights(folder, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].fill_(3e38))
    assert load(folder).num_layers == LAYERS


def test_missing_tensors_are_not_made_up(folder, load):
    break_weights(folder, lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(UserError, match=r"lack 1 tensors of LlamaForCausalLM: model.layers.2.mlp.up_proj.weight"):
        load(folder)


def test_tensors_of_another_shape_are_refused(folder, load):
    break_weights(folder, lambda tensors: tensors.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(3, 3)}))
    with pytest.raises(UserError, match=r"cannot load model.path="):
        load(folder)


def test_truncated_weights(folder, load):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"The weights of model.path=.* cannot be read"):
        load(folder)


def test_folders_that_hold_no_model(folder, load, tmp_path):
    with pytest.raises(UserError, match=r"model=local needs the folder of the model: model.path=DIR"):
        load_model(source="local")
    with pytest.raises(UserError, match=r"model.path=.*nowhere is not a folder"):
        load(tmp_path / "nowhere")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").touch()
    with pytest.raises(UserError, match=r"is no model: expected config.json and \*.safetensors in .*other, found notes.txt"):
        load(other)
    (other / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load(other)
    (other / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is no transformer: .* has no `model_type`"):
        load(other)
    (other / "config.json").write_text('{"model_type": "perceptron"}')
    (other / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=r"has no weights: .*pytorch_model.bin, a format that can run code"):
        load(other)
    shutil.copy(folder / "model.safetensors", other)
    with pytest.raises(UserError, match="is not a configuration that transformers knows"):
        load(other)
    (other / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UserError, match="T5Config describes an encoder with a decoder"):
        load(other)


def test_a_model_without_tokenizer(folder, load):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match="has no tokenizer that transformers can read"):
        load(folder)


def test_sources_and_names_that_do_not_exist():
    with pytest.raises(UserError, match=r"model.source='web' is unknown: expected packaged, local or hub"):
        load_model(source="web")
    with pytest.raises(UserError, match=r"model=hub needs the model's name: model.name=ORG/NAME"):
        load_model(source="hub")
    with pytest.raises(UserError, match=r"model.name='smollm' is no packaged model: expected one of smollm2-135m-instruct-q4"):
        load_model(source="packaged", name="smollm")


def test_a_hub_model_is_a_folder_named_by_its_commit(folder, monkeypatch, tmp_path):
    snapshot = folder.rename(tmp_path / "0123abcd")
    monkeypatch.setattr(folders, "snapshot_download", lambda *_, **__: str(snapshot))
    model = load_model(source="hub", name="org/model", cache_dir=tmp_path / "cache")
    assert (model.provenance()["name"], model.provenance()["revision"]) == ("org/model", "0123abcd")
    assert read_model_outline(source="hub", name="org/model").num_layers == LAYERS


RESPONSE = Response(404, request=Request("GET", "https://hub"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("no connection"), r"hub is out of reach \(no connection\).*smollm2-135m-instruct-q4"),
        (errors.GatedRepoError("gated", response=RESPONSE), "model.name=org/model asks for an agreement"),
        (errors.RepositoryNotFoundError("none", response=RESPONSE), "model.name=org/model does not exist on the hub"),
        (errors.RevisionNotFoundError("none", response=RESPONSE), "model.revision='v1' does not exist in org/model"),
    ],
)
def test_what_the_hub_refuses(error, message, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(folders, "snapshot_download", refuse)
    with pytest.raises(UserError, match=message):
        load_model(source="hub", name="org/model", revision="v1")


def test_an_offline_hub_and_a_wrong_name_are_told_by_the_real_client(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"model.name=org/not-fetched-yet is not on this machine and the hub is out of reach"):
        load_model(source="hub", name="org/not-fetched-yet")
    with pytest.raises(UserError, match=r"model.name='a/b/c' is not the name of a model"):
        load_model(source="hub", name="a/b/c")


def test_the_hash_is_read_once_and_again_when_the_files_change(folder, tmp_path, monkeypatch):
    first = weights.weights_sha256(folder, tmp_path)
    reads = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: (reads.append(args), digest(*args))[1])
    assert weights.weights_sha256(folder, tmp_path) == first
    assert reads == []
    break_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(2.0))
    assert weights.weights_sha256(folder, tmp_path) != first
    assert len(reads) == 1
    shutil.copy(folder / "model.safetensors", folder / "model-2.safetensors")
    one = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert weights.weights_sha256(folder, tmp_path) not in (first, one)
    assert len(reads) == 3
