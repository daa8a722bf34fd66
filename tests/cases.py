"""One list of architectures: a line here gives an architecture the whole suite of `tests/architectures/test_contract.py`."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sae.architectures.base import SparseAutoencoder
from sae.formats.registry import architecture_class

# Never equal, and no two sums or products of them either: a transposed or mixed-up axis cannot go unseen.
ROWS, D_IN, D_SAE = 17, 5, 13


@dataclass(frozen=True)
class Case:
    name: str
    architecture: str
    settings: dict[str, Any]


CASES = [
    Case("relu", "relu", {}),
    Case("relu_without_input_bias", "relu", {"apply_b_dec_to_input": False}),
]

every_architecture = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def ramp(*shape: int, dtype: torch.dtype = torch.float64, phase: float = 0.0) -> torch.Tensor:
    """Deterministic values between -1 and 1, all different and of full rank: ones, zeros and identities hide transposes."""
    number = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * number.square() + number + phase).reshape(shape).to(dtype)


def build(case: Case, *, d_in: int = D_IN, d_sae: int = D_SAE, dtype: torch.dtype = torch.float64) -> SparseAutoencoder:
    """An SAE with every parameter filled, about half of its latents active on `rows_for` it."""
    sae = architecture_class(case.architecture)(d_in=d_in, d_sae=d_sae, **case.settings).to(dtype)
    with torch.no_grad():
        for number, parameter in enumerate(sae.parameters()):
            parameter.copy_(ramp(*parameter.shape, dtype=dtype, phase=number))
    return sae


def rows_for(sae: SparseAutoencoder, rows: int = ROWS, *, phase: float = 0.3) -> torch.Tensor:
    return 2 * ramp(rows, sae.d_in, dtype=sae.W_enc.dtype, phase=phase)
