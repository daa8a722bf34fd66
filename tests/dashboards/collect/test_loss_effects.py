"""Effects on the loss: gradients against finite differences, removals against the model run by hand, both in float64."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.relu import ReLUSAE
from sae.architectures.transcoder import TranscoderSAE
from sae.dashboards.collect.encode import encode_positive, join_rows
from sae.dashboards.collect.loss_effects import LossEffects, no_effects_reason
from sae.errors import UserError
from sae.models import loss_gradients, next_token
from sae.models.capture import capture
from sae.models.clean_pass import CleanPass
from sae.models.hook_points import resolve_hook_point
from sae.models.splice import splice
from tests.cases import ramp
from tests.dashboards.collect.texts import make_blocks, open_model
from tests.models.tiny import D_MODEL, DECODERS, tiny_model
from tests.reference import collected as twin

LATENTS = 13

# Name -> what the encoder reads and what the decoder writes, as (site, layer); None: the same.
PLACES = {
    "resid_post": ([("resid_post", 1)], None),
    "resid_mid": ([("resid_mid", 1)], None),
    "mlp_out": ([("mlp_out", 0)], None),
    "layer_norm": ([("resid_post", 0)], None),
    "transcoder": ([("mlp_in", 1)], [("mlp_out", 1)]),
    "crosscoder": ([("resid_post", 0), ("resid_post", 1)], None),
}


class Opened:
    """A model, an SAE at some place of it, and its effects. GPT-2's norms are float64 throughout, others' turn to float32."""

    def __init__(self, place="resid_post", family="gpt2", **settings):
        self.model, self.blocks = open_model(family), make_blocks(5)
        inputs, targets = PLACES[place]
        self.inputs = [resolve_hook_point(self.model, site=site, layer=layer) for site, layer in inputs]
        self.targets = [resolve_hook_point(self.model, site=site, layer=layer) for site, layer in targets or inputs]
        if place == "transcoder":
            self.sae = TranscoderSAE(d_in=D_MODEL, d_out=D_MODEL, d_sae=LATENTS, k=6, skip=True)
        elif place == "crosscoder":
            self.sae = CrosscoderSAE(widths=(D_MODEL, D_MODEL), d_sae=LATENTS)
        else:
            self.sae = ReLUSAE(d_in=D_MODEL, d_sae=LATENTS, layer_norm=place == "layer_norm")
        self.sae.double()
        with torch.no_grad():
            for number, parameter in enumerate(self.sae.parameters()):
                parameter.copy_(ramp(*parameter.shape, phase=number) / 3)
        self.effects = LossEffects(self.model, self.sae, inputs=self.inputs, targets=self.targets, **settings)

    def loss_with(self, changes):
        """Loss of each block by plain numpy, with something added at every target's kept positions [rows, d_out]."""
        handles, first = [], 0
        try:
            for point in self.targets:
                part = changes[:, first : first + point.width]
                context = splice(self.model, point, lambda rows, part=part: rows + part, self.blocks.keep)
                context.__enter__()
                handles.append(context)
                first += point.width
            with torch.no_grad():
                logits = self.model.module(input_ids=self.blocks.ids.long(), attention_mask=self.blocks.attention).logits
        finally:
            for context in reversed(handles):
                context.__exit__(None, None, None)
        assert logits.dtype == torch.float64
        rows = zip(logits.numpy(), self.blocks.ids.numpy(), self.blocks.keep.numpy(), strict=True)
        return np.array([twin.block_loss(*row) for row in rows])

    def reads(self):
        """What the encoder reads on kept positions, by another way than the pass under test."""
        seen = capture(self.model, self.blocks.ids, self.blocks.attention, self.inputs)
        return torch.cat([seen[point.name] for point in self.inputs], dim=2)[self.blocks.keep]

    def written(self, row, latent):
        """What the decoder writes for one latent of a row: dense, from decode itself."""
        x = self.reads()[row : row + 1]
        with torch.no_grad():
            acts = self.sae.encode(x)
            without = acts.clone()
            without[0, latent] = 0
            return (self.sae.decode(acts, x) - self.sae.decode(without, x))[0], float(acts[0, latent])


