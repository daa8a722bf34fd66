"""Cross-layer transcoders: what is read, what is written, and that nothing ever comes to be where nothing is written."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sae.architectures.cross_layer_transcoder import CrossLayerTranscoderSAE
from sae.architectures.initialise import initialise_
from sae.architectures.initialise_biases import initialise_b_enc_
from sae.architectures.transcoder import TranscoderSAE
from sae.errors import UserError
from sae.functional.resampling import resample_
from sae.functional.row_gradients import accept_row_gradients
from sae.losses.dead_latents import AuxK, GhostGradients, PreActivation
from sae.losses.reconstruction import MultiTopK, SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import StepInfo
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from tests.cases import ramp
from tests.training.nodes import build_optimizer, learner_of, one_step, widths_of

ROWS, WIDTH, TARGETS, LAYERS, EACH = 11, 4, (5, 3, 6), 3, 7
D_SAE, D_OUT = LAYERS * EACH, sum(TARGETS)
JUMP = {"activation": "jumprelu", "threshold_start": 0.3, "bandwidth": 0.7}
KINDS = [{}, {"activation": "topk", "k": 9}, JUMP]
every_kind = pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.get("activation", "relu"))


def before_its_layer():
    """The entries of the decoder that no latent writes."""
    absent = torch.zeros(D_SAE, D_OUT, dtype=torch.bool)
    for latent in range(D_SAE):
        absent[latent, : sum(TARGETS[: latent // EACH])] = True
    return absent


ABSENT = before_its_layer()


def made(widths=(WIDTH,) * LAYERS, targets=TARGETS, d_sae=D_SAE, **settings):
    sae = CrossLayerTranscoderSAE(widths=widths, target_widths=targets, d_sae=d_sae, **settings).double()
    with torch.no_grad():
        for number, name in enumerate(("W_enc", "b_enc", "W_dec", "b_dec")):
            sae.get_parameter(name).copy_(ramp(*sae.get_parameter(name).shape, phase=number))
        if len(widths) == LAYERS:
            sae.W_dec[ABSENT] = 0
    return sae


def rows(sae, phase=0.3):
    return 2 * ramp(ROWS, sae.d_in, phase=phase)


@every_kind
def test_a_layer_s_latents_read_that_layer_alone(settings):
    sae = made(**settings)
    x = rows(sae).requires_grad_()
    _, pre_acts = sae.encode_with_pre_acts(x)
    for layer in range(LAYERS):
        own = pre_acts[:, layer * EACH : (layer + 1) * EACH]
        (gradient,) = torch.autograd.grad(own.square().sum(), x, retain_graph=True)
        for other in range(LAYERS):
            assert bool(gradient[:, other * WIDTH : (other + 1) * WIDTH].any()) == (other == layer)


def test_a_target_is_made_of_its_layer_and_those_before_it():
    """A row's numbers: what comes in at a layer reaches its own target and later ones, and no earlier one."""
    sae = made()
    x = rows(sae).requires_grad_()
    for target, recon in enumerate(sae(x).recon.split(TARGETS, dim=1)):
        (gradient,) = torch.autograd.grad(recon.square().sum(), x, retain_graph=True)
        reached = [bool(gradient[:, layer * WIDTH : (layer + 1) * WIDTH].any()) for layer in range(LAYERS)]
        assert reached == [layer <= target for layer in range(LAYERS)]


def test_nothing_that_is_zero_is_multiplied():
    sae, x = made(), torch.zeros(ROWS, LAYERS * WIDTH, dtype=torch.float64)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        sae(x)
    written = int((~ABSENT).sum())
    assert counted.get_total_flops() == 2 * ROWS * (WIDTH * D_SAE + written)
    assert sae.W_enc.shape == (WIDTH, D_SAE)


