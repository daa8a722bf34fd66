"""Rows that stay on the model's device, on a machine without one.

A CPU takes the device's way where `host_runs_ahead` says so: every number can be compared. On `meta` tensors, which hold no
numbers, whatever would wait for one is an error, and so is an operation that mixes them with tensors of the CPU.
"""

import json

import pytest
import torch

from sae.activations.batch import ActivationRows
from sae.activations.chunks import ChunkReader
from sae.activations.harvest import Harvester
from sae.activations.joined import JoinedRows
from sae.activations.layer_units import first_chunk_units
from sae.activations.memory import copy_rows_, take_rows
from sae.activations.mixed import MixedLayers
from sae.activations.row_source import read_rows
from sae.activations.shuffle import ActivationStream
from sae.functional import devices
from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.tokens.windows import FiniteWindows
from tests.activations.fakes import FakeSource, make_blocks, rows_equal
from tests.activations.test_harvest import harvester, text_blocks
from tests.activations.test_layer_units import some_units
from tests.activations.test_mixed import EvenSource
from tests.models.tiny import tiny_model
from tests.no_waiting import NoWaiting

META = torch.device("meta")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def as_on_a_device(monkeypatch):
    monkeypatch.setattr(devices, "host_runs_ahead", lambda device: True)


def mixed(**settings):
    source = EvenSource(**settings)
    units = some_units()
    means = units.means[:, :3]
    return MixedLayers(source, type(units)(layers=tuple(source.widths), means=means, scales=units.scales))


SOURCES = {"side by side": FakeSource, "mixed": mixed}


def stream(source, *, multiple=None, device=devices.CPU, blocks=None):
    windows = FiniteWindows(blocks or make_blocks())
    return ActivationStream(windows, source, batch_rows=7, chunk_rows=16, seed=0, max_norm_multiple=multiple, device=device)


def taken(one, count=40):
    """Batches and the chunk that each ended in."""
    found = []
    for _ in range(count):
        found.append((next(one), one.current_chunk()))
    one.close()
    return found


