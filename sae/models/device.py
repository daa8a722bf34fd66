"""Where tensors live and in which number format, from the words that users write."""

import torch

from sae.errors import UserError

__all__ = ["resolve_device", "resolve_dtype"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """The device that a word names.

    Args:
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

    Returns:
        The device.

    Raises:
        UserError: no such device, or this machine or this build of torch has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device={device!r} is unknown: expected auto, cpu, cuda, cuda:N or mps.")
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise UserError(
            f"device={device!r} was asked for, but torch {torch.__version__} sees {count} CUDA devices here. "
            f"Use device=auto or device=cpu, or install a build of torch with CUDA."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device={device!r} was asked for, but torch {torch.__version__} has no MPS here. Use device=auto.")
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
