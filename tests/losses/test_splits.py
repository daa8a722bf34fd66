"""How a batch is cut changes no loss and no gradient of any architecture; `test_contract.py` cuts it for each term."""

import pytest
import torch

from sae.losses.lp import Lp
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1, Tanh
from tests.cases import ROWS, build, every_architecture, every_architecture_that, rows_for, target_for

ROW_WISE = Objective({"mse": SquaredError(), "l1": L1(weighting="decoder_norm"), "tanh": Tanh(), "lp": Lp(p=0.5)})
COEFFICIENTS = {"mse": 1.0, "l1": 0.3, "tanh": 0.2, "lp": 0.1}


def loss_and_gradients(sae, forward, x, target):
    total = ROW_WISE(sae, forward(x), target, COEFFICIENTS).total
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
