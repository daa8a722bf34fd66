"""Spliced cross-entropy and KL: answers that are known beforehand."""

import pytest
import torch
from torch.nn import functional as F

from sae.errors import UserError
from sae.evaluation.cross_entropy import SPLICE_KEYS, CleanRun, evaluate_splice, recovered_fraction, spread_blocks
from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.tokens.blocks import TokenBlocks

D_MODEL = 12
EVERYTHING = 10_000


@pytest.fixture
def mean(model, hook_point, blocks):
    values = capture(model, blocks.ids, blocks.attention, [hook_point])[hook_point.name]
    return values[blocks.keep].double().mean(dim=0)


@pytest.fixture
def clean_run(model, blocks):
    return CleanRun(model, blocks, max_tokens=EVERYTHING, forward_blocks=3)


def test_clean_loss_is_the_models_own_over_pairs_of_kept_tokens(model, hook_point, blocks, known, clean_run, mean):
    logits = model.module(input_ids=blocks.ids.long(), attention_mask=blocks.attention.long()).logits[:, :-1]
    scored = blocks.keep[:, :-1] & blocks.keep[:, 1:]
    expected = F.cross_entropy(logits[scored], blocks.ids[:, 1:][scored].long())
    numbers = evaluate_splice(known["random"](), clean_run, hook_point, mean=mean)
    assert numbers["ce_clean"] == pytest.approx(float(expected), rel=1e-5)
    assert numbers["ce_tokens_scored"] == int(scored.sum())
    assert set(numbers) == {*SPLICE_KEYS, "ce_reason"}


def test_identity_changes_nothing_at_all(hook_point, known, clean_run, mean):
    numbers = evaluate_splice(known["identity"](), clean_run, hook_point, mean=mean)
    assert numbers["ce_sae"] == numbers["ce_clean"]
    assert numbers["ce_increase"] == 0
    assert numbers["ce_recovered_zero"] == 1
    assert numbers["ce_recovered_mean"] == 1
    assert numbers["kl"] == 0


def test_zero_is_the_zero_ablation(hook_point, known, clean_run, mean):
    numbers = evaluate_splice(known["zero"](), clean_run, hook_point, mean=mean)
    assert numbers["ce_sae"] == numbers["ce_zero"] != numbers["ce_clean"]
    assert numbers["ce_recovered_zero"] == 0
    assert numbers["kl"] > 0


def test_the_mean_is_the_mean_ablation(hook_point, known, clean_run, mean):
    numbers = evaluate_splice(known["constant"](mean), clean_run, hook_point, mean=mean)
    assert numbers["ce_sae"] == numbers["ce_mean"] != numbers["ce_zero"]
    assert numbers["ce_recovered_mean"] == 0


def test_reconstruction_plus_its_error_gives_the_clean_loss(hook_point, known, clean_run, mean):
    sae = known["random"]()

    def with_error(rows):
        recon = sae(rows).recon
        return recon + (rows - recon)

    losses, divergence = clean_run.compare(hook_point, with_error, mean=mean)
    assert losses["sae"] == pytest.approx(losses["clean"], rel=1e-5)
    assert divergence == pytest.approx(0, abs=1e-5)


def test_kl_is_that_of_the_full_distributions(model, hook_point, blocks, known, clean_run, mean):
    sae = known["random"]()
    inputs = {"input_ids": blocks.ids.long(), "attention_mask": blocks.attention.long()}
    scored = blocks.keep[:, :-1] & blocks.keep[:, 1:]

    def put(_module, _args, output):
        hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        hidden[blocks.keep] = sae(hidden[blocks.keep]).recon
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    with torch.no_grad():
        clean = model.module(**inputs).logits[:, :-1][scored].double().softmax(dim=-1)
        handle = model.module.get_submodule(hook_point.module).register_forward_hook(put)
        spliced = model.module(**inputs).logits[:, :-1][scored].double().softmax(dim=-1)
        handle.remove()
    expected = float((clean * (clean / spliced).log()).sum(dim=-1).mean())
    assert evaluate_splice(sae, clean_run, hook_point, mean=mean)["kl"] == pytest.approx(expected, rel=1e-4)


def test_only_kept_positions_are_replaced(model, hook_point, blocks, clean_run, mean):
    seen = []

    def note(rows):
        seen.append(rows.clone())
        return rows

    clean_run.compare(hook_point, note, mean=mean)
    values = capture(model, blocks.ids, blocks.attention, [hook_point])[hook_point.name]
    torch.testing.assert_close(torch.cat(seen), values[blocks.keep])


