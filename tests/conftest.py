"""What holds for every test: no network, no account, one thread and a cache of its own."""

import logging
import os
import random
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

from tests.shapes import checks

pytest_plugins = ("tests.browser", "tests.skips")

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
    """Every test starts from the same seeds, one thread and float32, and leaves them so, and the package's log as it was."""
    checks.begin()
    package = logging.getLogger("sae")
    handlers, level = list(package.handlers), package.level
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    package.handlers[:] = handlers  # a command that ran in this process shows the log from then on
    package.setLevel(level)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