@pytest.mark.parametrize("place", PLACES)
def test_gradients_equal_finite_differences(place, monkeypatch):
    monkeypatch.setattr(loss_gradients, "SLICE_BYTES", 97 * 8 * 4)  # several slices
    opened = Opened(place)
    seen = opened.effects.run(opened.blocks)
    rows = opened.blocks.num_rows
    assert seen.gradients.shape == (rows, opened.sae.d_out)
    assert_close(join_rows(seen.values, [point.name for point in opened.inputs]), opened.reads())
    step, differences = 1e-4, []
    for number in range(5):
        direction = torch.randn(rows, opened.sae.d_out, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        if number > 1:  # one row alone
            direction[torch.arange(rows) != 2 * number] = 0
        ends = [opened.loss_with(sign * step * direction).sum() for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * step)
        differences.append(abs(difference) > 1e-3)
        assert float((seen.gradients * direction).sum()) == pytest.approx(difference, rel=2e-5, abs=1e-6)
    assert sum(differences) >= 4  # the last row of a block moves nothing that is scored


def test_losses_are_the_model_s():
    opened = Opened()
    seen = opened.effects.run(opened.blocks)
    nothing = torch.zeros(opened.blocks.num_rows, D_MODEL, dtype=torch.float64)
    assert float(seen.losses.double().sum()) == pytest.approx(opened.loss_with(nothing).sum(), rel=1e-6)
    assert len(seen.losses) == int(next_token.scored_positions(opened.blocks.keep).sum())


@pytest.mark.parametrize("place", PLACES)
def test_estimates_equal_products_of_what_is_written_and_the_gradient(place):
    opened = Opened(place)
    x = opened.reads()
    gradients = opened.effects.gradients(opened.blocks)
    acts = encode_positive(opened.sae, x)
    found = opened.effects.estimate(acts, gradients, x)
    assert len(found) > 50
    for entry in range(0, len(found), 17):
        row, latent = int(acts.pattern.rows[entry]), int(acts.indices[entry])
        direction, value = opened.written(row, latent)
        assert value > 0
        expected = twin.first_order(1.0, direction.tolist(), gradients[row].tolist())
        assert float(found[entry]) == pytest.approx(expected, rel=1e-5, abs=1e-7)
        if place != "layer_norm":
            expected = twin.first_order(value, opened.sae.W_dec[latent].tolist(), gradients[row].tolist())
            assert float(found[entry]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("place", "family"), [*((place, "gpt2") for place in PLACES), ("resid_post", "llama"), ("mlp_out", "mistral")]
)
def test_removals_equal_the_model_run_by_hand(place, family, whole, monkeypatch):
    if whole:  # as where a model cannot go on from a clean pass
        monkeypatch.setattr(CleanPass, "_comes_out_the_same", lambda _: False)
    opened = Opened(place, family, forward_blocks=3)
    block, position = (part[::4] for part in opened.blocks.keep.nonzero(as_tuple=True))
    row = torch.arange(opened.blocks.num_rows)[::4]
    latent = torch.arange(len(block)) % LATENTS
    order = torch.randperm(len(block), generator=torch.Generator().manual_seed(0))  # blocks come in any order, and again
    block, position, latent, row = block[order], position[order], latent[order], row[order]
    found = opened.effects.exact(opened.blocks, block, position, latent)
    rows = opened.blocks.num_rows
    clean = opened.loss_with(torch.zeros(rows, opened.sae.d_out, dtype=torch.float64))
    silent = 0
    for number in range(len(block)):
        direction, value = opened.written(int(row[number]), int(latent[number]))
        changes = torch.zeros(rows, opened.sae.d_out, dtype=torch.float64)
        changes[row[number]] = -direction
        after = opened.loss_with(changes)
        expected = after - clean
        assert float(found[number]) == pytest.approx(expected[block[number]], rel=1e-3, abs=1e-5)
        assert expected.sum() == pytest.approx(expected[block[number]], abs=1e-9)  # no other block notices
        if value == 0:
            silent += 1
            assert float(found[number]) == 0
    assert 0 < silent < len(block)
    assert float(found.abs().max()) > 1e-2


def test_removals_together_are_as_each_alone():
    opened = Opened("mlp_out", "llama", forward_blocks=3)
    block, position = opened.blocks.keep.nonzero(as_tuple=True)
    latent = opened.sae.encode(opened.reads()).argmax(dim=1)  # active nearly everywhere
    order = torch.randperm(len(block), generator=torch.Generator().manual_seed(1))[:20]
    firings = block[order], position[order], latent[order]
    together = opened.effects.exact(opened.blocks, *firings)
    alone = [opened.effects.exact(opened.blocks, *(part[number : number + 1] for part in firings)) for number in range(20)]
    assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)
    assert int((together != 0).sum()) > 12