@every_kind
def test_one_layer_is_a_transcoder_to_the_bit(settings):
    """Values and gradients, weights at their start, biases of firing rates, and renewed latents."""
    one = made(widths=(WIDTH,), targets=(5,), d_sae=EACH * 2, **settings)
    other = TranscoderSAE(d_in=WIDTH, d_out=5, d_sae=EACH * 2, **{"activation": "relu", "k": None} | settings).double()
    other.load_state_dict(one.state_dict())
    x = rows(one)
    for forward in ("forward", "forward_train", "forward_sparse", "forward_train_sparse"):
        outputs = [getattr(sae, forward)(x) for sae in (one, other)]
        assert torch.equal(outputs[0].recon, outputs[1].recon)
        found, expected = (
            torch.autograd.grad(output.recon.square().sum(), list(sae.parameters()))
            for output, sae in zip(outputs, (one, other), strict=True)
        )
        for gradient, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-14, atol=1e-14)
    dead = torch.arange(EACH * 2) % 3 == 0
    for sae in (one, other):
        initialise_(sae, decoder_norm=0.5, tied=False, generator=torch.Generator().manual_seed(1))
        initialise_b_enc_(sae, x, "firing_rate", rate=0.2)
        generator = torch.Generator().manual_seed(2)
        targets, losses = 2 * ramp(ROWS, 5, phase=4), torch.ones(ROWS)
        resample_(sae, dead, x, losses, generator=generator, targets=targets, connections=sae.connections)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=1e-15, msg=name)


# -- what is not written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", ["random", "uniform", "data", "active_subspace"])
def test_it_starts_at_zero_and_the_rest_has_the_norm_that_was_asked_for(directions):
    sae, norm = made(), None if directions == "uniform" else 0.4
    initialise_(
        sae,
        decoder_norm=norm,
        tied=False,
        generator=torch.Generator().manual_seed(3),
        directions=directions,
        rows=ramp(40, D_OUT, dtype=torch.float32),
    )
    assert not sae.W_dec[ABSENT].any()
    assert sae.W_dec[~ABSENT].all()
    if norm is not None:
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((D_SAE,), norm, dtype=torch.float64), rtol=1e-6, atol=0)
    assert 1.3 < float(sae.W_enc.detach().norm(dim=0).square().mean()) < 2.7, "2 by a fan-in of one layer's width, 2 / 3 by all"


def test_an_encoder_tied_to_several_targets_is_refused():
    sae = CrossLayerTranscoderSAE(widths=(4, 4), target_widths=(4, 4), d_sae=6)
    with pytest.raises(UserError, match=r"latents read one layer: set tied_init=false"):
        initialise_(sae, decoder_norm=1.0, tied=True, generator=torch.Generator())


@pytest.mark.parametrize("way", ["dense", "sparse", "sparse, gradients of rows"])
@pytest.mark.parametrize(
    "term",
    [
        SquaredError(),
        L1(weighting="decoder_norm"),
        Tanh(),
        AuxK(),
        GhostGradients(),
        PreActivation(),
        MultiTopK(multiple=2),
    ],
    ids=lambda term: type(term).__name__,
)
def test_no_term_gives_it_a_gradient(term, way):
    """Three rows with two latents each: few enough for gradients of rows where the error alone is a term."""
    sae = made(**{"activation": "topk", "k": 2} if isinstance(term, MultiTopK | SquaredError) else {})
    if way == "sparse, gradients of rows":
        accept_row_gradients(sae.W_dec)
    x = rows(sae)[:3]
    output = sae.forward_train(x) if way == "dense" else sae.forward_train_sparse(x)
    info = StepInfo(progress=0.4, dead=torch.arange(D_SAE) % 2 == 0)
    value = term(sae, output, ramp(len(x), D_OUT, phase=6), info).mean()
    (gradient,) = torch.autograd.grad(value, sae.W_dec)
    if isinstance(term, SquaredError):
        assert gradient.is_sparse == (way == "sparse, gradients of rows")
    gradient = gradient.to_dense()
    assert not gradient[ABSENT].any()
    assert gradient[~ABSENT].any()


BUDGET = Budget(train_tokens=20 * 16, batch_tokens=16)
NAME = "cross_layer_transcoder"
# Two layers of 12 latents, targets 8 and 5 wide: what the second layer's latents do not write.
UNWRITTEN = torch.zeros(24, 13, dtype=torch.bool)
UNWRITTEN[12:, :8] = True


