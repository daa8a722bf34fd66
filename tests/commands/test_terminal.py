"""What a person at a terminal sees: one bar in tokens, with the numbers that matter."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def at_a_terminal(arguments: list[str], folder: Path, columns: int = 160) -> tuple[int, str]:
    """Run the script under a pseudo-terminal; exit status and all that it showed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [0, 80, 160])
def test_one_bar_in_tokens(columns, job, tmp_path):
    status, shown = at_a_terminal(job("train.batch_tokens=16", "train.tokens=3072"), tmp_path, columns)
    assert status == 0, shown
    a_bar = r"training +\d+% [^\r\n]*" if columns == 160 else r"\d+% [\d.]+k?/3\.07k [^\r\n]*"
    drawn = re.findall(a_bar, shown)
    assert len(drawn) > 1
    parts = ["100%", r"3\.07k/3\.07k", "tok/s", r"\d\d:\d\d", r"loss \d", r"L0 \d", r"FVU 0\.\d", r"dead \d+\.\d%"]
    for part in parts:
        assert re.search(part, drawn[-1]), part
    assert max(map(len, drawn)) <= (columns or 80)
    left = [line.split("\r")[-1] for line in shown.split("\r\n")]  # what nothing was drawn over
    assert len([line for line in left if re.search(a_bar, line)]) == 1
    assert len([line for line in left if line.startswith("relu: the last batches had about")]) == 1  # not beside the bar
    assert "Traceback" not in shown
    assert "hook point" in shown
    assert "Results on held-out text" in shown
