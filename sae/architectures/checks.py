"""Settings of architectures that cannot be: refused in the names of their keywords."""

__all__ = ["check_flag", "check_k", "check_size"]


def check_size(name: str, value: object) -> None:
    """Refuse a size that is not a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is true or false, got {value!r}")


def check_k(k: int, d_sae: int) -> int:
    """K, if a row may use so many of d_sae latents.

    Raises:
        ValueError: it may not.
    """
    check_size("d_sae", d_sae)
    if isinstance(k, bool) or not isinstance(k, int) or not 0 < k <= d_sae:
        raise ValueError(f"k must lie in 1..d_sae={d_sae}, got {k!r}: change k, or raise d_sae or expansion")
    return k
