import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.transcoder import TranscoderSAE
from sae.dashboards.collect.codes import CollectedCodes, write_chunk
from sae.dashboards.collect.plan import MANIFEST, CollectPlan
from sae.dashboards.latents.by_latent import ENTRY_BYTES, buckets, count, gather
from tests.cases import ramp
from tests.dashboards.latents.synthetic import some_codes
from tests.dashboards.latents.test_pages import pages
from tests.reference import dashboards as twin


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=30), step=st.integers(1, 7), limit=st.integers(1, 40))
def test_buckets_hold_every_latent_once_and_no_more_than_allowed(counts, step, limit):
    ranges = buckets(np.array(counts), step=step, memory_bytes=2 * limit * ENTRY_BYTES)
    assert [latent for first, end in ranges for latent in range(first, end)] == list(range(len(counts)))
    for first, end in ranges:
        assert first % step == 0
        assert sum(counts[first:end]) <= limit or sum(counts[end - 1 - (end - 1) % step : end]) == sum(counts[first:end])


@pytest.mark.parametrize(("first", "end"), [(0, 11), (2, 5), (0, 1), (10, 11)])
def test_entries_are_in_order_of_latent_and_row(first, end):
    codes = some_codes(chunk_blocks=3)
    counted, found = count(codes), twin.firings(codes)
    assert counted.fired.tolist() == [len(own) for own in found]
    rows = [firing["row"] for own in found for firing in own]
    assert counted.active.tolist() == [rows.count(row) for row in range(codes.blocks.num_rows)]
    entries = gather(codes, counted.fired, first, end)
    assert len(entries) == end - first
    for latent in range(first, end):
        one = entries.narrow(latent, latent + 1)
        assert (one.first, len(one)) == (latent, 1)
        assert one.rows.tolist() == [firing["row"] for firing in found[latent]]
        assert one.values.tolist() == [firing["value"] for firing in found[latent]]
        assert one.effects is not None
        assert one.effects.tolist() == [firing["effect"] for firing in found[latent]]


@pytest.mark.parametrize("effects", [True, False])
def test_codes_on_the_disk_give_the_pages_of_codes_in_memory(tmp_path, effects):
    codes = some_codes(effects=effects)
    plan = CollectPlan(
        belongs_to={},
        sae_sha256="",
        architecture="ReLUSAE",
        num_latents=codes.num_latents,
        hook_points=("layers.1.resid_post",),
        blocks_sha256=codes.blocks.fingerprint(),
        num_blocks=len(codes.blocks),
        context_length=codes.blocks.context_length,
        num_rows=codes.blocks.num_rows,
        chunk_blocks=5,
        effects={} if effects else None,
    )
    (tmp_path / MANIFEST).write_text(plan.to_json())
    for number in range(len(codes)):
        write_chunk(tmp_path, number, codes.chunk(number), plan)
    found, expected = pages(CollectedCodes(tmp_path)), pages(codes)
    assert list(found.latent_shards()) == list(expected.latent_shards())
    assert list(found.index_shards()) == list(expected.index_shards())


def test_a_target_of_another_width_or_of_several_parts():
    """Their decoder rows have neighbours, neurons and a place on the map like any others."""
    transcoder = TranscoderSAE(d_in=3, d_out=7, d_sae=11, k=4)
    crosscoder = CrosscoderSAE(widths=(3, 4), d_sae=11)
    for sae in (transcoder, crosscoder):
        sae.W_dec.data.copy_(ramp(11, 7))
        found = pages(some_codes(), sae=sae)
        records = [record for shard in found.latent_shards() for record in shard["latents"]]
        assert all(record["logits"] is None for record in records)
        assert {neuron["dimension"] for record in records for neuron in record["neurons"]} == set(range(7))
        assert np.isfinite(found.map[0][1:]).all()
    logits = pages(some_codes(), sae=transcoder, unembedding=torch.ones(19, 7))
    assert all(record["logits"] is not None for shard in logits.latent_shards() for record in shard["latents"])
