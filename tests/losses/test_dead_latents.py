"""Terms of dead latents where there are many: the ways around batch x dead pre-activations give the same, and are bounded."""

import numpy as np
import pytest
import torch

from sae.architectures.topk import TopKSAE
from sae.functional import encoder_product, encoder_tiles, selection
from sae.losses import among_dead, dead_latents
from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.term import StepInfo
from tests.cases import D_SAE, build, ramp, rows_for, target_for
from tests.losses.test_twins import DEAD, INFO, case_named, check
from tests.reference import saes as twin
from tests.tracked_memory import TrackedMemory

PASSES = ["forward_train", "forward_train_sparse"]


def revived(k_aux):
    return lambda p, acts, pre, recon, target: twin.auxk(p, pre, recon, target, DEAD.numpy(), k_aux, normalised=True)


def pushed_up(p, acts, pre, recon, target):
    return twin.pre_activation(p, pre, np.zeros(D_SAE), DEAD.numpy())


def ghosts(p, acts, pre, recon, target):
    return twin.ghost(p, pre, recon, target, DEAD.numpy())


@pytest.mark.parametrize("forward", PASSES)
@pytest.mark.parametrize("part", [1, 1 << 20])
@pytest.mark.parametrize("k_aux", [1, 2, 100])
def test_auxk_of_the_latents_that_it_chooses(k_aux, part, forward, monkeypatch):
    """With a product of their own, a part of the rows at a time."""
    monkeypatch.setattr(dead_latents, "sparse_is_quicker", lambda *_, **__: True)
    monkeypatch.setattr(selection, "PART_ELEMENTS", part)
    monkeypatch.setattr(encoder_product, "BUFFER_ELEMENTS", part)
    found = check("topk", AuxK(k_aux=k_aux), revived(k_aux), forward=forward)
    assert not found["W_enc"][:, ~DEAD].any()
    assert not found["W_dec"][~DEAD].any()


@pytest.mark.parametrize("forward", PASSES)
@pytest.mark.parametrize("at_once", [1, 20])
@pytest.mark.parametrize(
    ("term", "expected"),
    [(AuxK(k_aux=2), revived(2)), (GhostGradients(), ghosts), (PreActivation(dead_only=True), pushed_up)],
    ids=lambda value: type(value).__name__,
)
def test_terms_of_all_dead_latents_some_rows_at_a_time(term, expected, at_once, forward, monkeypatch):
    monkeypatch.setattr(among_dead, "DENSE_ELEMENTS", at_once)
    check("topk", term, expected, forward=forward)


@pytest.mark.parametrize("forward", PASSES)
@pytest.mark.parametrize("k_aux", [2, 7])
def test_candidates_that_are_not_dead_are_not_chosen(k_aux, forward, monkeypatch):
    """Also where k_aux is more than the five that are dead, and where entries are computed anew after a narrow choice."""
    monkeypatch.setattr(dead_latents, "sparse_is_quicker", lambda *_, **__: True)
    sae = build(case_named("topk"))
    x = rows_for(sae)
    target = target_for(sae, x) + 0.25
    info = StepInfo(dead=DEAD, candidates=lambda: torch.arange(D_SAE))
    pass_ = getattr(sae, forward)
    values = [AuxK(k_aux=k_aux)(sae, pass_(x), target, one) for one in (INFO, info)]
    gradients = [torch.autograd.grad(one.sum(), list(sae.parameters()), materialize_grads=True) for one in values]
    torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)
    assert gradients[0][0].any()
    if forward == "forward_train_sparse" and k_aux == 7:
        narrow = pass_(x)._replace(product=lambda: sae.product(x, torch.bfloat16))
        torch.testing.assert_close(AuxK(k_aux=k_aux)(sae, narrow, target, info), values[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("term", "share"), [(AuxK(k_aux=4), 0.2), (GhostGradients(), 0.2), (PreActivation(dead_only=True), 0.2)]
)
def test_the_sparse_pass_never_holds_all_rows_with_all_dead_latents(term, share, monkeypatch):
    """Counted: tensors that exist at a time, forward and backward; a matrix of rows and dead latents is 1."""
    rows, d_in, d_sae = 500, 6, 2000
    monkeypatch.setattr(encoder_product, "BUFFER_ELEMENTS", rows * d_sae // 20)
    monkeypatch.setattr(encoder_tiles, "TILE_ELEMENTS", rows * d_sae // 50)
    monkeypatch.setattr(among_dead, "DENSE_ELEMENTS", rows * d_sae // 50)
    sae = TopKSAE(d_in=d_in, d_sae=d_sae, k=3)
    with torch.no_grad():
        for number, parameter in enumerate(sae.parameters()):
            parameter.copy_(ramp(*parameter.shape, phase=number))
    x = ramp(rows, d_in, dtype=torch.float32)
    output, info = sae.forward_train_sparse(x), StepInfo(dead=torch.ones(d_sae, dtype=torch.bool))
    with TrackedMemory() as memory:
        term(sae, output, x + 1, info).mean().backward()
    assert memory.peak < share * 4 * rows * d_sae
