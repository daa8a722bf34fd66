"""What every command shares: reading overrides, composing the configuration, sweeps, and errors without a traceback."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sae.errors import UserError

__all__ = ["command", "compose", "leaves", "merged", "say", "value_at"]

MISSING = "???"  # what a file leaves to the user
HELP_FLAGS = ("-h", "--help")
SWEEP_FLAGS = ("-m", "--multirun")
# What an operating system refuses and a user can mend.
USERS_AFFAIR = (errno.EACCES, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)


def say(line: str) -> None:
    """A line for the person at the terminal; results alone go to standard output."""
    print(line, file=sys.stderr, flush=True)


def command(
    *,
    name: str,
    text: str,
    run: Callable[[dict[str, Any], list[str]], int],
    sweep: Callable[[list[str]], int] | None = None,
    complete: Callable[[list[str]], list[str]] = list,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command and turn a user's mistake into a message and an exit status.

    Args:
        name: of the configuration file, without `.yaml`.
        text: what `--help` prints.
        run: takes the composed configuration and the overrides as typed; gives the exit status.
        sweep: takes the overrides of a sweep.
        complete: adds choices that follow from what was typed, before the configuration is composed.
        arguments: what was typed; the process's own if not given.

    Returns:
        0, 2 for a user's mistake, or what `run` gives.
    """
    from sae.commands.overrides import as_hydra_takes_them

    _set_up_pytorch()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    _show_log()
    if any(flag in typed for flag in HELP_FLAGS):
        print(text.strip())
        print(_group_choices(name))
        return 0
    sweeping = any(flag in typed for flag in SWEEP_FLAGS)
    overrides = as_hydra_takes_them([one for one in typed if one not in SWEEP_FLAGS], sweeping=sweeping)
    try:
        if sweeping:
            if sweep is None:
                raise UserError(f"this command does not sweep; leave out {' or '.join(SWEEP_FLAGS)}")
            return sweep(overrides)
        return run(compose(name, complete(overrides)), overrides)
    except UserError as error:
        _complain(str(error).splitlines())
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in USERS_AFFAIR:
            raise
        _complain([f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)])
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _complain(lines: Sequence[str]) -> None:
    head = "error: " if len(lines) == 1 else f"{len(lines)} mistakes:\n  "
    print(head + "\n  ".join(lines), file=sys.stderr)


def _set_up_pytorch() -> None:
    """Set what PyTorch and its OpenMP read once, from the environment; what stands there already stays.

    Large pages where PyTorch allocates megabytes: on Linux fresh memory costs a few faults in place of thousands in every step.
    And threads that wait for another give their core away after about a tenth of a millisecond (GNU's OpenMP, in PyTorch's
    builds for Linux, spins for several): while other work has one of the cores, the sparse pass's many short parallel parts
    otherwise wait for threads that wait, and a step takes three to ten times as long. OpenMP reads this when it is loaded, so a
    command sets it before it imports PyTorch.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def compose(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with overrides applied, as plain resolved dicts.

    Args:
        name: of the configuration file, without `.yaml`.
        overrides: as typed, paths and names quoted.

    Raises:
        UserError: every mistake, one on a line, if a name does not exist or a line cannot be read.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from sae.commands.overrides import check_overrides, groups

    known = groups(name)
    outer = GlobalHydra.instance().hydra  # of a sweep, whose job composes its own configuration
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("sae.conf", version_base="1.3"):
            # The groups that exist decide which keys do.
            base = hydra.compose(name, overrides=[line for line in overrides if _names_a_choice(line, known)])
            tree = _plain(base, resolve=False)
            checked = check_overrides(overrides, tree, known, unwritten=_unwritten(tree))
            tree = _plain(hydra.compose(name, overrides=checked.lines), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error).splitlines()[0]) from error
    finally:
        GlobalHydra.instance().hydra = outer
    mistakes = [*checked.mistakes, *(f"{key} must be given: {key}=..." for key in _missing(tree))]
    if mistakes:
        raise UserError("\n".join([*mistakes, *_other_mistakes(tree)]))
    return tree


def _unwritten(tree: Mapping[str, Any]) -> list[str]:
    """Keys of an SAE that its file leaves at their defaults: terms and settings that it does not use by itself."""
    from sae.commands.sae_node import known_keys

    return [f"sae.{key}" for key in known_keys(tree["sae"].get("name"))] if isinstance(tree.get("sae"), Mapping) else []


def _missing(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys that a file leaves to the user."""
    found = [f"{prefix}{key}" for key, value in tree.items() if value == MISSING]
    nodes = [(key, value) for key, value in tree.items() if isinstance(value, Mapping)]
    return [*found, *(key for name, node in nodes for key in _missing(node, f"{prefix}{name}."))]


def _plain(config: Any, *, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _other_mistakes(tree: dict[str, Any]) -> list[str]:
    """What is wrong beside names that do not exist, so that everything is said at once."""
    if "sae" not in tree or tree["resume"] is not None:
        return []
    from sae.commands.settings import read_train_config

    try:
        read_train_config(tree)
    except UserError as error:
        return [line for line in str(error).splitlines() if MISSING not in line]
    return []


def value_at(tree: dict[str, Any], dotted: str) -> Any:
    """The value at a dotted key, or None."""
    node: Any = tree
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of all values of a tree."""
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [f"{prefix}{key}"]
    return found


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


def _names_a_choice(line: str, known: Mapping[str, Sequence[str]]) -> bool:
    group, _, choice = line.partition("=")
    return choice.strip("'\"") in known.get(group, ())


def _group_choices(name: str) -> str:
    from sae.commands.overrides import groups

    lines = ["", "Groups (group=choice) and their choices:"]
    return "\n".join([*lines, *(f"  {group:<17} {', '.join(choices)}" for group, choices in groups(name).items())])


class _SaidAloud(logging.Handler):
    """The package's own log messages, such as a model's conversion that takes half a minute, as lines for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, on a line of its own: a bar that is being drawn is taken away and drawn again below."""
        if "tqdm" not in sys.modules:  # it is slow to import, and nobody draws
            say(record.getMessage())
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):
            say(record.getMessage())


def _show_log() -> None:
    package = logging.getLogger("sae")
    if not any(isinstance(handler, _SaidAloud) for handler in package.handlers):
        package.addHandler(_SaidAloud())
        package.setLevel(logging.INFO)