@pytest.mark.parametrize("free", [True, False], ids=["free", "unit_norm"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "signum", "muon"])
def test_no_step_resampling_average_or_export_fills_it(optimizer, free):
    changes = {"average_half_life": 0.1} if optimizer == "adam" else {}
    changes |= {"unit_norm_decoder": not free, "decoder_norm": 0.5 if free else 1.0}
    changes |= {"resample_at": (0.5,), "resample_window": 0.5, "resample_pool_rows": 50}
    learner = learner_of(NAME, d_in=6, d_sae=24, budget=BUDGET, lr=0.02, **changes)
    values = {
        point: 3 * ramp(320, width, phase=number, dtype=torch.float32) + 4
        for number, (point, width) in enumerate(widths_of(NAME, 6).items())
    }
    learner.start_from(values)
    settings = OptimizerSettings(name=optimizer, **({"weight_decay": 0.1} if optimizer == "adamw" else {}))
    running = build_optimizer(learner, settings)
    for step in range(20):
        one_step(learner, running, {point: value[step * 16 :][:16] for point, value in values.items()}, step)
        assert not learner.sae.W_dec[UNWRITTEN].any(), step
        if not free:
            assert float((learner.sae.W_dec.detach().norm(dim=1) - 1).abs().max()) < 1e-5
        if step == 9 and optimizer in ("adam", "adamw"):
            learner.dead.rows_since_fired.fill_(0)
            learner.dead.rows_since_fired[::5] = BUDGET.train_tokens
            assert learner.resample(values, running, step) == 5
            assert not learner.sae.W_dec[UNWRITTEN].any()
    if optimizer in ("adam", "adamw"):
        for key in ("exp_avg", "exp_avg_sq"):
            moment = running.state[learner.sae.W_dec][key]
            assert not moment[UNWRITTEN].any()
            assert moment[~UNWRITTEN].any()
    learner.finish(values)
    exported = learner.export()
    assert not exported.W_dec[UNWRITTEN].any()
    assert exported.W_dec[~UNWRITTEN].all()


def test_renewed_latents_have_directions_of_what_they_read_and_write():
    """One row's target less b_dec, of the layers its own on; its input, less the mean, of its own layer."""
    sae = made()
    x, targets = rows(sae), 2 * ramp(ROWS, D_OUT, phase=4)
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[[2, 8, 9, 20]] = True
    norm = float(sae.W_enc.detach().norm(dim=0)[~dead].mean())
    before = copy.deepcopy(sae)
    generator = torch.Generator().manual_seed(0)
    resample_(sae, dead, x, torch.ones(ROWS), generator=generator, targets=targets, connections=sae.connections)
    outwards, inwards = targets - sae.b_dec, x - x.mean(dim=0)
    for latent in (2, 8, 9, 20):
        layer = latent // EACH
        own = torch.nn.functional.normalize(outwards.masked_fill(ABSENT[latent], 0), dim=1)
        row = int((own @ sae.W_dec[latent]).argmax())
        torch.testing.assert_close(sae.W_dec[latent], own[row], rtol=0, atol=1e-12)
        read = torch.nn.functional.normalize(inwards[row, layer * WIDTH : (layer + 1) * WIDTH], dim=0)
        torch.testing.assert_close(sae.W_enc[:, latent], 0.2 * norm * read, rtol=0, atol=1e-12)
    assert torch.equal(sae.W_dec[~dead], before.W_dec[~dead])
    assert torch.equal(sae.W_enc[:, ~dead], before.W_enc[:, ~dead])


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_latents_of_every_layer_start_at_one_firing_rate(threshold):
    sae = made()
    x = torch.randn(200, sae.d_in, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    of_each = torch.full((D_SAE,), threshold, dtype=torch.float64)
    initialise_b_enc_(sae, x, "firing_rate", rate=0.1, threshold=of_each if threshold else 0.0)
    fired = (sae.encode_with_pre_acts(x)[1] > threshold).sum(dim=0)
    assert fired.tolist() == [20] * D_SAE


# -- what cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "targets", "d_sae", "said"),
    [
        ((), (), 6, r"at least one layer, got widths \[\]"),
        ((4, 4), (4,), 6, "one activation of each layer that it reads, got 2 widths and 1 target_widths"),
        ((4, 5), (4, 4), 6, r"must be of one width, got widths \[4, 5\]"),
        ((4, 4, 4), (4, 4, 4), 8, "d_sae=8 is no multiple of 3: take 6 or 9"),
        ((4, 4, 4), (4, 4, 4), 2, "d_sae=2 is no multiple of 3: take 3"),
        ((4, 4), (4, 0), 6, "each of target_widths must be a whole number"),
    ],
)
def test_layers_that_do_not_pair_up(widths, targets, d_sae, said):
    with pytest.raises(ValueError, match=said):
        CrossLayerTranscoderSAE(widths=widths, target_widths=targets, d_sae=d_sae)
