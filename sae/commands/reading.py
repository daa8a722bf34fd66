"""What an architecture reads and predicts, by the sizes that its constructor asks for."""

from sae.commands.binding import parameters_of
from sae.formats.registry import ARCHITECTURES

__all__ = ["has_target", "pairs_layers", "reads_several"]


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
