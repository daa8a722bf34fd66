"""Saving and loading: exact, whole, and clear about what is wrong."""

import errno
import hashlib
import json
import subprocess
import sys
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file

import sae as library
from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.formats import native
from sae.formats.native import find_sae, load, read_cfg, save
from sae.formats.registry import ARCHITECTURES, architecture_class, architecture_name
from tests.cases import CASES, D_IN, D_SAE, build, rows_for

CFG = {
    "model": {"name": "tiny", "weights_sha256": "ab"},
    "hook": {"site": "resid_post", "layer": 3},
    "scale": 0.25,
    "metrics": {"fvu": 0.1234567, "l0": 52.0, "kl": None},
}


@pytest.fixture
def folder(tmp_path):
    return save(build(CASES[0], dtype=torch.float32), tmp_path / "runs" / "one" / "saes" / "main", cfg=CFG)


def edit_cfg(folder, **changes):
    path = folder / "cfg.json"
    cfg = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del cfg[key]
        else:
            cfg[key] = value
    path.write_text(json.dumps(cfg))


def edit_weights(folder, change):
    """Change the tensors and keep the checksum right: what is tested is what comes after it."""
    path = folder / "sae.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    edit_cfg(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_files_and_cfg(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "cfg.json", "sae.safetensors"]
    cfg = json.loads((folder / "cfg.json").read_text())
    weights = (folder / "sae.safetensors").read_bytes()
    assert cfg == {
        "format_version": 1,
        "architecture": "relu",
        "config": {"d_in": D_IN, "d_sae": D_SAE, "apply_b_dec_to_input": True, "layer_norm": False},
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **CFG,
    }
    assert read_cfg(folder) == cfg
    assert set(load_file(folder / "sae.safetensors")) == {"W_enc", "b_enc", "W_dec", "b_dec"}


def test_loaded_parameters_are_ordinary(folder):
    """Trainable, in memory of their own: neither the files nor a second load see what is written to them."""
    first, second = load(folder), load(str(folder))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in first.parameters())
    content = (folder / "sae.safetensors").read_bytes()
    with torch.no_grad():
        first.W_dec.add_(1)
    assert not torch.equal(first.W_dec, second.W_dec)
    assert (folder / "sae.safetensors").read_bytes() == content
    x = rows_for(second)
    second(x).recon.sum().backward()
    assert second.W_enc.grad is not None


def test_equal_saes_make_equal_files(folder, tmp_path):
    again = save(build(CASES[0], dtype=torch.float32), tmp_path / "again", cfg=CFG)
    for name in ("sae.safetensors", "cfg.json", "README.md"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_runs_folder_with_one_sae_names_it(folder):
    assert find_sae(folder.parents[1]) == folder
    assert torch.equal(load(folder.parents[1]).W_dec, load(folder).W_dec)


def test_a_runs_folder_with_two_saes_does_not(folder):
    other = save(build(CASES[0]), folder.parent / "other")
    with pytest.raises(UserError, match=f"2 SAEs.*{folder}, {other}"):
        load(folder.parents[1])


def test_paths_that_hold_no_sae(folder, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a file: name the folder"):
        load(folder / "cfg.json")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="found nothing"):
        load(tmp_path / "other")
    for number in range(12):
        (tmp_path / "other" / f"file{number:02}").touch()
    with pytest.raises(UserError, match=r"found file00, file01.*file09, \.\.\."):
        load(tmp_path / "other")


def test_truncated_weights(folder):
    path = folder / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="truncated or no safetensors"):
        load(folder)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="truncated or no safetensors"):
        load(folder)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        load(folder)


def test_altered_weights(folder):
    path = folder / "sae.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not belong to its"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, value):
    edit_weights(folder, lambda tensors: tensors["W_dec"][3, :2].fill_(value))
    with pytest.raises(UserError, match=f"W_dec holds 2 of {D_IN * D_SAE} values that are not finite"):
        load(folder)


