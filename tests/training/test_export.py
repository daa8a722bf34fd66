"""From training's units to raw ones and back: export, and a start from what was exported."""

import copy

import pytest
import torch

from sae.commands.reading import reads_several
from sae.errors import UserError
from sae.training.recipe import Budget
from tests.training.nodes import (
    LATER,
    NAMES,
    OTHER,
    POINT,
    build_optimizer,
    every_node,
    every_node_that,
    free_decoder,
    learner_of,
    names_of_those_that,
    one_step,
    rows_of,
    sae_of,
    takes,
    widths_of,
)

D_IN, D_SAE, ROWS, STEPS = 6, 20, 32, 30
BUDGET = Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS)
LEARNT_THRESHOLDS = {
    "activation": "jumprelu",
    "k": None,
    "auxk_coefficient": None,
    "l0_coefficient": 0.1,
    "threshold_start": 0.5,
    "bandwidth": 0.5,
}
# Activations beside each file's own.
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("matryoshka", {"activation": "topk"}),
    ("matryoshka", {"activation": "relu", "k": None, "l1_coefficient": 1.0, "l1_weighting": "decoder_norm"}),
    ("crosscoder", {"activation": "topk", "k": 4, "l1_coefficient": None}),
    ("crosscoder", {"activation": "batch_topk", "k": 4, "l1_coefficient": None}),
    ("cross_layer_transcoder", {"activation": "batch_topk"}),
    ("cross_layer_transcoder", LEARNT_THRESHOLDS),
    ("transcoder", {"skip": True}),
    ("transcoder", {"activation": "batch_topk", "skip": True}),
    ("matryoshka", LEARNT_THRESHOLDS),
    ("crosscoder", LEARNT_THRESHOLDS | {"l1_coefficient": None}),
    ("transcoder", LEARNT_THRESHOLDS),
]
every_variant = pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=[f"{name}-{changes.get('activation', 'own')}" for name, changes in VARIANTS]
)
# Of those that reconstruct the one activation that they read, which may be normalised and have one scale.
ONE_ACTIVATION = names_of_those_that(lambda sae: not takes(sae, "d_out") and not takes(sae, "widths"))
# Not the file's, which are refused with rows of another size.
OWN_LENGTHS = {"jumprelu": {"threshold_start": 0.9, "bandwidth": 0.6, "l0_coefficient": 0.7}}
UNIT_NORM = {"unit_norm_decoder": True, "decoder_norm": 1.0}


def raw_rows(name, rows=400, *, seed=3, scale=5.0):
    generator = torch.Generator().manual_seed(seed)
    return {
        point: scale * number * torch.randn(rows, width, generator=generator, dtype=torch.float64) + 40 * number
        for number, (point, width) in enumerate(widths_of(name, D_IN).items(), start=1)
    }


def trained(name, *, steps=STEPS, values=None, **changes):
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, lr=0.02, **changes).double()
    values = values or raw_rows(name)
    learner.start_from(values)
    optimizer = build_optimizer(learner)
    for step in range(steps):
        one_step(learner, optimizer, {point: value[step * 10 :][:ROWS] for point, value in values.items()}, step)
    learner.finish(values)
    return learner, values


def in_training(learner, values):
    """What training's own module makes of raw rows, with the threshold that export would set, in raw units."""
    inside = copy.deepcopy(learner.sae)
    if inside.batch_threshold is not None:
        inside.batch_threshold.fill_(learner.threshold.value())
    inside.scale_thresholds_(learner.threshold_factor)
    targets = learner.input_space if learner.target_space is None else learner.target_space
    output = inside(learner.input_space(values))
    return targets.raw(output.recon), output.latent_acts > 0


