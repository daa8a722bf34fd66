"""Where tensors live and in which number format, from the words that users write."""

import torch

from sae.errors import UserError

__all__ = ["resolve_device", "resolve_dtype"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """The device that a word names.

    Apple's MPS is known by name, to be refused: training and metrics keep sums in float64, which it has not.

    Args:
        device: "auto" (CUDA, else the CPU), "cpu", "cuda" or "cuda:1".

    Returns:
        The device.

    Raises:
        UserError: no such device, or this machine or this build of torch has none, or it is MPS.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device={device!r} is unknown: expected auto, cpu, cuda or cuda:N.")
    if chosen.type == "mps":
        raise UserError(
            f"device={device!r} cannot be taken: sums that training and metrics keep are float64, which MPS has not. "
            f"Use device=cpu, which device=auto takes on Apple silicon."
        )
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise UserError(
            f"device={device!r} was asked for, but torch {torch.__version__} sees {count} CUDA devices here. "
            f"Use device=auto or device=cpu, or install a build of torch with CUDA."
        )
    return chosen


def resolve_dtype(dtype: str) -> torch.dtype:
    """The number format that a word names.

    Args:
        dtype: "float32", "bfloat16" or "float16".

    Returns:
        The torch dtype.

    Raises:
        UserError: the word is none of these.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r} is unknown: expected one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]
