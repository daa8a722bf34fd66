"""How a batch is cut changes no loss and no gradient, and narrow types stay near float64."""

import pytest
import torch

from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.objective import Objective, StepInfo
from sae.losses.reconstruction import GateReconstruction, MultiTopK, NestedSquaredError, SquaredError
from sae.losses.sparsity import L0, L1, Lp, Tanh
from tests.cases import CASES, D_SAE, ROWS, build, every_architecture, every_architecture_that, rows_for, target_for

DEAD = torch.zeros(D_SAE, dtype=torch.bool)
DEAD[[0, 3, 4, 7, 11]] = True
INFO = StepInfo(dead=DEAD)
ROW_WISE = Objective({"mse": SquaredError(), "l1": L1(weighting="decoder_norm"), "tanh": Tanh(), "lp": Lp(p=0.5)})
COEFFICIENTS = {"mse": 1.0, "l1": 0.3, "tanh": 0.2, "lp": 0.1}


def loss_and_gradients(sae, forward, x, target):
    total = ROW_WISE(sae, forward(x), target, COEFFICIENTS, INFO).total
    return [total, *torch.autograd.grad(total, list(sae.parameters()), allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("sizes", [[1] * ROWS, [5, 12], [16, 1]], ids=["one by one", "in two", "all but one"])
@every_architecture
def test_a_batch_s_loss_is_the_mean_of_its_rows_losses(case, sizes):
    """With its gradients, weighted by the parts' rows; in training too, unless training selects over the batch."""
    sae = build(case)
    x = rows_for(sae)
    target = target_for(sae, x) + 0.25
    for forward in (sae, sae.forward_sparse, *([sae.forward_train] if sae.batch_threshold is None else [])):
        whole = loss_and_gradients(sae, forward, x, target)
        parts = [loss_and_gradients(sae, forward, *part) for part in zip(x.split(sizes), target.split(sizes), strict=True)]
        for one, others in zip(whole, zip(*parts, strict=True), strict=True):
            mean = sum(size * other for size, other in zip(sizes, others, strict=True)) / ROWS
            torch.testing.assert_close(mean, one, rtol=1e-11, atol=1e-11)


@every_architecture_that(lambda sae: sae.batch_threshold is not None)
def test_where_training_selects_over_the_batch_a_row_does_see_the_others(case):
    """Otherwise the exception above would be none."""
    sae = build(case)
    x = rows_for(sae)
    alone = torch.cat([sae.forward_train(part).latent_acts for part in x.split(1)])
    assert not torch.equal(alone, sae.forward_train(x).latent_acts)


TERMS = [
    ("matryoshka_topk", NestedSquaredError(empty_prefix=True)),
    ("topk", MultiTopK(multiple=2)),
    ("gated", GateReconstruction()),
    ("gated", L1(on="pre_acts")),
    ("gated", Tanh()),
    ("crosscoder", L1(weighting="part_norms")),
    ("jumprelu_log", L0()),
    ("jumprelu_log", L0(target=3.0)),
    ("jumprelu_raw", PreActivation()),
    ("matching_pursuit", SquaredError(reduction="mean")),
    ("transcoder_skip", AuxK(k_aux=2, normalisation="none")),
    ("transcoder_skip", GhostGradients()),
    ("matryoshka_relu", Lp(p=0.3, weighting="decoder_norm")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "term"), TERMS, ids=[f"{name}-{type(term).__name__}" for name, term in TERMS])
def test_terms_in_narrow_types(name, term, dtype):
    """The mean over rows, with weights and rows rounded: float32 to 1e-5, bfloat16 to 8 per cent; gradients finite."""
    case = next(case for case in CASES if case.name == name)
    narrow, wide = build(case, dtype=dtype), build(case)
    x = rows_for(wide)
    values = []
    for sae in (narrow, wide):
        rows = x.to(sae.W_dec.dtype)
        value = term(sae, sae.forward_train(rows), (target_for(wide, x) + 0.25).to(sae.W_dec.dtype), INFO).mean()
        gradients = torch.autograd.grad(value, list(sae.parameters()), allow_unused=True, materialize_grads=True)
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert any(bool(gradient.any()) for gradient in gradients)
        values.append(float(value.detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-5 if dtype == torch.float32 else 0.08)
