"""One list of architectures and one of terms of the loss: a line here gives each its whole contract suite.

`tests/architectures/test_contract.py` runs over the one, `tests/losses/test_contract.py` over the other.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.affine import AffineSAE
from sae.architectures.base import SparseAutoencoder
from sae.formats.registry import ARCHITECTURES
from sae.functional.connections import keep_written_

# Never equal, and no two sums or products of them either: a transposed or mixed-up axis cannot go unseen.
ROWS, D_IN, D_SAE = 17, 5, 13


@dataclass(frozen=True)
class Case:
    """One architecture with settings.

    Attributes:
        name: in test ids.
        architecture: in the registry.
        settings: keywords of its constructor beside the sizes.
        smooth: whether autograd's gradient is the derivative; False where a part of it is straight-through.
        still: parameters that squared error and L1 give no gradient.
    """

    name: str
    architecture: str
    settings: dict[str, Any]
    smooth: bool = True
    still: tuple[str, ...] = ()


JUMP = {"threshold_start": 0.3, "bandwidth": 0.7}

CASES = [
    Case("relu", "relu", {}),
    Case("relu_without_input_bias", "relu", {"apply_b_dec_to_input": False}),
    Case("relu_layer_norm", "relu", {"layer_norm": True}),
    Case("gated", "gated", {}, still=("b_enc",)),
    Case("gated_without_input_bias", "gated", {"apply_b_dec_to_input": False}, still=("b_enc",)),
    Case("topk", "topk", {"k": 6}),
    Case("topk_layer_norm", "topk", {"k": 6, "layer_norm": True}),
    Case("batch_topk", "batch_topk", {"k": 4}),
    Case("batch_topk_without_input_bias", "batch_topk", {"k": 4, "apply_b_dec_to_input": False}),
    Case("jumprelu_raw", "jumprelu", {**JUMP, "threshold_form": "raw", "through_pre_acts": False}, smooth=False),
    Case("jumprelu_log", "jumprelu", {**JUMP, "threshold_form": "log", "through_pre_acts": True}, smooth=False),
    Case("matryoshka", "matryoshka", {"k": 4, "group_sizes": (2, 4, 7)}),
    Case("matryoshka_relu", "matryoshka", {"activation": "relu", "k": None, "group_sizes": (5, 8)}),
    Case("matryoshka_topk", "matryoshka", {"activation": "topk", "k": 6, "group_sizes": (3, 10)}),
    Case(
        "matryoshka_jumprelu", "matryoshka", {"activation": "jumprelu", "k": None, "group_sizes": (13,), **JUMP}, smooth=False
    ),
    Case("matching_pursuit", "matching_pursuit", {"k": 9}),
    Case("transcoder", "transcoder", {"k": 6}),
    Case("transcoder_skip", "transcoder", {"activation": "relu", "k": None, "skip": True}),
    Case("sparse_coding", "sparse_coding", {"l1_coefficient": 0.05, "tolerance": 1e-13}),
    Case("crosscoder", "crosscoder", {}),
    Case("crosscoder_batch_topk", "crosscoder", {"activation": "batch_topk", "k": 4}),
    Case("cross_layer_transcoder", "cross_layer_transcoder", {"activation": "jumprelu", **JUMP}, smooth=False),
    Case("cross_layer_transcoder_relu", "cross_layer_transcoder", {}),
    Case("cross_layer_transcoder_topk", "cross_layer_transcoder", {"activation": "topk", "k": 6}),
    Case("cross_layer_transcoder_batch_topk", "cross_layer_transcoder", {"activation": "batch_topk", "k": 4}),
]


@dataclass(frozen=True)
class TermCase:
    """One term of the loss with settings.

    Attributes:
        term: in the registry.
        case: name of the case whose SAE it is a term of.
        settings: keywords of its constructor.
        row_wise: whether a row's value is its own; False where it depends on the batch, which must then be seen.
    """

    term: str
    case: str
    settings: dict[str, Any] = field(default_factory=dict)
    row_wise: bool = True


TERM_CASES = [
    TermCase("mse", "relu"),
    TermCase("mse", "matching_pursuit"),
    TermCase("nested", "matryoshka_topk", {"empty_prefix": True}),
    TermCase("nested", "matryoshka_relu", {"reduction": "sum"}),
    TermCase("multi_topk", "topk", {"multiple": 2}),
    TermCase("multi_topk", "batch_topk", {"multiple": 2}),
    TermCase("gate", "gated"),
    TermCase("gate", "gated", {"through_decoder": True}),
    TermCase("l0", "jumprelu_log"),
    TermCase("l0", "jumprelu_raw", {"target": 3.0}, row_wise=False),
    TermCase("l0", "matryoshka_jumprelu", {"target": 3.0, "steering": "price"}),
    TermCase("l1", "relu"),
    TermCase("l1", "topk", {"weighting": "decoder_norm"}),
    TermCase("l1", "crosscoder", {"weighting": "part_norms"}),
    TermCase("l1", "gated", {"on": "pre_acts", "weighting": "frozen_decoder_norm"}),
    TermCase("l1", "topk", {"on": "pre_acts"}),
    TermCase("lp", "relu", {"p": 0.5}),
    TermCase("lp", "gated", {"p": 0.2}),
    TermCase("lp", "matryoshka_relu", {"p": 0.3, "weighting": "decoder_norm"}),
    TermCase("tanh", "gated"),
    TermCase("tanh", "matching_pursuit", {"weighting": "none"}),
    TermCase("auxk", "topk", row_wise=False),
    TermCase("auxk", "transcoder_skip", {"k_aux": 2, "normalisation": "none"}),
    TermCase("ghost", "relu"),
    TermCase("ghost", "transcoder_skip"),
    TermCase("pre_act", "jumprelu_raw"),
    TermCase("pre_act", "gated"),
    TermCase("pre_act", "matryoshka_relu"),
    TermCase("pre_act", "topk"),
    TermCase("pre_act", "relu", {"dead_only": True}),
    TermCase("pre_act", "jumprelu_log", {"dead_only": True}),
    TermCase("kl", "topk"),
    TermCase("downstream", "crosscoder", {"layers": 2}),
]

every_architecture = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def every_architecture_that(holds: Callable[[SparseAutoencoder], bool]) -> pytest.MarkDecorator:
    """Those cases of whose SAE something holds: a new line of `CASES` is sorted by what it is, not by its name."""
    return pytest.mark.parametrize("case", [case for case in CASES if holds(build(case))], ids=lambda case: case.name)


def ramp(*shape: int, dtype: torch.dtype = torch.float64, phase: float = 0.0) -> torch.Tensor:
    """Deterministic values between -1 and 1, all different and of full rank: ones, zeros and identities hide transposes."""
    number = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * number.square() + number + phase).reshape(shape).to(dtype)


def class_of(case: Case) -> type[SparseAutoencoder]:
    assert case.architecture in ARCHITECTURES, f"{case.architecture!r} has no name yet: add a line to sae/formats/registry.py"
    return ARCHITECTURES[case.architecture]


def sizes_for(case: Case, d_in: int, d_sae: int) -> dict[str, Any]:
    """The constructor's sizes: a transcoder's target is wider than its input, a crosscoder's parts make up d_in.

    A cross-layer transcoder reads two layers of width d_in, and has one latent more where d_sae is odd.
    """
    sizes = {"widths": (d_in - d_in // 2, d_in // 2), "d_in": d_in, "d_out": d_in + 2, "d_sae": d_sae}
    wanted = inspect.signature(class_of(case)).parameters
    if "target_widths" in wanted:
        sizes |= {"widths": (d_in, d_in), "target_widths": (d_in + 2, d_in - 1), "d_sae": d_sae + d_sae % 2}
    return {name: size for name, size in sizes.items() if name in wanted}


def build(
    case: Case, *, d_in: int = D_IN, d_sae: int = D_SAE, dtype: torch.dtype = torch.float64, **changes: Any
) -> SparseAutoencoder:
    """An SAE with every parameter filled, about half of its latents active on `rows_for` it."""
    sae = class_of(case)(**sizes_for(case, d_in, d_sae), **case.settings | changes).to(dtype)
    learnt = {id(parameter) for parameter in learnt_by_activation(sae)}
    with torch.no_grad():
        for number, parameter in enumerate(sae.parameters()):
            values = ramp(*parameter.shape, dtype=dtype, phase=number)
            if id(parameter) in learnt:  # in its range, which its start is in: around it, of its sign, and all different
                values = torch.where(parameter == 0, values, parameter * (1 + ramp(*parameter.shape, dtype=dtype, phase=7) / 3))
            parameter.copy_(values)
        keep_written_(sae.W_dec, sae.connections)
        if sae.batch_threshold is not None:
            sae.batch_threshold.copy_(0.2 + 0.1 * ramp(sae.d_sae, dtype=dtype, phase=8))
    return sae


def learnt_by_activation(sae: SparseAutoencoder) -> list[torch.Tensor]:
    """Parameters of the activation function: thresholds, as a rule."""
    return list(sae.activation_function.parameters()) if isinstance(sae, AffineSAE) else []


def learns_threshold(sae: SparseAutoencoder) -> bool:
    """Whether latents fire above thresholds that are learnt."""
    return isinstance(sae, AffineSAE) and isinstance(sae.activation_function, LearntThreshold)


def rows_for(sae: SparseAutoencoder, rows: int = ROWS, *, phase: float = 0.3) -> torch.Tensor:
    return 2 * ramp(rows, sae.d_in, dtype=sae.W_dec.dtype, phase=phase)


def target_for(sae: SparseAutoencoder, x: torch.Tensor) -> torch.Tensor:
    """The rows themselves, or something of the target's width."""
    return x.detach() if sae.d_out == sae.d_in else 2 * ramp(len(x), sae.d_out, dtype=x.dtype, phase=4.0)
