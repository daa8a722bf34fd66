"""A tiny model with a word tokenizer, and SAEs that fit it."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.live.subject import Subject
from sae.dashboards.live.text_page import TextReader
from sae.functional.connections import keep_written_
from sae.models.hook_points import resolve_hook_point
from sae.models.language_model import LanguageModel
from tests.cases import CASES, D_SAE, Case, build, ramp
from tests.models.tiny import D_MODEL, VOCABULARY, tiny_module

SPECIAL = ["<pad>", "<s>", "</s>", "[UNK]"]
TEXT = "w3 w14 w15 w9 w2 w6 w5 w35 w8"
RELU = next(case for case in CASES if case.name == "relu")


def word_tokenizer(**settings) -> PreTrainedTokenizerFast:
    """Words w0, w1, ... and four special tokens: as many as the tiny models know."""
    words = [*SPECIAL, *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL)))]
    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **marks, **settings)


def open_model(family: str = "llama", *, dtype: torch.dtype = torch.float64, **settings) -> LanguageModel:
    module = tiny_module(family).to(dtype)
    return LanguageModel(module=module, tokenizer=word_tokenizer(**settings), document_start="<s>")


def subject_of(case: Case = RELU, family: str = "llama") -> Subject:
    """The SAE of a case after block 1; a crosscoder after blocks 0 and 1, a transcoder from before the MLP to what it adds.

    A cross-layer transcoder does that for both blocks.
    """
    model = open_model(family)
    if case.architecture == "cross_layer_transcoder":
        inputs, targets = (
            tuple(resolve_hook_point(model, site=site, layer=layer) for layer in (0, 1)) for site in ("mlp_in", "mlp_out")
        )
        return Subject(model=model, sae=_of_both_mlps(case), inputs=inputs, targets=targets)
    if case.architecture == "transcoder":
        inputs = (resolve_hook_point(model, site="mlp_in", layer=1),)
        targets = (resolve_hook_point(model, site="mlp_out", layer=1),)
    else:
        layers = (0, 1) if case.architecture == "crosscoder" else (1,)
        inputs = targets = tuple(resolve_hook_point(model, site="resid_post", layer=layer) for layer in layers)
    sae = build(case, d_in=D_MODEL * len(inputs), d_sae=D_SAE)
    if sae.d_out != sae.d_in:  # the cases have it otherwise
        cut = {
            name: value[..., :D_MODEL] if value.shape[-1] == sae.d_out else value for name, value in sae.state_dict().items()
        }
        sae = type(sae)(**sae.config() | {"d_out": D_MODEL}).double()
        sae.load_state_dict(cut)
    return Subject(model=model, sae=sae, inputs=inputs, targets=targets)


def _of_both_mlps(case: Case) -> SparseAutoencoder:
    """With targets as wide as the model; the cases have them otherwise."""
    made = build(case, d_in=D_MODEL, d_sae=D_SAE)
    sae = type(made)(**made.config() | {"target_widths": (D_MODEL, D_MODEL)}).double()
    decoder = {"W_dec": keep_written_(ramp(sae.d_sae, sae.d_out, phase=2), sae.connections), "b_dec": ramp(sae.d_out, phase=3)}
    sae.load_state_dict(made.state_dict() | decoder)
    return sae


def reader_of(subject: Subject, **settings) -> TextReader:
    return TextReader(subject, texts_of=lambda ids: [f" t{token}" for token in ids], **settings)


def unembedding_of(width: int = D_MODEL) -> torch.Tensor:
    return ramp(VOCABULARY, width, phase=5.0)
