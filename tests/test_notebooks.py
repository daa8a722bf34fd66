"""Notebooks run from top to bottom, on less data than they are meant for, and are kept without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALLER = {
    "train_small_and_look_inside": {
        "ROWS = 30_000": "ROWS = 3_000",
        "TOKENS = 300_000": "TOKENS = 16_384",
        "EXPANSION = 4": "EXPANSION = 1",
        "BLOCKS_SPLICED = 24": "BLOCKS_SPLICED = 2",
        "tokens=150_000, batch_tokens=256": "tokens=50_000, batch_tokens=256",
    }
}


def of(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_every_notebook_is_run_here():
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALLER)


@pytest.mark.parametrize("name", SMALLER)
def test_notebooks_are_kept_without_outputs(name):
    notebook = of(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("name", SMALLER)
def test_what_is_made_smaller_is_in_the_notebook(name):
    text = "\n".join(cell.source for cell in of(name).cells)
    for meant in SMALLER[name]:
        assert text.count(meant) == 1, meant


@pytest.mark.slow
def test_train_small_and_look_inside(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own backend puts figures into the notebook
    notebook = of("train_small_and_look_inside")
    for cell in notebook.cells:
        for meant, smaller in SMALLER["train_small_and_look_inside"].items():
            cell.source = cell.source.replace(meant, smaller)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = printed(notebook)
    planted = re.search(r"nearest latent: (\S+) on average\n.* random directions: (\S+)\n", text)
    assert planted
    assert float(planted[1]) > float(planted[2]) + 0.05
    assert "576 latents, of which" in text
    assert re.search(r"latent \d+, fires on \d+\.\d+% of tokens\n +\d+\.\d  .*\[\[.+\]\]", text)
    loss = {name: float(nats) for name, nats in re.findall(r"^ *(clean|SAE|mean): (\S+) nats", text, re.MULTILINE)}
    assert loss["clean"] < loss["SAE"]
    assert loss["clean"] < loss["mean"]
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert "image/png" in kinds
