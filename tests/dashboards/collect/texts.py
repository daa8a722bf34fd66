"""A tiny model in float64, text for it, and SAEs that fit it."""

import torch

from sae.activations.harvest import Harvester
from sae.models.hook_points import resolve_hook_point
from sae.tokens.blocks import TokenBlocks
from tests.cases import D_SAE, build
from tests.models.tiny import CONTEXT, D_MODEL, VOCABULARY, tiny_model

LATENTS = D_SAE


def make_blocks(num_blocks=7, seed=0):
    """Blocks of uneven length, two to a document; the first position is special, another too, and one block is empty."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, CONTEXT + 1, (num_blocks,), generator=generator)
    attention = torch.arange(CONTEXT) < lengths[:, None]
    ids = torch.randint(3, VOCABULARY, (num_blocks, CONTEXT), generator=generator).where(attention, 0)
    keep = attention.clone()
    keep[:, 0] = False
    keep[0, 2] = False
    keep[num_blocks // 2] = False
    document = torch.where(attention, torch.arange(num_blocks)[:, None] // 2, -1)
    return TokenBlocks(ids=ids.int(), attention=attention, keep=keep, document=document.int())


def open_model(family="llama"):
    model = tiny_model(family)
    model.module.double()
    return model


def points_for(model, case):
    """What an SAE of this case reads in the model: two layers for a crosscoder and a cross-layer transcoder, else one."""
    layers = (0, 1) if case.architecture in ("crosscoder", "cross_layer_transcoder") else (1,)
    return [resolve_hook_point(model, site="resid_post", layer=layer) for layer in layers]


def sae_for(case, **changes):
    width = 2 * D_MODEL if case.architecture == "crosscoder" else D_MODEL
    return build(case, d_in=width, d_sae=LATENTS, **changes)


def harvester(model, points, forward_blocks=2):
    return Harvester(model, points, forward_blocks=forward_blocks, dtype=torch.float64)
