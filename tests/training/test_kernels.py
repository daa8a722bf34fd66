"""Which pass a step takes: by setting, by k, by what was active; and that a run goes on alike after a resume."""

import copy

import pytest
import torch

from sae.architectures.cross_layer_transcoder import CrossLayerTranscoderSAE
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.architectures.relu import ReLUSAE
from sae.architectures.topk import TopKSAE
from sae.errors import UserError
from sae.functional.pass_choice import LEAVE
from sae.functional.sparse import sparse_from_dense
from sae.losses.dead_latents import PreActivation
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from sae.training import kernels
from sae.training.kernels import DENSE_STEPS, ENTER, KernelSettings, PassChoice
from sae.training.learner import Learner
from sae.training.recipe import Budget
from tests.training.nodes import build_optimizer, every_node_that, learner_of, one_step, widths_of
from tests.training.tiny import Run

CPU = torch.device("cpu")
PLAIN = Objective({"mse": SquaredError()})


def output_with(share: float, *, sparse: bool, rows=10, latents=1000):
    acts = torch.zeros(rows, latents)
    acts[:, : round(share * latents)] = 1
    recon = torch.zeros(rows, 4)
    return SparseSAEOutput(recon, sparse_from_dense(acts)) if sparse else SAEOutput(recon, acts, acts)


@pytest.mark.parametrize(("setting", "expected"), [("dense", False), ("sparse", True), ("auto", True)])
def test_k_decides_where_there_is_one(setting, expected):
    choice = PassChoice(KernelSettings(kernels=setting), TopKSAE(d_in=4, d_sae=1000, k=8), PLAIN)
    assert choice.takes_sparse(CPU, 8, rows=32) == expected
    assert choice.takes_sparse(CPU, 500, rows=32) == (setting == "sparse")  # k is being annealed
    assert choice.takes_sparse(torch.device("cuda"), 8, rows=32) == (setting == "sparse")


def test_measured_share_decides_elsewhere_with_hysteresis():
    sae = ReLUSAE(d_in=4, d_sae=1000)
    choice = PassChoice(KernelSettings(), sae, PLAIN)
    between = (ENTER + LEAVE) / 2
    assert not choice.takes_sparse(CPU, None, rows=32)  # early training is dense
    for step, share, expected in (
        (0, 0.5, False),
        (DENSE_STEPS, between, False),
        (DENSE_STEPS + 1, ENTER / 2, False),  # not a step that counts
        (2 * DENSE_STEPS, ENTER / 2, True),
        (2 * DENSE_STEPS + 1, between, True),
        (2 * DENSE_STEPS + 2, LEAVE * 1.1, False),
        (2 * DENSE_STEPS + 3, between, False),
    ):
        choice.advance(sae, output_with(share, sparse=choice.takes_sparse(CPU, None, rows=32)), step)
        assert choice.takes_sparse(CPU, None, rows=32) == expected, (step, share)


def test_latents_that_write_a_part_of_their_rows_leave_the_sparse_pass_sooner():
    """Three layers: two thirds of the decoder are written, and a dense pass makes no more of it."""
    sizes = {"widths": (4, 4, 4), "target_widths": (5, 5, 5), "d_sae": 1200}
    choice = PassChoice(KernelSettings(), CrossLayerTranscoderSAE(**sizes, activation="topk", k=8), PLAIN)
    level = 1200 * LEAVE * 2 / 3
    assert [choice.takes_sparse(CPU, round(k), rows=32) for k in (0.9 * level, 1.1 * level)] == [True, False]
    sae = CrossLayerTranscoderSAE(**sizes)
    choice = PassChoice(KernelSettings(), sae, PLAIN)
    for step, (share, expected) in enumerate(
        [(ENTER * 0.75, False), (ENTER * 0.6, True), (LEAVE * 0.6, True), (LEAVE * 0.75, False)]
    ):
        sparse = choice.takes_sparse(CPU, None, rows=32)
        choice.advance(sae, output_with(share, sparse=sparse, latents=1200), step * DENSE_STEPS)
        assert choice.takes_sparse(CPU, None, rows=32) == expected, share