def equal(first, second):
    return all(
        a.cursor == b.cursor and rows_equal(a.rows, b.rows) and rows_equal(chunk, other)
        for (a, chunk), (b, other) in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_copies_are_the_same_on_both_ways(dtype, monkeypatch):
    values, index = torch.randn(9, 5, dtype=torch.float64).to(dtype), torch.tensor([8, 0, 3, 3])
    by_numpy, by_torch = torch.zeros(2, 12, 5, dtype=dtype)
    copy_rows_(by_numpy, 2, values)
    taken_by_numpy = take_rows(values, index)
    as_on_a_device(monkeypatch)
    monkeypatch.setattr("sae.activations.memory._as_array", None)
    copy_rows_(by_torch, 2, values)
    assert torch.equal(by_numpy, by_torch)
    assert torch.equal(by_torch[2:11], values)
    assert torch.equal(take_rows(values, index), taken_by_numpy)
    assert torch.equal(taken_by_numpy, values[index])


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("multiple", [None, 1.5])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_batches_are_those_of_the_cpu(kind, multiple, dtype, monkeypatch):
    expected = taken(stream(SOURCES[kind](dtype=dtype), multiple=multiple))
    as_on_a_device(monkeypatch)
    monkeypatch.setattr("sae.activations.memory._as_array", None)
    found = taken(stream(SOURCES[kind](dtype=dtype), multiple=multiple))
    assert equal(expected, found)
    resumed = stream(SOURCES[kind](dtype=dtype), multiple=multiple)
    resumed.load_state_dict(json.loads(json.dumps(found[24][0].cursor)))
    assert equal(found[25:], taken(resumed, 15))


@pytest.mark.parametrize("dtype", DTYPES)
def test_harvested_rows_are_those_of_the_cpu(dtype, monkeypatch):
    blocks = text_blocks()
    expected = read_rows(harvester(dtype=dtype)[0], blocks, torch.arange(13))
    as_on_a_device(monkeypatch)
    monkeypatch.setattr("sae.activations.memory._as_array", None)
    assert rows_equal(read_rows(harvester(dtype=dtype)[0], blocks, torch.arange(13)), expected)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("multiple", [None, 1.5])
def test_no_batch_waits(kind, multiple, monkeypatch):
    as_on_a_device(monkeypatch)
    source = SOURCES[kind](dtype=torch.bfloat16)
    reader = ChunkReader(FiniteWindows(make_blocks()), source, chunk_rows=16, seed=0, max_norm_multiple=multiple)
    chunk = reader.read(lambda rows: None)
    with NoWaiting():
        parts = [chunk.batch(0, 5), chunk.batch(5, 9)]
        rows = ActivationRows.concatenate(parts)
    assert rows_equal(rows, chunk.batch(0, 9))


@pytest.fixture
def on_meta(monkeypatch):
    """Makes harvesters on `meta`. What their models give is made up: transformers reads numbers on its way."""

    def passes(model, ids, attention, hook_points):
        if model.device == devices.CPU:
            return capture(model, ids, attention, hook_points)
        return {point.name: torch.empty(*ids.shape, point.width, device=META) for point in hook_points}

    monkeypatch.setattr("sae.activations.harvest.capture", passes)

    def make(layers=(0, 1), *, seed=0):
        model = tiny_model("llama", seed)
        points = points_of(model, layers)
        model.module.to(META)
        return Harvester(model, points, forward_blocks=4, dtype=torch.bfloat16, device=META)

    return make


def points_of(model, layers=(0, 1)):
    return [resolve_hook_point(model, site="resid_post", layer=layer) for layer in layers]


@pytest.mark.parametrize("mix", [False, True])
def test_neither_harvest_nor_batches_wait_or_leave_the_device(mix, on_meta):
    """All of a stream but outliers' norms, whose limit the host must know."""
    model = tiny_model("llama")
    on_cpu = Harvester(model, points_of(model), forward_blocks=4)
    sources = [on_meta(), on_cpu]
    if mix:
        units = first_chunk_units(FiniteWindows(text_blocks()), on_cpu, "both", chunk_rows=100, seed=0)
        sources = [MixedLayers(source, units) for source in sources]
    one, other = (
        stream(source, device=device, blocks=text_blocks()) for source, device in zip(sources, (META, devices.CPU), strict=True)
    )
    for _ in range(30):
        found, wanted = next(one), next(other)
        assert found.cursor == wanted.cursor
        assert all(values.device == META and values.dtype == torch.float32 for values in found.rows.values.values())
        assert {name: rows.shape for name, rows in found.rows.values.items()} == {
            name: rows.shape for name, rows in wanted.rows.values.items()
        }
        for part in ("token", "position", "document", "layer"):
            ours, theirs = getattr(found.rows, part), getattr(wanted.rows, part)
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    one.close()
    other.close()


def test_two_models_join_on_their_device(on_meta):
    one = stream(JoinedRows([on_meta([0]), on_meta([1], seed=1)]), device=META, blocks=text_blocks())
    rows = next(one).rows
    one.close()
    assert {values.device for values in rows.values.values()} == {META}
    assert len(rows.values) == 2


def test_rows_of_a_store_go_to_the_device_chunk_by_chunk():
    """A source on the CPU, chunks on the device."""
    one = stream(FakeSource(), device=META)
    assert {values.device for values in next(one).rows.values.values()} == {META}
    one.close()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("mix", [False, True])
def test_a_gpu_gives_the_batches_that_come_by_way_of_the_cpu(dtype, mix):
    """The same passes of the model on the GPU; rows that stay there, and rows that go to main memory."""
    gpu, found = torch.device("cuda:0"), []
    for device in (gpu, devices.CPU):
        model = tiny_model("llama")
        model.module.to(gpu)
        source = Harvester(model, points_of(model), forward_blocks=4, dtype=dtype, device=device)
        if mix:
            units = first_chunk_units(FiniteWindows(text_blocks()), source, "both", chunk_rows=100, seed=0)
            source = MixedLayers(source, units)
        one = stream(source, device=device, blocks=text_blocks())
        found.append([next(one).rows for _ in range(30)])
        one.close()
    for on_device, on_cpu in zip(*found, strict=True):
        assert all(values.device == gpu for values in on_device.values.values())
        for name, values in on_cpu.values.items():
            assert torch.equal(on_device.values[name].cpu(), values)
        assert torch.equal(on_device.token, on_cpu.token)


@pytest.mark.gpu
def test_no_batch_waits_on_a_gpu():
    gpu = torch.device("cuda:0")
    reader = ChunkReader(FiniteWindows(make_blocks()), FakeSource(), chunk_rows=16, seed=0, max_norm_multiple=1.5, device=gpu)
    chunk = reader.read(lambda rows: None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        chunk.batch(0, 5)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_units_are_estimated_of_rows_on_the_device(monkeypatch):
    def units():
        return first_chunk_units(FiniteWindows(make_blocks()), EvenSource(), "both", chunk_rows=40, seed=0)

    expected = units()
    as_on_a_device(monkeypatch)
    assert torch.equal(units().means, expected.means)
    assert torch.equal(units().scales, expected.scales)