@pytest.mark.parametrize("free", [False, True], ids=["unit_norm", "free_decoder"])
@pytest.mark.parametrize("scaling", ["variance", "mean_square", "norm", "unit", "none"])
@every_variant
def test_the_exported_sae_is_training_s_on_raw_rows(name, changes, scaling, free):
    """To rounding in float64: under every scaling, where input and target (and parts) differ in scale and centre too."""
    settings = (free_decoder(name, decoder_norm=0.4) if free else UNIT_NORM) | OWN_LENGTHS.get(name, {}) | changes
    learner, values = trained(name, steps=6, scaling=scaling, **settings)
    expected, fired = in_training(learner, values)
    exported = learner.export()
    found = exported(rows_of(name, values)[0])
    torch.testing.assert_close(found.recon, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(found.latent_acts > 0, fired)
    if not exported.selects_by_size if free else name in ONE_ACTIVATION:
        assert float((torch.linalg.vector_norm(exported.W_dec, dim=1) - 1).abs().max()) < 1e-9


@every_variant
def test_starting_from_what_was_exported_is_where_training_was(name, changes):
    """In a run whose rows have another scale and centre; before its first step it exports the same SAE again."""
    exported = trained(name, **changes)[0].export()
    again = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, **changes).double()
    values = raw_rows(name, seed=8, scale=11.0)
    again.start_from(values, trained=exported)
    if again.threshold is not None:
        assert not again.threshold.known
    x, _ = rows_of(name, values)
    torch.testing.assert_close(again.export()(x).recon, exported(x).recon, rtol=1e-9, atol=1e-9)
    expected = exported(x).recon
    targets = again.input_space if again.target_space is None else again.target_space
    torch.testing.assert_close(targets.raw(again.sae(again.input_space(values)).recon), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [1.0, 3.0])
@every_node
def test_the_first_constraint_changes_nothing_of_an_sae_that_was_taken_over(name, length):
    """Decoder rows of another length than 1, as a transcoder's are in the units of a run whose target is scaled otherwise."""
    learner, values = trained(name, steps=10, **(UNIT_NORM if sae_of(name).selects_by_size else {}))
    theirs = learner.export()
    with torch.no_grad():
        theirs.W_dec.mul_(length)
    again = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, **UNIT_NORM).double()
    others = {point: (1.0 if point == POINT else 5.0) * value for point, value in values.items()}
    again.start_from(values if reads_several(name) else others, trained=theirs)
    again.constraint.impose_(again.sae)
    x, _ = rows_of(name, values)
    torch.testing.assert_close(again.export()(x).recon, theirs(x).recon, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1.001, 7.0])
