"""What an architecture reads and predicts, by the sizes that its constructor asks for, and how it is told to be sparse."""

from sae.commands.binding import parameters_of
from sae.commands.entry import compose
from sae.formats.registry import ARCHITECTURES, FITTED

__all__ = ["TRAINED", "has_target", "pairs_layers", "reads_several", "sparsity_key"]

TRAINED = tuple(name for name in ARCHITECTURES if name not in FITTED)  # those with a file in conf/sae


def sparsity_key(architecture: str) -> str:
    """By which key of `conf/sae/NAME.yaml` a user says how many latents are active.

    Returns:
        `k` or `l0_target` where the file gives it a number, else `l1_coefficient`.
    """
    keys = compose("train", [f"sae={architecture}"])["sae"]
    return next((key for key in ("k", "l0_target") if isinstance(keys.get(key), int | float)), "l1_coefficient")


def has_target(architecture: str | None) -> bool:
    """Whether an architecture predicts another activation than it reads."""
    return _takes(architecture, "d_out") or pairs_layers(architecture)


def reads_several(architecture: str | None) -> bool:
    """Whether an architecture reads several activations side by side."""
    return _takes(architecture, "widths")


def pairs_layers(architecture: str | None) -> bool:
    """Whether an architecture predicts an activation of each layer that it reads."""
    return _takes(architecture, "target_widths")


def _takes(architecture: str | None, keyword: str) -> bool:
    return architecture in ARCHITECTURES and keyword in parameters_of(ARCHITECTURES[str(architecture)])
