"""What holds for every test: no network, no account, one thread, a cache of its own, and no skip that nobody allowed."""

import fnmatch
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before torch and the Hugging Face libraries are imported, which read these once. Child processes inherit them.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}

import hypothesis
import numpy as np
import pytest
import torch

from tests.browser import browser, browser_path, playwright, watch  # noqa: F401  (one browser for all folders of tests)

hypothesis.settings.register_profile("sae", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("sae")


def pytest_configure(config: pytest.Config) -> None:
    """One cache for all tests and workers of a session, so that a packaged model is converted once; it goes at the end."""
    if not hasattr(config, "workerinput"):  # workers inherit the environment of the process that starts them
        folder = Path(tempfile.mkdtemp(prefix="sae-tests-"))
        os.environ |= {"SAE_CACHE": str(folder / "cache"), "WANDB_DIR": str(folder)}
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test starts from the same seeds, one thread and float32, and leaves them so."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def allowed_skips() -> list[str]:
    """What tests/SKIPS.md lists: globs of test names, and markers."""
    return re.findall(r"^- `(.+?)`: \S", (Path(__file__).parent / "SKIPS.md").read_text(), re.MULTILINE)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, markers: set[str]) -> None:
    """Where CI is set, turn a skip that tests/SKIPS.md does not allow into a failure."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get("CI", "") in ("", "0", "false"):
        return
    if any(entry in markers or fnmatch.fnmatchcase(report.nodeid, entry) for entry in allowed_skips()):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} was skipped where CI is set, and tests/SKIPS.md does not allow it. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _refuse_skip(report, {mark.name for mark in item.iter_markers()})
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _refuse_skip(report, set())
    return report
