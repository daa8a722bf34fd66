"""Reads what a user typed: groups, values and sweeps, with every unknown name found before Hydra sees it."""

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.commands.binding import nearest
from sae.errors import UserError

__all__ = ["CheckedOverrides", "as_hydra_takes_them", "check_overrides", "conf_folder", "groups", "swept_keys"]

# Values of these keys are text that people type without quotes, whatever characters are in it.
TEXT_KEY = re.compile(
    r"[+]{0,2}(from|to|out|resume|init_from|(.*\.)?(cache_dir|column|document_end|document_start|entity|explanations|folder|licence"
    r"|module|name|package|path|precision|project|revision|split))"
)
# Texts in quotes, in which `${...}` stands for itself and not for another key.
PROMPTS = ("dashboard.texts", "pages.texts", "pages.words")
NUMBERS = re.compile(r"(^|,)[+-]?\d+(\.\d*)?(e[+-]?\d{1,2})?".join(("(?:", ")+")), re.IGNORECASE)
QUOTED = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"", re.DOTALL)
FUNCTION = re.compile(r"(?:choice|range|interval|glob|sort|shuffle)\(.*\)")
# Keys may be added and taken away below these.
OPEN_NODES = ("data.sources", "data.weights")
# Groups that need no choice.
OPTIONAL_GROUPS = ("experiment", "debug", "model@other_model")


def conf_folder() -> Path:
    """The folder of the shipped configuration files."""
    return Path(next(iter(importlib.import_module("sae.conf").__path__)))


def groups(name: str) -> dict[str, list[str]]:
    """Config groups of a command and the choices in each; of experiments those that say that they are for it.

    Args:
        name: of the command's configuration file, without `.yaml`.
    """
    import yaml

    defaults = yaml.safe_load((conf_folder() / f"{name}.yaml").read_text(encoding="utf-8"))["defaults"]
    used = [next(iter(entry)) for entry in defaults if isinstance(entry, dict)]
    return {group: _choices(group, name) for group in used if not group.startswith("override ")}


def _choices(group: str, command: str) -> list[str]:
    files = sorted((conf_folder() / group.partition("@")[0]).glob("*.yaml"))
    if group == "experiment":
        files = [path for path in files if f"scripts/{command}.py experiment={path.stem}" in path.read_text(encoding="utf-8")]
    return [path.stem for path in files]


def as_hydra_takes_them(arguments: Sequence[str], *, sweeping: bool = False) -> list[str]:
    """Quote paths and names, in which Hydra's grammar trips over `=`, `,`, blanks and much else, and write `1e6` as 1000000.

    A value that is quoted already stays as it is, and `null` stays null.

    Args:
        arguments: as typed.
        sweeping: whether a comma stands between several values; a comma inside one needs quotes then.
    """
    lines = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if TEXT_KEY.fullmatch(key) and not (sweeping and FUNCTION.fullmatch(value)):
            values = re.findall(r"'[^']*'|\"[^\"]*\"|[^,]+", value) if sweeping else [value]
            value = ",".join(map(_quote, values))
        elif key in PROMPTS:
            value = value.replace("${", "\\${")
        elif NUMBERS.fullmatch(value):
            value = ",".join(map(_whole, value.split(",")))
        lines.append(f"{key}{equals}{value}")
    return lines


def _quote(value: str) -> str:
    if value in ("", "null") or QUOTED.fullmatch(value):
        return value
    # Inside quotes a backslash is itself, unless a quote follows.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"


def _whole(value: str) -> str:
    return str(int(float(value))) if float(value).is_integer() and "e" in value.lower() else value


def swept_keys(lines: Sequence[str]) -> list[str]:
    """Keys and groups that have several values, but for Hydra's own.

    Raises:
        UserError: every line that cannot be read.
    """
    parsed, mistakes = _parse(lines)
    if mistakes:
        raise UserError("\n".join(mistakes))
    return [_key(one) for one in parsed if one.is_sweep_override() and not _of_hydra(one.key_or_group)]


