"""Reads what a user typed: groups, values and sweeps, with every unknown name found before Hydra sees it."""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae.commands.binding import nearest
from sae.errors import UserError

__all__ = ["ParsedOverrides", "conf_folder", "groups", "parse_overrides", "quote_paths"]

# Values of these keys are paths or names that people type without quotes, whatever characters are in them.
PATH_LIKE = re.compile(
    r"^\+{0,2}(from|resume|init_from|to|text|.*\.path|.*\.package|.*\.cache_dir|run\.(name|folder))=(.*)$", re.DOTALL
)


@dataclass
class ParsedOverrides:
    """Overrides sorted by kind.

    Attributes:
        groups: group -> chosen file, for those chosen once.
        values: dotted key -> the texts of its overrides.
        swept: keys that have several values.
        lines: the overrides as Hydra takes them.
    """

    groups: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    swept: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)


def conf_folder() -> Path:
    """The folder of the shipped configuration files."""
    return Path(next(iter(importlib.import_module("sae.conf").__path__)))


def groups() -> dict[str, list[str]]:
    """Config groups and the choices in each."""
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(conf_folder().iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote path-like values for Hydra, whose grammar trips over `=`, `,` and blanks in them.

    A value that is quoted already stays as it is.
    """
    quoted = []
    for argument in arguments:
        match = PATH_LIKE.match(argument)
        if match is None:
            quoted.append(argument)
            continue
        key, value = argument[: match.start(2)], match.group(2)
        plain = re.fullmatch(r"[\w./:@+-]*", value) is not None
        already = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"["
        quoted.append(argument if plain or already else key + "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'")
    return quoted


def parse_overrides(lines: Sequence[str], tree: dict[str, Any], *, open_nodes: Sequence[str] = ()) -> ParsedOverrides:
    """Sort overrides and find every name that does not exist.

    Args:
        lines: as typed, path-like values quoted.
        tree: the composed configuration that the keys must be in.
        open_nodes: dotted prefixes under which keys may be added with `+`.

    Returns:
        The sorted overrides.

    Raises:
        UserError: all mistakes, one on a line.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser, known, parsed, problems = OverridesParser.create(), groups(), ParsedOverrides(lines=list(lines)), []
    keys = set(_dotted(tree))
    for line in lines:
        if "=" not in line and not line.startswith("~"):
            problems.append(f"'{line}': expected key=value, as in train.tokens=100000")
            continue
        try:
            override = parser.parse_override(line)
        except OverrideParseException as error:
            reason = str(error).splitlines()[0]
            problems.append(f"'{line}': {reason}. Put a value with special characters in quotes: \"key='value'\"")
            continue
        key = override.key_or_group
        swept = override.is_sweep_override()
        values = [str(value) for value in override.sweep_string_iterator()] if swept else [override.value()]
        if key.startswith("hydra"):
            continue
        if key in known:
            parsed.groups[key] = [str(value) for value in values]
            problems += [
                f"{key}={value}: there is no such choice; {key} is one of {', '.join(known[key])}."
                + nearest(str(value), known[key])
                for value in values
                if value is not None and str(value) not in known[key]
            ]
        elif key in keys or any(key.startswith(f"{node}.") for node in open_nodes):
            parsed.values[key] = values
        else:
            problems.append(f"{key}: there is no such key.{nearest(key, [*keys, *known])}")
        if swept:
            parsed.swept.add(key)
    if problems:
        raise UserError("\n".join(problems))
    return parsed


def _dotted(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _dotted(value, f"{prefix}{key}.")
    return found