@pytest.mark.parametrize("activation", ["topk", "batch_topk"])
@pytest.mark.parametrize("name", ["crosscoder", "cross_layer_transcoder"])
def test_rows_of_norm_1_over_parts_are_taken_over_in_the_ratios_of_scales_that_they_were_trained_at(name, activation, factor):
    """On other rows the parts' scales are to each other otherwise, and rows that had norm 1 would not have it: latents compete.

    As above the first constraint changes nothing, and the units stay between those of this run's own rows.
    """
    settings = UNIT_NORM | {"activation": activation, "k": 4, "l1_coefficient": None}
    learner, values = trained(name, steps=10, **settings)
    theirs = learner.export()
    others = {point: (factor if point in (OTHER, LATER) else 1.0) * rows for point, rows in raw_rows(name, seed=8).items()}
    runs = [
        learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, **settings, **changes).double()
        for changes in ({}, {}, {"scaling": "none"})
    ]
    again, own, unscaled = runs
    again.start_from(others, trained=theirs)
    own.start_from(others)
    again.constraint.impose_(again.sae)
    x, _ = rows_of(name, values)
    torch.testing.assert_close(again.export()(x).recon, theirs(x).recon, rtol=1e-9, atol=1e-9)
    before, after, estimated = (one.spaces.targets.scale[[0, -1]] for one in (learner, again, own))
    torch.testing.assert_close(after / after[0], before / before[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(after.prod(), estimated.prod(), rtol=1e-12, atol=0)
    with pytest.raises(UserError, match=r"parts that were scaled as 1 : .*sae\.scaling=none leaves parts as they are"):
        unscaled.start_from(others, trained=theirs)


def shared(rows_scale, *, theirs=None, **changes):
    """A crosscoder of three shared latents, on rows whose second part is so many times as large; started from `theirs`."""
    values = {point: (1.0 if point == POINT else rows_scale) * rows for point, rows in raw_rows("transcoder").items()}
    values = {point: rows[:, :D_IN] for point, rows in values.items()}
    learner = learner_of("crosscoder", d_in=D_IN, d_sae=D_SAE, budget=BUDGET, lr=0.02, shared_fraction=0.15, **changes).double()
    learner.start_from(values, trained=theirs)
    return learner, values


@pytest.mark.parametrize("ratio", [1.01, 3.0])
def test_shared_latents_are_taken_over_in_the_ratios_of_scales_that_they_were_trained_at(ratio):
    """So the first constraint changes nothing, and the units stay between those of this run's own rows."""
    learner, values = shared(2.0)
    optimizer = build_optimizer(learner)
    for step in range(5):
        one_step(learner, optimizer, {point: rows[step * 10 :][:ROWS] for point, rows in values.items()}, step)
    theirs = learner.export()
    x = torch.cat(list(values.values()), dim=1)
    own, _ = shared(2.0 * ratio)
    again, _ = shared(2.0 * ratio, theirs=theirs)
    again.constraint.impose_(again.sae)
    torch.testing.assert_close(again.export()(x).recon, theirs(x).recon, rtol=1e-9, atol=1e-9)
    before, after, estimated = (one.input_space.scale[[0, -1]] for one in (learner, again, own))
    torch.testing.assert_close(after / after[0], before / before[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(after.prod(), estimated.prod(), rtol=1e-12, atol=0)


def test_shared_latents_of_scaled_parts_are_not_taken_over_by_a_run_that_scales_none():
    theirs = shared(2.0)[0].export()
    with pytest.raises(UserError, match=r"scaled as 1 : 0\.\d+, and sae\.scaling=none leaves parts.*Set sae\.scaling=variance"):
        shared(2.0, theirs=theirs, scaling="none")
    shared(2.0, theirs=shared(2.0, scaling="none")[0].export(), scaling="none")


@every_node_that(lambda sae: sae.selects_by_size or sae.batch_threshold is not None)
def test_unequal_decoder_norms_of_latents_that_compete_are_not_taken_over(name):
    learner, values = trained(name, steps=5)
    theirs = learner.export()
    with torch.no_grad():
        theirs.W_dec[3].mul_(1.01)
    again = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, **UNIT_NORM).double()
    with pytest.raises(UserError, match=r"decoder rows of norm .* to .* compete by size.*sae\.unit_norm_decoder=false"):
        again.start_from(values, trained=theirs)
    free = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, unit_norm_decoder=False).double()
    free.start_from(values, trained=theirs)


@every_node_that(lambda sae: sae.batch_threshold is not None)
def test_latents_of_a_free_decoder_compete_again_at_the_sizes_that_they_were_trained_at(name):
    """Export folds their norms into the thresholds; a selection over the batch must not see them twice, or not at all."""
    learner, values = trained(name, steps=6, unit_norm_decoder=False, decoder_norm=0.4)
    with torch.no_grad():
        learner.sae.W_dec.mul_(torch.linspace(0.5, 2.0, D_SAE, dtype=torch.float64)[:, None])
    theirs = learner.export()
    assert theirs.batch_threshold is not None
    assert len(theirs.batch_threshold.unique()) > D_SAE // 2
    free = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, unit_norm_decoder=False).double()
    others = raw_rows(name, seed=8, scale=11.0)
    free.start_from(others, trained=theirs)
    assert free.sae.batch_threshold is not None
    torch.testing.assert_close(free.sae.batch_threshold, free.sae.batch_threshold[:1].expand(D_SAE), rtol=1e-12, atol=0)
    before, after = (one.sae.forward_train(one.input_space(values)) for one in (learner, free))
    assert torch.equal(after.latent_acts > 0, before.latent_acts > 0), "the same latents win"
    raw = [one.input_space.raw(output.recon) for one, output in ((learner, before), (free, after))]
    torch.testing.assert_close(raw[1], raw[0], rtol=1e-9, atol=1e-9)
    x, _ = rows_of(name, values)
    torch.testing.assert_close(free.export()(x), theirs(x), rtol=1e-9, atol=1e-9)
    unit = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET).double()
    with pytest.raises(UserError, match=r"decoder rows of norm .* to .* compete by size.*sae\.unit_norm_decoder=false"):
        unit.start_from(others, trained=theirs)


