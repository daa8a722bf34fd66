"""The architectures that a saved file may name. Files hold these names, never a class path: loading imports nothing else.

A new architecture is a line in `ARCHITECTURES`; `conf/sae/NAME.yaml` and a line in `tests/cases.py` go with it (README, "Adding
an architecture"). One that is not trained by gradient has a line in `FITTED` in place of the YAML.
"""

import difflib

from sae.architectures.base import SparseAutoencoder
from sae.architectures.batch_topk import BatchTopKSAE
from sae.architectures.cross_layer_transcoder import CrossLayerTranscoderSAE
from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.gated import GatedSAE
from sae.architectures.jumprelu import JumpReLUSAE
from sae.architectures.matching_pursuit import MatchingPursuitSAE
from sae.architectures.matryoshka import MatryoshkaSAE
from sae.architectures.relu import ReLUSAE
from sae.architectures.sparse_coding import SparseCodingSAE
from sae.architectures.topk import TopKSAE
from sae.architectures.transcoder import TranscoderSAE
from sae.errors import UserError

__all__ = ["ARCHITECTURES", "FITTED", "architecture_class", "architecture_name"]

ARCHITECTURES: dict[str, type[SparseAutoencoder]] = {
    "relu": ReLUSAE,
    "gated": GatedSAE,
    "topk": TopKSAE,
    "batch_topk": BatchTopKSAE,
    "jumprelu": JumpReLUSAE,
    "matryoshka": MatryoshkaSAE,
    "matching_pursuit": MatchingPursuitSAE,
    "transcoder": TranscoderSAE,
    "crosscoder": CrosscoderSAE,
    "cross_layer_transcoder": CrossLayerTranscoderSAE,
    "sparse_coding": SparseCodingSAE,
}

# Architectures that are not trained by gradient, with what fits them.
FITTED = {"sparse_coding": "python scripts/factors.py (from Python: sae.factors.dictionary_fit.DictionaryFit)"}


def architecture_class(name: object) -> type[SparseAutoencoder]:
    """The class of an architecture.

    Raises:
        UserError: there is none of that name; the message has the nearest and all.
    """
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(str(name), ARCHITECTURES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"unknown architecture {name!r}.{hint} This version knows: {', '.join(sorted(ARCHITECTURES))}.")


def architecture_name(sae: SparseAutoencoder) -> str:
    """The name that files use for this SAE's architecture.

    Raises:
        ValueError: its class is not in `ARCHITECTURES`, so that nothing could load it again.
    """
    for name, architecture in ARCHITECTURES.items():
        if type(sae) is architecture:
            return name
    raise ValueError(f"{type(sae).__name__} is not in sae.formats.registry.ARCHITECTURES: add it there to save it")