@pytest.mark.parametrize("place", PLACES)
def test_estimates_approach_removals_as_activations_shrink(place):
    opened = Opened(place)
    with torch.no_grad():
        opened.sae.W_dec.mul_(1e-2)
    x = opened.reads()
    acts = encode_positive(opened.sae, x)
    estimates = opened.effects.estimate(acts, opened.effects.gradients(opened.blocks), x)
    chosen = estimates.abs().topk(12).indices
    block, position = opened.blocks.keep.nonzero(as_tuple=True)
    row = acts.pattern.rows[chosen].long()
    exact = opened.effects.exact(opened.blocks, block[row], position[row], acts.indices[chosen])
    assert_close(estimates[chosen].double(), exact, rtol=0.06, atol=2e-5)
    assert float(exact.abs().min()) > 1e-4


@pytest.mark.parametrize("family", DECODERS)
def test_every_family_of_models_has_gradients(family):
    opened = Opened(family=family)
    seen = opened.effects.run(opened.blocks)
    direction = torch.randn(seen.gradients.shape, dtype=torch.float64)
    ends = [opened.loss_with(sign * 3e-3 * direction).sum() for sign in (1, -1)]
    assert float((seen.gradients * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 6e-3, rel=3e-3, abs=2e-3)
    assert_close(join_rows(seen.values, list(seen.values)), opened.reads())


def test_no_graph_and_no_hook_is_left():
    opened = Opened()
    seen = opened.effects.run(opened.blocks)
    assert not seen.gradients.requires_grad
    assert not any(value.requires_grad for value in seen.values.values())
    assert all(parameter.grad is None for parameter in (*opened.model.module.parameters(), *opened.sae.parameters()))
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in opened.model.module.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bfloat16_is_near_and_leaves_what_is_read_alone(family):
    model = tiny_model(family)
    point = resolve_hook_point(model, site="resid_post", layer=0)
    sae = ReLUSAE(d_in=D_MODEL, d_sae=LATENTS)
    plain, quick = (LossEffects(model, sae, inputs=[point], targets=[point], dtype=dtype) for dtype in (None, torch.bfloat16))
    blocks = make_blocks(5)
    one, two = plain.run(blocks), quick.run(blocks)
    assert torch.equal(two.values[point.name], one.values[point.name])
    assert two.gradients.dtype == torch.float32
    assert not torch.equal(one.gradients, two.gradients)
    cosines = torch.nn.functional.cosine_similarity(one.gradients, two.gradients, dim=1)[one.gradients.norm(dim=1) > 1e-3]
    assert float(cosines.min()) > 0.99
    assert quick.describe() != plain.describe()
    weight = next(parameter for parameter in model.module.parameters() if parameter.ndim == 2)
    assert torch.nn.functional.linear(weight.new_ones(1, D_MODEL), weight).grad_fn is None  # the context is closed again
    again = quick.run(blocks)
    assert torch.equal(again.gradients, two.gradients)


def test_refusals():
    encoder = tiny_model("bert")
    point = resolve_hook_point(encoder, site="resid_post", layer=1)
    sae = ReLUSAE(d_in=D_MODEL, d_sae=LATENTS)
    with pytest.raises(UserError, match="BertModel has no language modelling head"):
        LossEffects(encoder, sae, inputs=[point], targets=[point])
    assert no_effects_reason([encoder]) == "BertModel has no language modelling head"
    opened = Opened()
    assert no_effects_reason([opened.model]) is None
    assert "two models" in str(no_effects_reason([opened.model, opened.model]))
    with pytest.raises(ValueError, match=r"reads 24 and writes 24 dimensions, the hook points have \[24, 48\]"):
        LossEffects(opened.model, sae, inputs=opened.inputs, targets=opened.inputs * 2)
    with pytest.raises(ValueError, match="special token or padding"):
        opened.effects.exact(opened.blocks, torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    nothing = torch.zeros(0, dtype=torch.int64)
    assert opened.effects.exact(opened.blocks, nothing, nothing, nothing).shape == (0,)
    normed = Opened("layer_norm")
    acts = encode_positive(normed.sae, normed.reads())
    with pytest.raises(ValueError, match="give x"):
        normed.effects.estimate(acts, normed.effects.gradients(normed.blocks))
