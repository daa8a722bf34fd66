"""A tiny random decoder with held-out blocks, and SAEs whose effect on it is known."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from sae.architectures.relu import ReLUSAE
from sae.models.hook_points import resolve_hook_point
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks

D_MODEL, VOCABULARY, CONTEXT = 12, 61, 10


def random_model(kind, dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=D_MODEL,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=3,
        vocab_size=VOCABULARY,
        bos_token_id=1,
        eos_token_id=1,
    )
    module = kind(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return LanguageModel(module=module.to(dtype))


@pytest.fixture
def model():
    return random_model(LlamaForCausalLM)


@pytest.fixture
def headless_model():
    return random_model(LlamaModel)


@pytest.fixture
def half_precision_model():
    return random_model(LlamaForCausalLM, torch.bfloat16)


@pytest.fixture
def hook_point(model):
    return resolve_hook_point(model, site="resid_post", layer=1)


@pytest.fixture
def blocks():
    """Seven blocks opened by a special token, one with another in the middle, one padded."""
    ids = torch.randint(2, VOCABULARY, (7, CONTEXT), generator=torch.Generator().manual_seed(1))
    attention = torch.ones(7, CONTEXT, dtype=torch.bool)
    ids[:, 0] = 1
    ids[3, 5] = 1
    ids[6, 6:] = 0
    attention[6, 6:] = False
    document = torch.arange(7)[:, None].expand(7, CONTEXT).clone()
    return TokenBlocks(ids=ids.int(), attention=attention, keep=attention & (ids != 1), document=document)


def zero_sae():
    return ReLUSAE(d_in=D_MODEL, d_sae=5)


def constant_sae(value):
    sae = zero_sae()
    sae.b_dec.data.copy_(value)
    return sae


def identity_sae():
    """x = relu(x) - relu(-x), exactly."""
    sae = ReLUSAE(d_in=D_MODEL, d_sae=2 * D_MODEL)
    eye = torch.eye(D_MODEL)
    sae.W_enc.data.copy_(torch.cat([eye, -eye], dim=1))
    sae.W_dec.data.copy_(torch.cat([eye, -eye], dim=0))
    return sae


def random_sae():
    sae = ReLUSAE(d_in=D_MODEL, d_sae=20)
    generator = torch.Generator().manual_seed(2)
    for parameter in sae.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return sae


@pytest.fixture
def known():
    """Makers of SAEs by what they do."""
    return {"zero": zero_sae, "constant": constant_sae, "identity": identity_sae, "random": random_sae}
