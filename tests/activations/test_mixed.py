"""Several layers as one stream, against its obvious twin: each layer harvested by itself, then interleaved row by row."""

import itertools
import json

import pytest
import torch

from sae.activations.array_rows import ArrayRows
from sae.activations.batch import ActivationRows
from sae.activations.chunks import ChunkReader
from sae.activations.harvest import Harvester
from sae.activations.joined import JoinedRows
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.row_source import RowSource, read_rows
from sae.activations.shuffle import ActivationStream
from sae.activations.store import StoreDescription, write_store
from sae.activations.stored import StoredRows
from sae.errors import UserError
from sae.models.hook_points import resolve_hook_point
from sae.tokens.windows import FiniteWindows
from tests.activations.fakes import FakeSource, make_blocks, rows_equal
from tests.activations.test_harvest import text_blocks
from tests.cases import ramp
from tests.models.tiny import tiny_model

FAMILIES = ["llama", "gpt2", "gemma3", "bert"]


def residual_points(model, layers=(1, 0, 2)):
    return [resolve_hook_point(model, site="resid_post", layer=layer) for layer in layers]


def interleaved(blocks, index, model, points, **settings) -> ActivationRows:
    """The twin: one harvest for each layer, whose rows are picked one by one."""
    alone = [Harvester(model, [point], **settings).rows(blocks, index) for point in points]
    kept = len(alone[0])
    places = [(row, layer) for row in range(kept) for layer in range(len(points))]
    return ActivationRows(
        values={MIXED: torch.stack([alone[layer].values[points[layer].name][row] for row, layer in places])},
        token=torch.stack([alone[layer].token[row] for row, layer in places]),
        position=torch.stack([alone[layer].position[row] for row, layer in places]),
        document=torch.stack([alone[layer].document[row] for row, layer in places]),
        layer=torch.tensor([layer for _, layer in places], dtype=torch.int32),
        layers=tuple(point.name for point in points),
    )


class EvenSource(FakeSource):
    """Three hook points of one width; every value says which token and hook point it is of."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.widths = {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_those_of_each_layer_by_itself(family, dtype):
    model = tiny_model(family)
    points = residual_points(model)
    settings = {"forward_blocks": 4, "dtype": dtype}
    source = MixedLayers(Harvester(model, points, **settings))
    blocks, index = text_blocks(), torch.tensor([5, 0, 12, 3, 3, 7])
    assert isinstance(source, RowSource)
    assert (source.widths, source.rows_per_position) == ({MIXED: points[0].width}, 3)
    expected = interleaved(blocks, index, model, points, **settings)
    assert rows_equal(source.rows(blocks, index), expected)
    assert rows_equal(read_rows(source, blocks, index), expected)


def test_a_store_gives_the_same_mixed_rows(tmp_path):
    model = tiny_model("bert")
    points = residual_points(model)
    blocks, settings = text_blocks(), {"forward_blocks": 4}
    live = Harvester(model, points, **settings)
    write_store(tmp_path, blocks, live, StoreDescription(model={}, hook_points={point.name: {} for point in points}))
    index = torch.tensor([2, 9, 0])
    stored = MixedLayers(StoredRows(tmp_path, hook_points=[point.name for point in points]))
    assert rows_equal(stored.rows(blocks, index), interleaved(blocks, index, model, points, **settings))
    with pytest.raises(ValueError, match="side by side"):
        write_store(tmp_path / "mixed", blocks, MixedLayers(live), StoreDescription(model={}, hook_points={}))


def test_one_layer_mixes_to_itself():
    source = EvenSource()
    source.widths = {"a": 3}
    blocks, index = make_blocks(), torch.arange(5)
    mixed, alone = MixedLayers(source).rows(blocks, index), source.rows(blocks, index)
    assert torch.equal(mixed.values[MIXED], alone.values["a"])
    assert torch.equal(mixed.layer, torch.zeros(len(alone), dtype=torch.int32))


def test_an_epoch_holds_every_vector_of_every_layer_once():
    blocks, source = make_blocks(), MixedLayers(EvenSource())
    stream = ActivationStream(FiniteWindows(blocks), source, batch_rows=1, chunk_rows=16, seed=0)
    batches = [next(stream).rows for _ in range(3 * blocks.num_rows)]
    stream.close()
    seen = [(int(rows.token), int(rows.layer)) for rows in batches]
    assert sorted(seen) == sorted((token, layer) for token in blocks.ids[blocks.keep].tolist() for layer in range(3))
    for (token, layer), rows in zip(seen, batches, strict=True):
        assert rows.values[MIXED].tolist() == [[token * 10.0 + layer, token * 10.0 + layer + 1, token * 10.0 + layer + 2]]
    neighbours = [first[0] == second[0] for first, second in itertools.pairwise(seen)]
    assert sum(neighbours) < len(neighbours) / 4  # the layers of a token are not left together


def test_a_chunk_is_as_large_in_vectors_as_asked_for():
    blocks = make_blocks()
    most = int(blocks.rows_per_block().max())
    for source, per_position in ((EvenSource(), 1), (MixedLayers(EvenSource()), 3)):
        reader = ChunkReader(FiniteWindows(blocks), source, chunk_rows=16, seed=0, max_norm_multiple=None)
        chunk = reader.read(lambda rows: None)
        assert 16 - most * per_position <= len(chunk.rows) < 16 + most * per_position


def test_a_resumed_stream_gives_the_same_batches():
    def stream():
        source = MixedLayers(EvenSource())
        return ActivationStream(
            FiniteWindows(make_blocks()), source, batch_rows=7, chunk_rows=30, seed=3, max_norm_multiple=1.5
        )

    whole = stream()
    expected = [next(whole) for _ in range(50)]
    whole.close()
    assert set(whole.norm_limits) == {"a", "b", "c"}
    for after in (0, 11, 30):
        resumed = stream()
        resumed.load_state_dict(json.loads(json.dumps(expected[after].cursor)))
        found = [next(resumed) for _ in range(after + 1, 50)]
        resumed.close()
        assert all(
            rows_equal(a.rows, b.rows) and a.cursor == b.cursor for a, b in zip(expected[after + 1 :], found, strict=True)
        )


def test_progress_is_told_in_vectors():
    told = []
    read_rows(MixedLayers(EvenSource()), make_blocks(), torch.arange(6), before_piece=told.append)
    kept = make_blocks().rows_per_block()
    assert told == [0, 3 * int(kept[:2].sum()), 3 * int(kept[:4].sum())]


def test_concatenated_rows_keep_their_layers():
    rows = MixedLayers(EvenSource()).rows(make_blocks(), torch.arange(6))
    halves = [rows.select(slice(0, 5)), rows.select(torch.arange(5, len(rows)))]
    assert rows_equal(ActivationRows.concatenate(halves), rows)
    assert rows_equal(rows.select((rows.layer == 2).nonzero().squeeze(1)), rows.select(torch.arange(2, len(rows), 3)))


def test_layers_of_different_widths_are_refused():
    three = [ArrayRows(ramp(4, width, dtype=torch.float32), name=name) for name, width in (("a", 3), ("b", 5), ("c", 3))]
    with pytest.raises(UserError, match="b has 5, the others have 3"):
        MixedLayers(JoinedRows(three))


def test_mixed_rows_are_not_mixed_again():
    with pytest.raises(ValueError, match="side by side"):
        MixedLayers(MixedLayers(EvenSource()))
