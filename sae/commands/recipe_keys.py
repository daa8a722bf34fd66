"""The keys of an `sae` node that describe its training, beside each other."""

from collections.abc import Mapping
from typing import Any

__all__ = ["other_units"]

OTHER_UNITS = ("unit", "none")  # scalings that do not bring rows to a size that goes with sqrt(d_in)


def other_units(rest: Mapping[str, Any], *, written: Mapping[str, Any]) -> list[str]:
    """What the architecture's own file gives for rows of its own scaling, beside another that makes it mean something else.

    Args:
        rest: keys and values of the node.
        written: those of the architecture's own file.
    """
    scaling, own = rest.get("scaling"), written.get("scaling")
    of_rows = ("threshold_start", "bandwidth", *(["l0_coefficient"] if rest.get("l0_steering") == "price" else []))
    kept = [key for key in of_rows if written.get(key) is not None and rest.get(key) == written[key]]
    if scaling not in OTHER_UNITS or "threshold_start" not in written or not kept:
        return []
    size = "1" if scaling == "unit" else "their root mean square distance from their mean"
    return [
        f"sae.scaling={scaling} with {', '.join(f'sae.{key}={rest[key]:g}' for key in kept)}: these are for rows of "
        f"sae.scaling={own}, and with others JumpReLU hardly trains. Set sae.scaling={own}, or give all of "
        f"{', '.join(f'sae.{key}' for key in of_rows)} for these rows: lengths (and sae.pre_act_coefficient) times s / "
        f"sqrt(d_in), sae.l0_coefficient times s^2 / d_in, with s = {size}"
    ]
