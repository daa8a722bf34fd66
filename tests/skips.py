"""Pytest plugin: tests that need a GPU are skipped without one; in CI no other skip passes unless SKIPS.md allows it."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


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
