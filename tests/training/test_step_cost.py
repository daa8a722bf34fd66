"""What a step is said to take beside what it takes: tensors are tracked through a real step, forward and backward."""

import gc

import pytest
import torch

from sae.architectures.cross_layer_transcoder import CrossLayerTranscoderSAE
from sae.architectures.topk import TopKSAE
from sae.functional import encoder_tiles
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.training.kernels import KernelSettings, PassChoice
from sae.training.recipe import Budget
from sae.training.step_cost import step_cost
from tests.tracked_memory import TrackedMemory
from tests.training.nodes import build_optimizer, learner_of, one_step, widths_of

D_IN, D_SAE, ROWS = 32, 4096, 512
FACTOR = 1.6
CPU = torch.device("cpu")


def learner_and_rows(name, kernels):
    learner = learner_of(
        name,
        d_in=D_IN,
        d_sae=D_SAE,
        budget=Budget(train_tokens=100 * ROWS, batch_tokens=ROWS),
        kernels=KernelSettings(kernels=kernels),
    )
    return learner, {point: torch.randn(ROWS, width) for point, width in widths_of(name, D_IN).items()}


def measured_peak(name, kernels):
    """Bytes of all tensors of a learner at the peak of its second step."""
    with TrackedMemory() as memory:
        learner, values = learner_and_rows(name, kernels)
        learner.start_from(values)
        optimizer = build_optimizer(learner)
        one_step(learner, optimizer, values, 0)
        gc.collect()
        memory.peak = memory.held
        one_step(learner, optimizer, values, 1)
    return memory.peak


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("topk", "auto"),
        ("topk", "dense"),
        ("cross_layer_transcoder", "auto"),
        ("transcoder", "auto"),
        ("relu", "auto"),
        ("gated", "auto"),
        ("jumprelu", "auto"),
    ],
)
def test_the_memory_of_a_step_is_foretold_for_the_pass_that_it_takes(name, kernels, monkeypatch):
    monkeypatch.setattr(encoder_tiles, "_buffers", encoder_tiles._Buffers())  # none is left of other tests
    peak = measured_peak(name, kernels)
    learner, _ = learner_and_rows(name, kernels)
    foretold = step_cost(learner.passes, learner.sae, device=CPU, rows=ROWS, k=learner.sae.num_active).memory_bytes
    assert 1 / FACTOR < foretold / peak < FACTOR, (foretold / 2**20, peak / 2**20)


def test_what_a_sparse_step_takes_at_full_size_by_hand():
    """Width 768, 131,072 latents, batch 4,096, k 32: weights, gradients and moments 3,072 MiB, 512 for the search."""
    with torch.device("meta"):
        sae = TopKSAE(d_in=768, d_sae=131072, k=32)
    passes = PassChoice(KernelSettings(), sae, Objective({"mse": SquaredError()}))
    found = step_cost(passes, sae, device=CPU, rows=4096, k=32)
    assert 3584 < found.memory_bytes / 2**20 < 3750
    assert found.operations == pytest.approx(2 * 4096 * 768 * 131072, rel=0.01)


def test_the_encoder_of_two_layers_is_one_product_of_a_layer_s_width():
    with torch.device("meta"):
        sae = CrossLayerTranscoderSAE(widths=(768, 768), target_widths=(768, 768), d_sae=131072, activation="topk", k=8)
    passes = PassChoice(KernelSettings(), sae, Objective({"mse": SquaredError()}))
    few, more = (step_cost(passes, sae, device=CPU, rows=4096, k=k).operations for k in (8, 16))
    assert few == pytest.approx(2 * 4096 * 768 * 131072, rel=0.01)
    assert more - few == 5 * 4096 * 8 * (768 + 2 * 768), "an entry reads one layer and writes both"


def test_k_that_is_annealed_from_many_latents_costs_a_dense_step():
    learner, _ = learner_and_rows("topk", "auto")
    few, many = (step_cost(learner.passes, learner.sae, device=CPU, rows=ROWS, k=k) for k in (4, 2000))
    assert many.memory_bytes - few.memory_bytes > 4 * 4 * ROWS * D_SAE
    assert many.operations > 3 * few.operations


def test_each_round_of_matching_pursuit_is_a_product():
    learner, _ = learner_and_rows("matching_pursuit", "auto")
    one, ten = (step_cost(learner.passes, learner.sae, device=CPU, rows=ROWS, k=k).operations for k in (1, 10))
    assert ten == pytest.approx(10 * one, rel=0.01)
