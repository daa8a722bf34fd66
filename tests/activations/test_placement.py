"""Where chunks of rows lie, by the memory that a device has free."""

import pytest
import torch

from sae.activations.placement import Placement
from sae.errors import UserError
from sae.functional.devices import CPU

GPU = torch.device("cuda:0")
TWO_CHUNKS = 2 * 1000 * 50


@pytest.fixture
def free(monkeypatch):
    """Says how much memory is free on every GPU."""

    def set_free(free_bytes):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, 10**12))

    return set_free


def choose(wanted, device=GPU, *, step_bytes=0, from_disk=False):
    return Placement.choose(wanted, device, row_bytes=50, chunk_rows=1000, step_bytes=step_bytes, from_disk=from_disk)


@pytest.mark.parametrize(("free_bytes", "device"), [(2 * TWO_CHUNKS, GPU), (2 * TWO_CHUNKS - 1, CPU)])
def test_auto_takes_half_of_what_is_free(free_bytes, device, free):
    free(free_bytes)
    assert choose("auto") == Placement(device=device, chunk_bytes=TWO_CHUNKS)


@pytest.mark.parametrize(("step_bytes", "device"), [(300, GPU), (301, CPU)])
def test_auto_leaves_room_for_the_steps(step_bytes, device, free):
    free(2 * TWO_CHUNKS + 300)
    assert choose("auto", step_bytes=step_bytes).device == device


def test_auto_leaves_rows_of_a_store_on_the_cpu_and_model_does_not(free):
    free(10**12)
    assert choose("auto", from_disk=True).device == CPU
    assert choose("model", from_disk=True).device == GPU


@pytest.mark.parametrize("wanted", ["auto", "cpu", "model"])
def test_a_model_on_the_cpu_has_its_rows_there(wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", None)
    assert choose(wanted, CPU) == Placement(device=CPU, chunk_bytes=TWO_CHUNKS)


def test_cpu_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", None)
    assert choose("cpu").device == CPU


def test_a_device_that_does_not_tell_its_memory_is_taken_only_by_name():
    metal = torch.device("mps")
    assert choose("auto", metal).device == CPU
    assert choose("model", metal).device == metal


def test_rows_that_do_not_fit_are_refused_by_name(free):
    free(TWO_CHUNKS)
    assert choose("model").device == GPU
    free(TWO_CHUNKS - 1)
    with pytest.raises(UserError, match=r"2 chunks of 1000 rows take .* are free on cuda:0\. Lower activations\.chunk_tokens"):
        choose("model")


def test_in_words():
    assert str(Placement(device=GPU, chunk_bytes=600_000_000)) == "0.6 GB of it 2 chunks of rows on cuda:0"
