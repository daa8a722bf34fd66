"""What the benchmark says of the harvest, with a clock that says one second for everything."""

import pytest
import torch
from torch import nn

from sae.commands import harvest_limit
from sae.commands.harvest_limit import measure_harvest
from tests.activations.test_harvest import harvester, text_blocks
from tests.models.tiny import CONTEXT


def test_padding_and_operations_are_counted(monkeypatch):
    monkeypatch.setattr(harvest_limit, "_seconds", lambda call: 1.0)
    source, model, _ = harvester()
    blocks = text_blocks(9)
    found = measure_harvest(source, blocks, d_model=model.d_model, dtype=model.dtype, device=torch.device("cpu"))
    assert found.padding == pytest.approx(3 * 5 / (9 * CONTEXT))
    # Layers 0 and 1 are run: all their linear maps, on each position of four blocks.
    layers = model.module.get_submodule("model.layers")[:2]
    weights = sum(one.weight.numel() for one in layers.modules() if isinstance(one, nn.Linear))
    assert found.matmul_share == pytest.approx(weights / (4 * model.d_model**2), rel=0.05)