def test_terms_that_need_every_pre_activation_train_densely():
    for sae, objective in (
        (TopKSAE(d_in=4, d_sae=10, k=2), Objective({"mse": SquaredError(), "pre_act": PreActivation()})),
        (ReLUSAE(d_in=4, d_sae=10), Objective({"mse": SquaredError(), "l1": L1(on="pre_acts")})),
    ):
        assert not PassChoice(KernelSettings(), sae, objective).able
        for settings, named in (
            ({"kernels": "sparse"}, "kernels=sparse"),
            ({"encoder_dtype": "bfloat16"}, "encoder_dtype=bfloat16"),
        ):
            with pytest.raises(UserError, match=rf"trainer\.{named}: {type(sae).__name__} with these terms trains by dense"):
                PassChoice(KernelSettings(**settings), sae, objective)
    for sae, dead_only in ((TopKSAE(d_in=4, d_sae=10, k=2), True), (ReLUSAE(d_in=4, d_sae=10), False)):
        assert PassChoice(KernelSettings(), sae, Objective({"pre_act": PreActivation(dead_only=dead_only)})).able


def test_a_bfloat16_encoder_has_no_meaning_in_the_dense_pass():
    with pytest.raises(ValueError, match="belongs to the sparse pass: set"):
        KernelSettings(kernels="dense", encoder_dtype="bfloat16")


def train(learner, optimizer, first, last):
    generator = torch.Generator().manual_seed(2)
    values = {point: torch.randn(400, width, generator=generator) for point, width in widths_of(learner.name, 10).items()}
    if first == 0:
        learner.start_from(values)
    losses, passes = [], []
    for step in range(first, last):
        index = (torch.arange(32) + 7 * step) % 400
        passes.append(learner.passes.takes_sparse(CPU, learner.course.k_at(step, learner.sae), rows=32))
        losses.append(one_step(learner, optimizer, {point: value[index] for point, value in values.items()}, step))
    return losses, passes


def test_a_resumed_run_changes_passes_where_the_whole_one_does(monkeypatch):
    """JumpReLU begins densely; the bounds are moved so that its latents cross them in sixty steps."""
    monkeypatch.setattr(kernels, "ENTER", 0.15)
    monkeypatch.setattr(kernels, "LEAVE", 0.2)
    budget = Budget(train_tokens=60 * 32, batch_tokens=32)

    def made():
        learner = learner_of("jumprelu", d_in=10, d_sae=40, budget=budget, lr=0.01, l0_target=2)
        return learner, build_optimizer(learner)

    whole, optimizer = made()
    losses, passes = train(whole, optimizer, 0, 60)
    assert not passes[0]
    assert passes[-1]
    cut = passes.index(True) + 2
    first, optimizer = made()
    train(first, optimizer, 0, cut)
    second, again = made()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(second, again, cut, 60) == (losses[cut:], passes[cut:])


@pytest.mark.parametrize(("precision", "expected"), [("32", "highest"), ("tf32", "high")])
def test_products_of_float32_are_rounded_only_where_that_was_asked_for(precision, expected, tmp_path, monkeypatch):
    forward, found = Learner.loss, []

    def loss(self, *args, **kwargs):
        found.append(torch.get_float32_matmul_precision())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "loss", loss)
    torch.set_float32_matmul_precision("medium")  # as another library may leave it
    try:
        Run(tmp_path, steps=2, precision=precision).go()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert found == [expected] * 2


@every_node_that(lambda sae: sae.trains_sparse and "b_enc" in dict(sae.named_parameters()))
def test_a_bfloat16_encoder_trains_nearly_as_well(name):
    """The losses of the last steps stay within a few percent of those of a float32 one."""
    budget, finals = Budget(train_tokens=60 * 32, batch_tokens=32), []
    for dtype in ("float32", "bfloat16"):
        learner = learner_of(
            name, d_in=10, d_sae=40, budget=budget, lr=0.01, kernels=KernelSettings(kernels="sparse", encoder_dtype=dtype)
        )
        losses, _ = train(learner, build_optimizer(learner), 0, 60)
        finals.append(sum(losses[-10:]))
    assert finals[1] == pytest.approx(finals[0], rel=0.1)
    assert finals[1] != finals[0]
