"""Where passing over decoder rows without a gradient can be had: where steps do not read the whole decoder anyway."""

import torch
from torch import nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.crosscoder import CrosscoderSAE
from sae.errors import UserError
from sae.losses.objective import Objective
from sae.training.kernels import PassChoice
from sae.training.recipe import Recipe

__all__ = ["against_lazy_decoder", "refuse_lazy_decoder"]


def against_lazy_decoder(
    sae: SparseAutoencoder, objective: Objective, recipe: Recipe, passes: PassChoice, device: torch.device
) -> list[str]:
    """Why `optimizer.lazy_decoder=true` is not made for this, or would cost time; its numbers would be right all the same.

    Args:
        sae: to be trained.
        objective: its terms.
        recipe: of its training.
        passes: dense or sparse.
        device: where it will be trained.
    """
    readers, name = objective.decoder_readers(), type(sae).__name__
    found = [
        (device.type != "cpu", f"is made for trainer.device=cpu, got {device.type}"),
        (not passes.able, f"needs a sparse pass, and {name} with these terms trains by dense products only"),
        (passes.settings.kernels == "dense", "needs a sparse pass: take trainer.kernels=auto or sparse"),
        (passes.settings.compile, "does not go with trainer.compile=true, which compiles dense passes"),
        (
            isinstance(sae, CrosscoderSAE) and sae.shared_latents > 0,
            "is not made for sae.shared_fraction above 0, which holds parts of decoder rows equal",
        ),
        (not _has_encoder(sae), f"saves nothing where the decoder encodes too, as in {name}"),
        (bool(readers), f"saves nothing with terms that read every decoder row: {', '.join(readers)}"),
        (
            recipe.average_half_life is not None,
            "saves nothing with sae.average_half_life, which reads all weights",
        ),
    ]
    return [f"optimizer.lazy_decoder=true {reason}. Or set optimizer.lazy_decoder=false" for holds, reason in found if holds]


def refuse_lazy_decoder(
    sae: SparseAutoencoder, objective: Objective, recipe: Recipe, passes: PassChoice, device: torch.device
) -> None:
    """As `against_lazy_decoder`.

    Raises:
        UserError: there is something against it.
    """
    against = against_lazy_decoder(sae, objective, recipe, passes, device)
    if against:
        raise UserError("\n".join(against))


def _has_encoder(sae: nn.Module) -> bool:
    return any(name == "W_enc" for name, _ in sae.named_parameters())
