"""What every command shares: reading overrides, composing the configuration, sweeps, and errors without a traceback."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae.errors import UserError

__all__ = ["command", "compose", "say"]

# The configuration may hold keys that are not there yet under these prefixes (with a plus sign).
OPEN_NODES = ("data.sources", "data.weights")
HELP_FLAGS = ("-h", "--help")
SWEEP_FLAGS = ("-m", "--multirun")


def say(line: str) -> None:
    """A line for the person at the terminal; results alone go to standard output."""
    print(line, file=sys.stderr, flush=True)


def command(
    *,
    name: str,
    text: str,
    run: Callable[[dict[str, Any], list[str]], int],
    sweep: Callable[[list[str]], int] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command and turn a user's mistake into a message and an exit status.

    Args:
        name: of the configuration file, without `.yaml`.
        text: what `--help` prints.
        run: takes the composed configuration and the overrides as typed; gives the exit status.
        sweep: takes the overrides of a sweep.
        arguments: what was typed; the process's own if not given.

    Returns:
        0, 2 for a user's mistake, or what `run` gives.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if any(flag in typed for flag in HELP_FLAGS):
        print(text.strip())
        print(_group_choices())
        return 0
    from sae.commands.overrides import quote_paths

    sweeping = any(flag in typed for flag in SWEEP_FLAGS)
    overrides = quote_paths([argument for argument in typed if argument not in SWEEP_FLAGS])
    try:
        if sweeping:
            if sweep is None:
                raise UserError(f"this command does not sweep; leave out {' or '.join(SWEEP_FLAGS)}")
            return sweep(overrides)
        return run(compose(name, overrides), overrides)
    except UserError as error:
        lines = str(error).splitlines()
        head = "error" if len(lines) == 1 else f"{len(lines)} mistakes"
        print(f"{head}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{head}:", *lines]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def compose(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with overrides applied, as plain resolved dicts.

    Naming `sae.d_sae` without `sae.expansion` takes the default expansion away, and the other way round.

    Raises:
        UserError: every unknown name and every mistake of grammar, one on a line.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from sae.commands.overrides import groups, parse_overrides

    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("sae.conf", version_base="1.3"):
        chosen = [line for line in overrides if _key(line) in groups()]
        try:
            base = hydra.compose(name, overrides=[line for line in chosen if _choice_exists(line)])
            tree = OmegaConf.to_container(base, resolve=False)
            assert isinstance(tree, dict)
            parsed = parse_overrides(overrides, {str(k): v for k, v in tree.items()}, open_nodes=OPEN_NODES)
            lines = list(overrides)
            given = set(parsed.values)
            for one, other in (("sae.expansion", "sae.d_sae"), ("sae.d_sae", "sae.expansion")):
                if one in given and other not in given and parsed.values[one] != [None]:
                    lines.append(f"{other}=null")
            config = hydra.compose(name, overrides=lines)
            resolved = OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(str(error).splitlines()[0]) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def absolute(path: str) -> Path:
    """A path as typed, with ~ expanded."""
    return Path(path).expanduser()


def merged(saved: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with dotted changes put in."""
    tree = {key: (merged(value, {}) if isinstance(value, Mapping) else value) for key, value in saved.items()}
    for dotted, value in changes.items():
        node, *rest = dotted.split(".")
        if rest:
            inner = tree.get(node)
            tree[node] = merged(inner if isinstance(inner, Mapping) else {}, {".".join(rest): value})
        else:
            tree[node] = value
    return tree


def _key(line: str) -> str:
    return line.split("=", 1)[0].lstrip("+~")


def _choice_exists(line: str) -> bool:
    from sae.commands.overrides import groups

    return "=" in line and line.split("=", 1)[1].strip("'\"") in [*groups()[_key(line)], "null"]


def _group_choices() -> str:
    folder = Path(__file__).resolve().parent.parent.parent / "conf"
    if not folder.is_dir():
        from sae.commands.overrides import conf_folder

        folder = conf_folder()
    lines = ["", "Groups (group=choice) and their choices:"]
    for group in sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))):
        lines.append(f"  {group.name:<12} {', '.join(sorted(path.stem for path in group.glob('*.yaml')))}")
    return "\n".join(lines)
