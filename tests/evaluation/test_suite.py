"""The report of one SAE: its keys, known answers, and that nothing but the rows decides."""

import json

import pytest
import torch

from sae.evaluation.cross_entropy import CleanRun
from sae.evaluation.reconstruction import evaluate_reconstruction
from sae.evaluation.suite import evaluate
from sae.models.capture import capture

D_MODEL = 12
PROMISED = [
    "fvu",
    "explained_variance",
    "l0",
    "l1",
    "cosine",
    "norm_ratio",
    "dead_fraction",
    "ce_clean",
    "ce_sae",
    "ce_zero",
    "ce_mean",
    "ce_recovered_zero",
    "ce_recovered_mean",
    "kl",
    "tokens_trained",
    "tokens_evaluated",
    "tokens_per_second",
]


def rows():
    generator = torch.Generator().manual_seed(3)
    return 50 * torch.linspace(-1, 2, D_MODEL) + torch.randn(211, D_MODEL, generator=generator)


def test_identity_reconstructs_perfectly(known):
    result = evaluate_reconstruction(known["identity"](), rows().split(64))
    expected = {"fvu": 0, "explained_variance": 1, "l0": D_MODEL, "tokens_evaluated": 211}
    assert {name: result.numbers[name] for name in expected} == expected
    assert result.numbers["cosine"] == pytest.approx(1, abs=1e-12)
    assert result.numbers["norm_ratio"] == result.numbers["relative_bias"] == 1
    torch.testing.assert_close(result.mean, rows().double().mean(dim=0))


def test_the_mean_explains_nothing_and_zero_less(known):
    mean = rows().mean(dim=0)
    constant = evaluate_reconstruction(known["constant"](mean), [rows()])
    assert constant.numbers["fvu"] == pytest.approx(1, abs=1e-6)
    assert constant.numbers["never_fired"] == 1
    assert constant.numbers["l0"] == 0
    zero = evaluate_reconstruction(known["zero"](), [rows()])
    assert zero.numbers["fvu"] > 100
    assert zero.numbers["relative_bias"] is None


def test_batches_change_no_number(known):
    sae = known["random"]()
    small, whole = (evaluate_reconstruction(sae, rows().split(size)) for size in (10, 211))
    for name, value in whole.numbers.items():
        assert small.numbers[name] == pytest.approx(value, rel=1e-6), name
    assert small.density_histogram == whole.density_histogram


def test_no_rows_is_an_error(known):
    with pytest.raises(ValueError, match="no rows"):
        evaluate_reconstruction(known["zero"](), [])


def test_mode_and_weights_are_left_alone(known):
    sae = known["random"]()
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    sae.train()
    evaluate_reconstruction(sae, [rows()])
    assert sae.training
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    assert all(parameter.grad is None for parameter in sae.parameters())


def test_the_report_keeps_its_promise_and_is_json(model, hook_point, blocks, known):
    values = capture(model, blocks.ids, blocks.attention, [hook_point])[hook_point.name][blocks.keep]
    report = evaluate(
        known["identity"](),
        rows=values.split(16),
        clean_run=CleanRun(model, blocks, max_tokens=1000),
        hook_point=hook_point,
        dead_fraction=0.25,
        tokens_trained=4096,
        tokens_per_second=12.5,
    )
    assert set(PROMISED) <= set(report)
    assert all(report[key] is not None for key in PROMISED)
    assert (report["fvu"], report["ce_recovered_zero"], report["kl"], report["dead_fraction"]) == (0, 1, 0, 0.25)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_report_without_a_model_has_the_same_keys_and_a_reason(known, hook_point, model, blocks):
    report = evaluate(known["zero"](), rows=[rows()])
    assert set(PROMISED) <= set(report)
    assert report["kl"] is None
    assert "no model" in report["ce_reason"]
    with pytest.raises(ValueError, match="hook point"):
        evaluate(known["zero"](), rows=[rows()], clean_run=CleanRun(model, blocks, max_tokens=50))
