"""Tiny models saved in folders, a text of words they know, and what a run of a second or two on them is typed like."""

import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sae.commands.train import main

WORDS = [f"w{number}" for number in range(40)]
DECODER_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
ENCODER_SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}


def save_model(folder: Path, module: PreTrainedModel, special: dict[str, str], words: Sequence[str] = WORDS) -> Path:
    """A folder as `model=local` wants it."""
    vocabulary = {token: number for number, token in enumerate([*special.values(), *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=next(iter(special.values()))))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four layers, d 16, saved."""
    torch.manual_seed(0)
    special = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), DECODER_SPECIAL, strict=True))
    config = transformers.LlamaConfig(
        vocab_size=len(DECODER_SPECIAL) + len(WORDS), bos_token_id=1, eos_token_id=2, pad_token_id=3, **SIZES
    )
    return save_model(tmp_path_factory.mktemp("models") / "tiny-llama", transformers.LlamaForCausalLM(config), special)


@pytest.fixture(scope="session")
def other_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another Llama with the same tokenizer, wider (d 24) and of three layers, saved."""
    torch.manual_seed(1)
    special = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), DECODER_SPECIAL, strict=True))
    sizes = {**SIZES, "hidden_size": 24, "num_hidden_layers": 3}
    config = transformers.LlamaConfig(
        vocab_size=len(DECODER_SPECIAL) + len(WORDS), bos_token_id=1, eos_token_id=2, pad_token_id=3, **sizes
    )
    return save_model(tmp_path_factory.mktemp("models") / "wide-llama", transformers.LlamaForCausalLM(config), special)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of four layers, d 16, without a head, saved."""
    torch.manual_seed(0)
    special = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token"), ENCODER_SPECIAL, strict=True))
    config = transformers.BertConfig(vocab_size=len(ENCODER_SPECIAL) + len(WORDS), pad_token_id=3, **SIZES)
    return save_model(tmp_path_factory.mktemp("models") / "tiny-bert", transformers.BertModel(config), special)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred documents of forty words, blank lines between them: about 4,000 tokens."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("texts") / "words.txt"
    path.write_text("\n\n".join(" ".join(draw.choices(WORDS, k=40)) for _ in range(100)))
    return path


def typed(decoder: Path, text: Path, folder: Path, *changes: str) -> list[str]:
    """What one types for a run of a second, `folder/tiny`; a change takes the place of what it changes."""
    keys = {change.split("=", 1)[0] for change in changes}
    base = [
        "model=local",
        f"model.path={decoder}",
        "data=text",
        f"data.path={text}",
        "data.split_on=blank_lines",
        "data.context_length=32",
        "data.min_tail=4",
        "logger=none",
        "train.tokens=2048",
        "train.batch_tokens=128",
        "activations.chunk_tokens=1024",
        "evaluation.rows=256",
        "evaluation.ce_tokens=128",
        "sae.expansion=2",
        "sae.resample_pool_rows=256",
        f"run.folder={folder}",
        "run.name=tiny",
    ]
    return [*(line for line in base if line.split("=", 1)[0] not in keys), *changes]


@pytest.fixture
def job(decoder: Path, text: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """What one types for a run of a second, with changes."""
    return partial(typed, decoder, text, tmp_path / "runs")


@pytest.fixture(scope="session")
def finished_run(decoder: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that came to its end; to be read, or copied."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(typed(decoder, text, folder)) == 0
    return folder / "tiny"


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that came to its end, `runs/tiny`."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "tiny"))


@pytest.fixture
def train() -> Callable[[list[str]], int]:
    """The command, in this process."""
    return main


@pytest.fixture
def refused(
    train: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Type something mistaken: what the message says, once it is clear that nothing was loaded or written."""

    def refuse(arguments: list[str], *, loads_model: bool = False) -> str:
        from sae.commands import origin

        loaded = []
        load = origin.load_model
        monkeypatch.setattr(origin, "load_model", lambda **keywords: loaded.append(keywords) or load(**keywords))
        before = snapshot(tmp_path)
        capsys.readouterr()
        assert train(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert bool(loaded) == loads_model
        assert snapshot(tmp_path) == before
        said = printed.err.splitlines()
        assert [line for line in said if line.startswith("error: ") or line.endswith(" mistakes:")]
        return printed.err

    return refuse


def snapshot(folder: Path) -> dict[str, tuple[int, bytes] | None]:
    """Every file below a folder, hidden ones too, with its time and content; and every folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