def test_weights_of_another_shape_type_or_name(folder):
    def change(tensors):
        tensors["W_dec"] = tensors["W_dec"].T.contiguous()
        tensors["b_enc"] = tensors["b_enc"].double()
        tensors["threshold"] = tensors.pop("b_dec")

    edit_weights(folder, change)
    with pytest.raises(UserError) as caught:
        load(folder)
    for part in (
        f"W_dec has shape [{D_IN}, {D_SAE}], expected [{D_SAE}, {D_IN}]",
        "b_enc has type float64, cfg.json says float32",
        "lacks b_dec",
        "has threshold",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "rellu"}, "Did you mean 'relu'"),
        ({"architecture": ["relu"]}, "unknown architecture"),
        ({"architecture": "torch.nn.Linear"}, "This version knows: .*relu"),
        ({"architecture": None}, "lacks architecture"),
        ({"format_version": None}, "not in this project's format"),
        ({"format_version": 2}, "format version 2"),
        ({"config": {"d_in": D_IN, "d_sae": D_SAE, "k": 3}}, "does not make a relu SAE.*k"),
        ({"config": {"d_in": D_IN, "d_sae": -1}}, "does not make a relu SAE.*d_sae must be"),
        ({"config": {"d_in": D_IN, "d_sae": "12"}}, "(?s)does not make a relu SAE.*d_sae"),
        ({"config": [1]}, "does not make a relu SAE"),
        ({"d_sae": 99}, "contradicts itself: d_sae is 99"),
        ({"config": {"d_in": D_IN, "d_sae": 10**9}, "d_sae": 10**9}, r"W_enc has shape \[5, 13\], expected \[5, 1000000000\]"),
    ],
)
def test_a_cfg_that_does_not_fit(folder, changes, message):
    edit_cfg(folder, **changes)
    with pytest.raises(UserError, match=message):
        load(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[1]"])
def test_a_cfg_that_is_no_cfg(folder, content):
    (folder / "cfg.json").write_bytes(content)
    with pytest.raises(UserError, match=r"not valid JSON|not in this project's format"):
        load(folder)


def test_what_cannot_be_saved_leaves_nothing(tmp_path):
    broken = build(CASES[0])
    with torch.no_grad():
        broken.b_enc[2] = float("nan")
    mixed = build(CASES[0])
    mixed.b_enc.data = mixed.b_enc.data.float()
    for sae, cfg, message in (
        (broken, {}, "b_enc holds 1 of 13"),
        (mixed, {}, "one type"),
        (build(CASES[0]), {"d_in": 4, "config": {}}, r"may not hold \['config', 'd_in'\]"),
        (build(CASES[0]), {"metrics": {"kl": float("nan")}}, "JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            save(sae, tmp_path / "broken", cfg=cfg)
        assert not (tmp_path / "broken").exists()


def test_a_full_disk_leaves_no_sae_or_is_noticed(folder, tmp_path, monkeypatch):
    def full(path, content):
        if path.name == "cfg.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    write = native.write_whole
    monkeypatch.setattr(native, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        save(build(CASES[0]), tmp_path / "new")
    with pytest.raises(UserError, match="no SAE in"):
        load(tmp_path / "new")
    with pytest.raises(OSError, match="No space"):
        save(build(CASES[1]), folder)  # over another SAE: weights are new, cfg.json is old
    with pytest.raises(UserError, match="does not belong to its"):
        load(folder)


def test_saving_makes_no_bytes_of_the_weights(tmp_path):
    sae = build(CASES[0], d_in=100, d_sae=5000)
    tracemalloc.start()
    save(sae, tmp_path / "large")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sae.W_dec.numel()  # W_dec alone is eight times as many bytes


def test_other_files_in_the_folder_stay(folder):
    (folder / "notes.txt").write_text("mine")
    save(build(CASES[1]), folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not load(folder).apply_b_dec_to_input


def test_registry():
    for name, architecture in ARCHITECTURES.items():
        assert architecture_class(name) is architecture
    assert architecture_name(build(CASES[0])) == "relu"

    class Stranger(SparseAutoencoder):
        encode_with_pre_acts = latent_parameters = scale_offsets_ = absorb_input_shift_ = None

    with pytest.raises(ValueError, match="Stranger is not in"):
        architecture_name(Stranger(d_in=2, d_sae=3, apply_b_dec_to_input=True))


def test_every_architecture_has_a_case():
    missing = set(ARCHITECTURES) - {case.architecture for case in CASES}
    assert not missing, f"no case of {sorted(missing)}: add a line to CASES in tests/cases.py"


def test_public_names():
    assert library.load is load
    assert {"load", "save"} <= set(dir(library))
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = library.laod


@pytest.mark.slow
def test_loading_needs_none_of_the_heavy_packages(folder):
    program = """
import sys
import sae
assert "torch" not in sys.modules, "import sae must be quick"
loaded = sae.load(sys.argv[1])
assert loaded.encode(loaded.b_dec[None]).shape == (1, loaded.d_sae)
heavy = {"lightning", "hydra", "omegaconf", "wandb", "transformers", "datasets", "torchmetrics", "pandas", "scipy", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
