import threading

import pytest
import torch

from sae.activations.harvest import Harvester
from sae.activations.row_source import RowSource, read_rows
from sae.activations.shuffle import ActivationStream
from sae.errors import UserError
from sae.functional.float32_products import rounded_products
from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.tokens.blocks import TokenBlocks
from sae.tokens.windows import FiniteWindows
from tests.activations.fakes import rows_equal
from tests.models.tiny import CONTEXT, LAYERS, VOCABULARY, tiny_model

FAMILIES = ["llama", "gpt2", "gemma3", "bert"]


def text_blocks(num_blocks=13):
    """Random text, every third block padded on the right; the first position is special."""
    ids = torch.randint(3, VOCABULARY, (num_blocks, CONTEXT), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    attention = torch.ones(num_blocks, CONTEXT, dtype=torch.bool)
    attention[::3, CONTEXT - 5 :] = False
    keep = attention.clone()
    keep[:, 0] = False
    document = torch.where(attention, torch.arange(num_blocks)[:, None], -1)
    return TokenBlocks(ids=torch.where(attention, ids, 0).int(), attention=attention, keep=keep, document=document)


def harvester(family="llama", **settings):
    model = tiny_model(family)
    points = [resolve_hook_point(model, site="resid_post", layer=1), resolve_hook_point(model, site="mlp_out", layer=0)]
    return Harvester(model, points, **{"forward_blocks": 4, **settings}), model, points


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_has_the_same_bits_in_any_company(family):
    source, *_ = harvester(family)
    blocks = text_blocks()
    assert isinstance(source, RowSource)
    alone = [source.rows(blocks, torch.tensor([number])) for number in range(len(blocks))]
    for index in (
        torch.arange(13),
        torch.arange(12, -1, -1),
        torch.tensor([0, 1, 2]),
        torch.tensor([5, 4, 7, 8, 0, 3, 6, 9, 12]),
    ):
        together = source.rows(blocks, index)
        expected = type(together).concatenate([alone[number] for number in index.tolist()])
        assert rows_equal(together, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_models_activations_at_kept_positions(family):
    source, model, points = harvester(family)
    blocks = text_blocks()
    index = torch.tensor([7, 3, 0])
    rows = source.rows(blocks, index)
    expected = capture(model, blocks.ids[index], blocks.attention[index], points)
    keep = blocks.keep[index]
    assert list(rows.values) == [point.name for point in points]
    for name, width in source.widths.items():
        assert rows.values[name].shape == (int(keep.sum()), width)
        torch.testing.assert_close(rows.values[name], expected[name][keep])
    assert torch.equal(rows.token, blocks.ids[index][keep])
    assert torch.equal(rows.document, blocks.document[index][keep])
    assert torch.equal(rows.position, torch.arange(CONTEXT).expand(3, -1)[keep].int())


def test_every_forward_pass_has_one_shape(monkeypatch):
    shapes = []

    def listen(model, ids, attention, hook_points):
        shapes.append((tuple(ids.shape), tuple(attention.shape)))
        return capture(model, ids, attention, hook_points)

    monkeypatch.setattr("sae.activations.harvest.capture", listen)
    source, *_ = harvester()
    source.rows(text_blocks(), torch.arange(6))
    assert shapes == [((4, CONTEXT), (4, CONTEXT))] * 2


def test_reading_in_pieces_changes_nothing():
    source, *_ = harvester()
    blocks = text_blocks()
    told: list[int] = []
    rows = read_rows(source, blocks, torch.arange(13), before_piece=told.append)
    assert rows_equal(rows, source.rows(blocks, torch.arange(13)))
    assert told == [int(blocks.keep[:first].sum()) for first in (0, 4, 8, 12)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_a_rounding_of_the_same_numbers(dtype):
    blocks, index = text_blocks(), torch.arange(5)
    full, half = harvester()[0].rows(blocks, index), harvester(dtype=dtype)[0].rows(blocks, index)
    assert all(torch.equal(half.values[name], full.values[name].to(dtype)) for name in full.values)
    streamed = read_rows(harvester(dtype=dtype)[0], blocks, index)
    assert rows_equal(streamed, half)


def test_numbers_too_large_for_float16_are_refused():
    source, model, _ = harvester(dtype=torch.float16)
    with torch.no_grad():
        model.module.get_input_embeddings().weight *= 1e6
    with pytest.raises(UserError, match=r"float16.*activations\.dtype"):
        source.rows(text_blocks(), torch.arange(2))


def test_forward_blocks_below_one_is_refused():
    with pytest.raises(UserError, match="forward_blocks"):
        harvester(forward_blocks=0)


def test_rows_can_be_trained_on_and_the_model_stays_frozen():
    source, model, _ = harvester()
    rows = source.rows(text_blocks(), torch.arange(2))
    values = next(iter(rows.values.values()))
    assert not values.requires_grad
    assert not values.is_inference()
    assert model.num_layers == LAYERS
    weight = torch.ones(values.shape[1], requires_grad=True)
    (values @ weight).sum().backward()
    assert weight.grad is not None


def test_two_runs_give_the_same_batches_and_two_seeds_do_not():
    def batches(seed):
        stream = ActivationStream(FiniteWindows(text_blocks()), harvester()[0], batch_rows=9, chunk_rows=50, seed=seed)
        found = [next(stream).rows for _ in range(12)]
        stream.close()
        return found

    assert all(rows_equal(a, b) for a, b in zip(batches(0), batches(0), strict=True))
    assert not rows_equal(batches(0)[0], batches(1)[0])


def test_rows_are_not_rounded_by_a_step_that_goes_on_meanwhile():
    source, _, _ = harvester()
    blocks = text_blocks(3)
    found = []
    thread = threading.Thread(target=lambda: found.append(source.rows(blocks, torch.arange(3))))
    with rounded_products():
        thread.start()
        thread.join(0.2)
        assert found == []
    thread.join(20)
    assert len(found) == 1
