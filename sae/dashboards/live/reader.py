"""A reader of texts that knows what a dashboard's folder knows."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.live.quantiles import QUANTILES, ActivationQuantiles
from sae.dashboards.live.requests import LIMITS
from sae.dashboards.live.subject import Subject
from sae.dashboards.live.text_page import TextReader
from sae.dashboards.pages.display import displayed_together
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel

__all__ = ["COLLECTED", "reader_of"]

COLLECTED = "collected"
"""Name, in a dashboard's folder, of the folder of collected codes."""


def reader_of(
    folder: Path,
    *,
    sae: SparseAutoencoder,
    model: LanguageModel,
    inputs: Sequence[HookPoint],
    targets: Sequence[HookPoint],
    unembedding: Float[Tensor, "vocabulary d_out"] | None,
) -> TextReader:
    """Open a reader of texts for a dashboard.

    Args:
        folder: of the dashboard; it may lack the quantiles, and pages then do too.
        sae: the SAE that it is of, taking raw activations.
        model: the model that it reads.
        inputs: the hook points that the SAE reads.
        targets: those that it predicts; the inputs, but for a transcoder.
        unembedding: direct effect of each dimension of what the decoder writes on each token's logit; None where there is none.

    Raises:
        UserError: the dashboard's quantiles are damaged, or of an SAE of another size.
    """
    collected = folder / COLLECTED
    known = (collected / QUANTILES).exists()
    return TextReader(
        Subject(model=model, sae=sae, inputs=tuple(inputs), targets=tuple(targets)),
        texts_of=displayed_together(model.tokenizer),
        quantiles=ActivationQuantiles.read(collected, num_latents=sae.d_sae) if known else None,
        unembedding=unembedding,
        max_characters=LIMITS["characters"],
        max_tokens=LIMITS["tokens"],
    )
