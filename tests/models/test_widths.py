"""Widths that the configuration tells are those of the model."""

import pytest

from sae.errors import UserError
from sae.models.hook_points import SITES, resolve_hook_point
from sae.models.loading import ModelOutline
from sae.models.widths import known_width
from tests.models.tiny import D_MODEL, FAMILIES, LAYERS, VOCABULARY, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_known_widths_are_those_of_the_model(family):
    model = tiny_model(family)
    config = model.module.config
    config.architectures = [type(model.module).__name__]  # as in a saved one
    outline = ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config)
    modules = [name for name, _ in model.module.named_modules() if ".1." in name]
    places = [
        *({"site": site, "layer": 1} for site in SITES if site != "embeddings"),
        *({"module": name, "tensor": side} for name in modules for side in ("input", "output")),
    ]
    found = 0
    for place in places:
        try:
            expected = resolve_hook_point(model, **place).width
        except UserError:  # not in this family, or no tensor of [blocks, context, width]
            continue
        assert known_width(outline, **place) == expected, place
        found += 1
    assert found >= 20


def test_what_is_not_known_is_left_to_the_loaded_model():
    config = tiny_model("llama").module.config
    for outline in (
        ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config),
        ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY),
    ):
        assert known_width(outline, site="resid_mid", layer=1) == D_MODEL
        for module in ("layers.*.mlp.up_proj", "layers.9.mlp.up_proj", "rotary_emb"):
            assert known_width(outline, module=module) is None
    assert known_width(outline, site="attn_z", layer=1) is None
