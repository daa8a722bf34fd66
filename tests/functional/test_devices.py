"""What is asked of a device."""

import time

import pytest
import torch

from sae.functional import devices


@pytest.mark.parametrize(("device", "waits"), [("cuda:1", ["cuda:1"]), ("cpu", [])])
def test_the_clock_waits_for_a_gpu_before_it_is_read(device, waits, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(waited)))
    assert devices.clock(torch.device(device)) == len(waits)
    assert waited == waits