@dataclass(frozen=True)
class CheckedOverrides:
    """Overrides, looked at before Hydra sees them.

    Attributes:
        lines: those that Hydra can take. Naming `sae.d_sae` without `sae.expansion` takes the default expansion away, and the
            other way round.
        mistakes: a sentence for each of the others.
    """

    lines: list[str]
    mistakes: list[str]


def check_overrides(
    lines: Sequence[str], tree: Mapping[str, Any], known: Mapping[str, Sequence[str]], *, unwritten: Sequence[str] = ()
) -> CheckedOverrides:
    """Find every name that does not exist.

    Args:
        lines: as typed, paths and names quoted.
        tree: the composed configuration that the keys must be in.
        known: groups and their choices.
        unwritten: keys that exist though the configuration's files do not write them down.
    """
    parsed, mistakes = _parse(lines)
    written = list(_dotted(tree))
    keys = [*written, *unwritten]
    good, given = [], {}
    for override in parsed:
        key = _key(override)
        mistake = None if _of_hydra(key) else _mistake(override, keys, known)
        if mistake is not None:
            mistakes.append(mistake)
        elif key not in OPTIONAL_GROUPS or override.value() is not None:  # Hydra takes no null for a group
            line = str(override.input_line)
            good.append(f"++{line.lstrip('+')}" if key in unwritten and key not in written else line)
            given[key] = override.value()
    for one, other in (("sae.expansion", "sae.d_sae"), ("sae.d_sae", "sae.expansion")):
        if given.get(one) is not None and other not in given:
            good.append(f"{other}=null")
    return CheckedOverrides(lines=good, mistakes=mistakes)


def _mistake(override: Any, keys: Sequence[str], known: Mapping[str, Sequence[str]]) -> str | None:
    key, value = _key(override), override.value()
    opened = any(key.startswith(f"{node}.") for node in OPEN_NODES)
    if override.is_sweep_override():
        return f"{key}: several values are a sweep, which needs -m; a comma inside one value needs quotes"
    if override.is_delete() and not opened:
        return f"~{key}: a key cannot be taken away; give it another value, or null where it may be empty"
    if key in known:
        if value in known[key] or (value is None and key in OPTIONAL_GROUPS):
            return None
        if key == "sae":
            from sae.formats.registry import FITTED  # late: --help needs the groups alone

            if value in FITTED:
                return f"sae={value} is not trained by gradient: {FITTED[value]} fits it"
        said = f"{key}={value}: there is no such choice; {key} is one of {', '.join(known[key])}."
        return said + nearest(str(value), known[key])
    if key in keys or opened:
        return None
    if key.startswith("other_model.") and "model@other_model" in known:
        return f"{key}: there is no second model. Name one first: model@other_model=CHOICE, with the choices of `model`"
    return f"{key}: there is no such key.{_nearest_key(key, [*keys, *known])}"


def _parse(lines: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The overrides that can be read, and what is wrong with the others."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed, mistakes = OverridesParser.create(), [], []
    for line in lines:
        if not re.match(r"~.|[^=]+=", line):
            mistakes.append(f"'{line}': expected key=value, as in train.tokens=100000")
            continue
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            reason = str(error).splitlines()[0]
            mistakes.append(f"'{line}': {reason}. A value with special characters needs quotes of its own: \"key='value'\"")
    return parsed, mistakes


def _key(override: Any) -> str:
    """What was typed before the equals sign: a key, a group, or a group with the node that it goes to (`group@node`)."""
    return override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"


def _of_hydra(key: str) -> bool:
    return key.startswith(("hydra.", "hydra/"))


def _nearest_key(key: str, known: Sequence[str]) -> str:
    """The key that was meant, be it that its node was left out."""
    same_end = [one for one in known if one.rsplit(".", 1)[-1] == key]
    return f" Did you mean '{same_end[0]}'?" if same_end else nearest(key, known)


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
