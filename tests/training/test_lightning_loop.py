"""What Lightning's trainer is told."""

import pytest
import torch

from sae.training import lightning_loop
from tests.training.tiny import Run


class Told(Exception):
    """Lightning's trainer would be made now."""


def test_auto_never_is_apples_gpu(tmp_path, monkeypatch):
    """Lightning's own "auto" would take it, and the SAE's float64 sums could not go there."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def trainer(*, accelerator, **others):
        raise Told(accelerator)

    monkeypatch.setattr(lightning_loop.L, "Trainer", trainer)
    with pytest.raises(Told, match=r"^cpu$"):
        Run(tmp_path, device="auto").go()