def test_the_model_runs_only_for_what_is_new(model, hook_point, blocks, known, mean):
    passes = []
    model.module.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    clean_run = CleanRun(model, blocks, max_tokens=EVERYTHING, forward_blocks=4)
    assert len(passes) == 2
    first = evaluate_splice(known["random"](), clean_run, hook_point, mean=mean)
    assert len(passes) == 2 + 2 * 3
    again = evaluate_splice(known["random"](), clean_run, hook_point, mean=mean)
    assert len(passes) == 2 + 2 * 3 + 2
    assert again == first
    other = evaluate_splice(known["random"](), clean_run, hook_point, mean=mean + 1)
    assert other["ce_mean"] != first["ce_mean"]
    elsewhere = resolve_hook_point(model, site="resid_post", layer=0)
    assert evaluate_splice(known["random"](), clean_run, elsewhere, mean=mean)["ce_zero"] != first["ce_zero"]


def test_the_size_of_a_forward_pass_hardly_matters(model, hook_point, blocks, known, mean):
    sae = known["random"]()
    runs = [CleanRun(model, blocks, max_tokens=EVERYTHING, forward_blocks=size) for size in (1, 7)]
    one, other = (evaluate_splice(sae, run, hook_point, mean=mean) for run in runs)
    assert one["ce_sae"] == pytest.approx(other["ce_sae"], rel=1e-5)
    assert one["kl"] == pytest.approx(other["kl"], rel=1e-4)


def test_half_precision_stays_finite_and_identity_exact(half_precision_model, blocks, known):
    hook_point = resolve_hook_point(half_precision_model, site="resid_post", layer=1)
    clean_run = CleanRun(half_precision_model, blocks, max_tokens=EVERYTHING)
    mean = torch.zeros(D_MODEL, dtype=torch.float64)
    identity = evaluate_splice(known["identity"](), clean_run, hook_point, mean=mean)
    assert (identity["ce_recovered_zero"], identity["kl"]) == (1, 0)
    far = known["constant"](torch.full((D_MODEL,), 3e4))
    numbers = evaluate_splice(far, clean_run, hook_point, mean=mean)
    assert numbers["kl"] > 0
    assert None not in [numbers[key] for key in ("ce_sae", "ce_zero", "kl")]


def test_a_model_without_head_says_so(headless_model, blocks, known):
    hook_point = resolve_hook_point(headless_model, site="resid_post", layer=1)
    clean_run = CleanRun(headless_model, blocks, max_tokens=EVERYTHING)
    numbers = evaluate_splice(known["random"](), clean_run, hook_point, mean=torch.zeros(D_MODEL, dtype=torch.float64))
    assert all(numbers[key] is None for key in SPLICE_KEYS)
    assert "LlamaModel has no language modelling head" in numbers["ce_reason"]


def test_blocks_without_neighbouring_tokens_are_refused(model):
    keep = torch.tensor([[True, False, True, False]])
    ones = torch.ones(1, 4, dtype=torch.bool)
    blocks = TokenBlocks(ids=ones.int(), attention=ones, keep=keep, document=ones.int())
    with pytest.raises(UserError, match="No next token can be scored"):
        CleanRun(model, blocks, max_tokens=EVERYTHING)


@pytest.mark.parametrize("most", [1, 9, 20, 33, EVERYTHING])
def test_blocks_come_from_all_over_and_stay_below_the_limit(blocks, most):
    chosen = spread_blocks(blocks, most)
    scored = int((chosen.keep[:, :-1] & chosen.keep[:, 1:]).sum())
    assert len(chosen) == 1 or scored <= most
    assert len(torch.unique(chosen.document[:, 0])) == len(chosen)
    if most == 33:
        assert chosen.document[-1, 0] >= 4
    if most == EVERYTHING:
        assert len(chosen) == len(blocks)


def test_recovered_fraction():
    assert recovered_fraction(ce=3.0, clean=3.0, ablated=9.0) == 1
    assert recovered_fraction(ce=9.0, clean=3.0, ablated=9.0) == 0
    assert recovered_fraction(ce=4.5, clean=3.0, ablated=9.0) == 0.75
    assert recovered_fraction(ce=3.1, clean=3.0, ablated=3.0) is None
