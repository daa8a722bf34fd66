"""What all these experiments share: the text cut in two halves by document, mixed rows of each on the disk, one dictionary.

Rows and dictionary are made once and kept in OUT: `train.npy` and `held_out.npy` [rows, width], where row i is of layer
i % layers, and the folder `sparse_coding`, which `sae.load` reads.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from reading import document_blocks, layer_points, named_points, open_model
from torch import Tensor

import sae
from sae.activations.harvest import Harvester
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.row_source import read_rows
from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.architectures.sparse_coding import SparseCodingSAE
from sae.errors import UserError
from sae.factors.dictionary_fit import DictionaryFit
from sae.formats.native import load_layer_units
from sae.functional.files import write_whole
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.tokens.split import is_held_out
from sae.tokens.wikipedia_sample import WikipediaSample

__all__ = ["Material", "add_arguments", "fit_sparse_coding"]

ROOT = Path(__file__).resolve().parents[3]
BATCH_ROWS = 2048
PIECE_BLOCKS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What decides rows and dictionary."""
    parser.add_argument("--model", default="minilm", help="a name of conf/model")
    parser.add_argument("--every", type=int, default=1, help="read every so many blocks, and what goes into the first")
    parser.add_argument(
        "--from", dest="source", type=Path, help="a saved dictionary of mixed layers, in place of the one made here"
    )
    parser.add_argument("--d-sae", type=int, default=1024)
    parser.add_argument("--l1", type=float, default=0.8, help="l1 coefficient of the codes, in the units of the rows")
    parser.add_argument("--positions", type=int, default=40_000, help="tokens of the training half; each gives a row a layer")
    parser.add_argument("--held-out-positions", type=int, default=12_000, help="tokens of the other half")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "reproduce" / "transformer_factors")


class Material:
    """Model, layers and text, and what is made of them.

    Args:
        options: what `add_arguments` asks for.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out / (options.model if options.source is None else f"{options.model}-{options.source.name}")
        self.out.mkdir(parents=True, exist_ok=True)
        self.model: LanguageModel = open_model(options.model)
        self.source: Path | None = options.source
        units = None if self.source is None else load_layer_units(self.source)
        if self.source is not None and units is None:
            raise UserError(f"--from={self.source} was trained on one place: a dictionary of mixed layers is expected.")
        self.points: list[HookPoint] = (
            layer_points(self.model, options.every) if units is None else named_points(self.model, units.layers)
        )

    @property
    def layers(self) -> int:
        """How many layers are mixed."""
        return len(self.points)

    def texts(self, *, held_out: bool) -> list[str]:
        """The documents of one half."""
        documents = WikipediaSample().documents()
        return [one.text for one in documents if one.text is not None and is_held_out(one.key, 0.5) == held_out]

    def rows(self, *, held_out: bool) -> Float[np.ndarray, "rows width"]:
        """Mixed rows of blocks drawn from one half, a memory map; row i is of layer i % layers."""
        path = self.out / ("held_out.npy" if held_out else "train.npy")
        if not path.exists():
            positions = self.options.held_out_positions if held_out else self.options.positions
            self._harvest(path, held_out=held_out, positions=positions)
        return np.load(path, mmap_mode="r")

    def dictionary(self) -> SparseAutoencoder:
        """The dictionary of all experiments, which takes raw rows of every layer."""
        folder = self.out / "sparse_coding"
        if not (folder / "cfg.json").exists():
            found, seconds = fit_sparse_coding(self.rows(held_out=False), self.options, seed=self.options.seed)
            names = [point.name for point in self.points]
            sae.save(found, folder, layers=LayerUnits.raw(names, found.d_in))
            write_whole(self.out / "sparse_coding.json", json.dumps({"seconds": seconds}))
        return sae.load(folder)

    def views(self) -> list[SparseAutoencoder]:
        """For each layer the SAE of its raw activations, of the saved dictionary that was named or of that made here."""
        if self.source is None:
            return [self.dictionary()] * self.layers
        return [sae.load(self.source, layer=point.name) for point in self.points]

    def labels(self) -> list[str]:
        """How tables call the layers: after how many blocks they are; other places by name."""
        after = {"resid_pre": 0, "resid_post": 1}
        return [
            str(point.layer + after[point.site]) if point.layer is not None and point.site in after else point.name
            for point in self.points
        ]

    def _harvest(self, path: Path, *, held_out: bool, positions: int) -> None:
        blocks, _ = document_blocks(self.model, self.texts(held_out=held_out))
        order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(self.options.seed))
        enough = int((blocks.rows_per_block()[order].cumsum(0) < positions).sum()) + 1
        source = MixedLayers(Harvester(self.model, self.points))
        chosen = order[:enough]
        total = self.layers * int(blocks.rows_per_block()[chosen].sum())
        unfinished = path.with_suffix(".unfinished")
        rows = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(total, self.points[0].width))
        done = 0
        for piece in chosen.split(PIECE_BLOCKS):
            values = read_rows(source, blocks, piece).values[MIXED]
            rows[done : done + len(values)] = values.numpy()
            done += len(values)
        rows.flush()
        unfinished.rename(path)


def fit_sparse_coding(
    rows: Float[np.ndarray, "rows width"], options: argparse.Namespace, *, seed: int
) -> tuple[SparseCodingSAE, float]:
    """A dictionary by the online update, from rows in random order, and the processor's seconds that it took."""
    start = time.process_time()
    fit = DictionaryFit(
        d_in=rows.shape[1],
        d_sae=options.d_sae,
        l1_coefficient=options.l1,
        start="rows",
        dead_after_rows=len(rows) // 10,
        total_rows=len(rows),
        seed=seed,
    )
    for batch in shuffled(rows, epochs=options.epochs, seed=seed):
        fit.step(batch)
    found = SparseCodingSAE(d_in=rows.shape[1], d_sae=options.d_sae, l1_coefficient=options.l1)
    with torch.no_grad():
        found.W_dec.copy_(fit.dictionary)
    return found.requires_grad_(False).eval(), time.process_time() - start


def shuffled(rows: Float[np.ndarray, "rows width"], *, epochs: int, seed: int) -> Iterator[Tensor]:
    """Batches in random order, another order each pass."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order: Int[np.ndarray, " rows"] = generator.permutation(len(rows))
        for begin in range(0, len(order), BATCH_ROWS):
            batch: Tensor = torch.from_numpy(rows[np.sort(order[begin : begin + BATCH_ROWS])])
            yield batch