@every_node_that(lambda sae: takes(sae, "layer_norm"))
def test_layer_norm_stays_in_forward(name):
    learner, values = trained(name, scaling="layer_norm", centring="none", b_dec_init="zero")
    exported, x = learner.export(), values[POINT]
    assert exported.layer_norm
    assert not learner.sae.layer_norm
    mean, deviation = x.mean(dim=1, keepdim=True), (x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    inside = copy.deepcopy(exported)
    inside.layer_norm = False
    expected = inside((x - mean) / deviation).recon * deviation + mean
    torch.testing.assert_close(exported(x).recon, expected, rtol=1e-10, atol=1e-10)
    assert float((exported.encode(5 * x + 2) - exported.encode(x)).abs().mean()) < 1e-3, "length and offset do not matter"


@every_node_that(lambda sae: takes(sae, "layer_norm"))
def test_layer_norm_is_taken_over_too(name):
    settings = {"scaling": "layer_norm", "centring": "none"}
    exported = trained(name, **settings)[0].export()
    again = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, **settings).double()
    values = raw_rows(name, seed=8)
    again.start_from(values, trained=exported)
    torch.testing.assert_close(again.export()(values[POINT]).recon, exported(values[POINT]).recon, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("theirs", [True, False])
@every_node_that(lambda sae: takes(sae, "apply_b_dec_to_input"))
def test_a_pre_encoder_bias_is_turned_into_an_encoder_bias_and_back(name, theirs):
    settings = {"centring": "none", "b_dec_init": "mean"}
    exported = trained(name, apply_b_dec_to_input=theirs, **settings)[0].export()
    again = learner_of(
        name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, seed=3, apply_b_dec_to_input=not theirs, **settings
    ).double()
    values = raw_rows(name, seed=8)
    again.start_from(values, trained=exported)
    back = again.export()
    assert back.apply_b_dec_to_input == (not theirs)
    torch.testing.assert_close(back(values[POINT]).recon, exported(values[POINT]).recon, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "says"),
    [
        ("relu", {"scaling": "layer_norm", "centring": "none"}, {}, "trained with layer norm on, in this run it is off"),
        (
            "relu",
            {},
            {"scaling": "layer_norm", "centring": "none"},
            r"layer norm off, in this run it is on: change sae\.scaling",
        ),
        ("jumprelu", {"threshold_form": "raw"}, {}, r"sae\.threshold_form=raw, this run sae\.threshold_form=log"),
        ("matryoshka", {"activation": "topk"}, {}, r"sae\.activation=topk, this run sae\.activation=batch_topk"),
        ("transcoder", {"skip": True}, {}, r"sae\.skip=True, this run sae\.skip=False: make them equal"),
    ],
)
def test_an_sae_whose_numbers_mean_something_else_is_refused(name, theirs, ours, says):
    exported = trained(name, steps=2, **theirs)[0].export()
    again = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, **ours).double()
    with pytest.raises(UserError, match=says):
        again.start_from(raw_rows(name), trained=exported)
