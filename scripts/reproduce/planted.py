"""Does each architecture find the truth? Planted dictionaries, and how much of them is recovered.

    python scripts/reproduce/planted.py                       128 atoms in 64 dimensions, each present with probability 0.02
    python scripts/reproduce/planted.py --magnitudes          strengths uniform in 0.5..1.5 and a long mean, as real data has

Rows are sums of the atoms that are present, noise-free. A transcoder reads one dictionary and predicts another, a crosscoder
reads both, where the same atoms are present in both. A cross-layer transcoder reads half of the atoms in one layer, which are
written to both targets, and the others in the next, which are written to the second. Mean max cosine is given both ways (it is
blind to what was not found and duplicates raise it), with the mean cosine of the best one-to-one match, and the F1 of each
latent as a detector of its matched atom, averaged over atoms. About ten seconds an architecture on two cores.
"""

import argparse
from typing import Any

import torch
from torch import Tensor

import sae
from sae.commands.reading import TRAINED, sparsity_key
from sae.functional.matching import best_assignment, cosines, matched_cosine, mean_max_cosine

D, ATOMS, PROBABILITY = 64, 128, 0.02
OFFSET = 3.0  # of every dimension, with --magnitudes
TWO_DICTIONARIES = ("transcoder", "crosscoder")
SPARSITY = {"k": 3, "l0_target": 3, "l1_coefficient": 2.25}
FURTHER: dict[str, dict[str, Any]] = {
    "gated": {"l1_coefficient": 4.0},
    "batch_topk": {"k_anneal": 0.5, "k_anneal_from": 20},
    "jumprelu": {"bandwidth": 2.0, "threshold_start": 2.0},
    "matryoshka": {"group_fractions": [0.5, 0.5]},
}


def settings_of(name: str) -> dict[str, Any]:
    """How sparse the rows are, in an architecture's own terms, and what it needs beside that."""
    key = sparsity_key(name)
    return {key: SPARSITY[key]} | FURTHER.get(name, {})


def codes_of(rows: int, *, magnitudes: bool, seed: int) -> Tensor:
    """How strong each atom is in each row, 0 where it is absent."""
    generator = torch.Generator().manual_seed(seed)
    present = (torch.rand(rows, ATOMS, generator=generator) < PROBABILITY).float()
    return present * (0.5 + torch.rand(rows, ATOMS, generator=generator)) if magnitudes else present


def atoms_of(dictionary: int) -> Tensor:
    """The unit directions of one dictionary."""
    return torch.nn.functional.normalize(torch.randn(ATOMS, D, generator=torch.Generator().manual_seed(dictionary)), dim=1)


def planted(rows: int, *, magnitudes: bool, seed: int, dictionary: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, which atoms are present in them, and the atoms: one seed, one choice of atoms, whatever the dictionary's seed."""
    codes, atoms = codes_of(rows, magnitudes=magnitudes, seed=seed), atoms_of(dictionary)
    return codes @ atoms + (OFFSET if magnitudes else 0.0), codes > 0, atoms


def places(name: str, rows: int, *, magnitudes: bool, seed: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """What an architecture reads, what it predicts, which atoms are present, and the atoms of the prediction, side by side."""
    if name == "cross_layer_transcoder":
        return layers(codes_of(rows, magnitudes=magnitudes, seed=seed), OFFSET if magnitudes else 0.0)
    one, present, atoms = planted(rows, magnitudes=magnitudes, seed=seed)
    if name not in TWO_DICTIONARIES:
        return [one], one, present, atoms
    other, _, others = planted(rows, magnitudes=magnitudes, seed=seed, dictionary=8)
    if name == "transcoder":
        return [one], other, present, others
    return [one, other], torch.cat([one, other], dim=1), present, torch.cat([atoms, others], dim=1)


def layers(codes: Tensor, offset: float) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """`places` of two layers: half of the atoms is read in the first and written to both, the rest read and written next."""
    read = (
        part @ atoms + offset for part, atoms in zip(codes.tensor_split(2, dim=1), atoms_of(7).tensor_split(2), strict=True)
    )
    first = atoms_of(8)
    first[ATOMS // 2 :] = 0
    written = torch.cat([first, atoms_of(9)], dim=1)
    return list(read), codes @ written + offset, codes > 0, written


def detector_f1(fired: Tensor, present: Tensor, match: Tensor) -> float:
    """F1 of each atom's matched latent, averaged over atoms; 0 for one that never fires rightly."""
    hits = (fired[:, match] & present).sum(dim=0).double()
    return float((2 * hits / (fired[:, match].sum(dim=0) + present.sum(dim=0)).clamp_min(1)).mean())


def recovered(name: str, *, tokens: int, magnitudes: bool, seed: int = 0) -> dict[str, float]:
    """Train one architecture and compare it with the truth."""
    x, target, _, atoms = places(name, 200_000, magnitudes=magnitudes, seed=1)
    data: dict[str, Any] = {"x": x if len(x) > 1 else x[0]}
    if name != "crosscoder" and target is not x[0]:
        data["target"] = target if len(x) == 1 else target.split(D, dim=1)
    trained = sae.fit(**data, architecture=name, d_sae=ATOMS, tokens=tokens, batch_tokens=256, seed=seed, **settings_of(name))
    x, held_out, present, atoms = places(name, 20_000, magnitudes=magnitudes, seed=2)
    with torch.no_grad():
        output = trained(torch.cat(x, dim=1))
    fired = output.latent_acts > 0
    match = best_assignment(-cosines(atoms, trained.W_dec))
    residual = (output.recon - held_out).square().sum()
    return {
        "MMCS": float(mean_max_cosine(trained.W_dec, atoms)),
        "of truth": float(mean_max_cosine(atoms, trained.W_dec)),
        "matched": float(matched_cosine(atoms, trained.W_dec)),
        "F1": detector_f1(fired, present, match),
        "L0": float(fired.sum(dim=1).double().mean()),
        "FVU": float(residual / (held_out - held_out.mean(dim=0)).square().sum()),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--magnitudes", action="store_true")
    parser.add_argument("--sae", nargs="*", default=list(TRAINED), choices=TRAINED)
    options = parser.parse_args()
    print(f"{ATOMS} atoms in {D} dimensions, {ATOMS * PROBABILITY:.2f} present in a row, {options.tokens:,} rows")
    header_written = False
    for name in options.sae:
        found = recovered(name, tokens=options.tokens, magnitudes=options.magnitudes)
        if not header_written:
            print(f"| {'architecture':16} | {' | '.join(f'{key:>8}' for key in found)} |")
            print(f"|{'-' * 18}|{'|'.join('-' * 10 for _ in found)}|")
            header_written = True
        print(f"| {name:16} | {' | '.join(f'{value:8.3f}' for value in found.values())} |", flush=True)


if __name__ == "__main__":
    main()
