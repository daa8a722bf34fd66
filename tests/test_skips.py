"""In CI a skip is a failure, unless tests/SKIPS.md allows it: tried on a small suite of its own, in a child process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SUITE = """
import pytest

@pytest.mark.skip(reason="no time")
def test_skipped():
    pass

@pytest.mark.gpu
def test_on_gpu():
    pytest.skip("no CUDA device")

@pytest.mark.xfail(reason="known")
def test_known_failure():
    raise AssertionError

def test_passes():
    pass
"""
WHOLE_MODULE = "import pytest\npytest.importorskip('no_such_package')\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in ("skips.py", "SKIPS.md"):
        shutil.copy(Path(__file__).parent / name, folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs a GPU\n")
    (folder / "test_some.py").write_text(SUITE)
    return folder


def run(folder: Path, *options: str, ci: str) -> tuple[int, str]:
    """Exit status and output of pytest there."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:jaxtyping", "-p", "skips", *options]
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_this_suite_has_the_plugin(request):
    assert request.config.pluginmanager.has_plugin("tests.skips")


def test_skips_pass_outside_ci(suite):
    status, output = run(suite, ci="")
    assert status == 0, output
    assert "1 passed, 2 skipped, 1 xfailed" in output


def test_a_skip_fails_in_ci_and_an_allowed_one_does_not(suite):
    (suite / "test_module.py").write_text(WHOLE_MODULE)
    status, output = run(suite, "--continue-on-collection-errors", ci="true")
    assert status == 1
    assert "test_skipped was skipped where CI is set" in output
    assert "no time" in output
    assert "test_module.py was skipped where CI is set" in output
    assert "1 passed, 1 skipped, 1 xfailed, 2 errors" in output


def test_a_glob_of_names_allows_a_skip_under_xdist_too(suite):
    with (suite / "SKIPS.md").open("a") as file:
        file.write("- `*::test_skip*`: for this test.\n")
    assert run(suite, "-n", "1", ci="true")[0] == 0
    with (suite / "test_some.py").open("a") as file:
        file.write("\ndef test_other():\n    pytest.skip('why')\n")
    status, output = run(suite, "-n", "1", ci="true")
    assert status == 1
    assert "1 failed" in output
