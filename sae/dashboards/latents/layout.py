"""A map of the latents: decoder rows that point the same way lie near one another."""

import importlib
import importlib.util
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.dashboards.latents.settings import LayoutMethod, PageSettings
from sae.errors import UserError

__all__ = ["layout", "layout_seconds"]

FEWEST_FOR_UMAP = 8
UMAP_NEIGHBOURS = 15
UMAP_SECONDS, UMAP_LATENT_SECONDS = 30, 2e-3  # its compilation in every process, then each latent of width 576; one core


@torch.no_grad()
def layout(
    W_dec: Float[Tensor, "d_sae d_out"], shown: Bool[np.ndarray, " d_sae"], settings: PageSettings
) -> tuple[Float[np.ndarray, "d_sae 2"], Literal["umap", "pca"] | None]:
    """Places on the map, and how they were found.

    Args:
        W_dec: decoder; its rows are brought to unit length.
        shown: latents on the map; the others, and rows of zeros, get NaN.
        settings: the method and the seed.

    Returns:
        Places; and the method: None where fewer than two latents are shown. A handful of latents is laid out by PCA always.

    Raises:
        UserError: UMAP is asked for and umap-learn is not installed.
    """
    rows = W_dec.detach().float().cpu()
    norms = torch.linalg.vector_norm(rows, dim=1)
    on_map = torch.from_numpy(shown) & (norms > 0)
    places = np.full((len(rows), 2), np.nan)
    unit = rows[on_map] / norms[on_map, None]
    if len(unit) < 2:
        return places, None
    if settings.layout == "umap" and not _has_umap():
        raise UserError("layout=umap needs the package umap-learn: install it, or set layout=pca.")
    by_umap = _is_umap(settings.layout, len(unit))
    places[on_map.numpy()] = _umap(unit, settings.seed) if by_umap else _pca(unit)
    return places, "umap" if by_umap else "pca"


def layout_seconds(method: LayoutMethod, latents: int) -> float:
    """About what the map takes, with all latents on it; PCA is done in no time.

    Args:
        method: as `PageSettings.layout` has it.
        latents: of the SAE.
    """
    return UMAP_SECONDS + UMAP_LATENT_SECONDS * latents if _is_umap(method, latents) else 0.0


def _is_umap(method: LayoutMethod, latents: int) -> bool:
    return method != "pca" and latents >= FEWEST_FOR_UMAP and _has_umap()


def _has_umap() -> bool:
    return importlib.util.find_spec("umap") is not None


def _pca(unit: Float[Tensor, "latents d_out"]) -> Float[np.ndarray, "latents 2"]:
    """Components along the two directions of largest variance; in each the largest weight is positive."""
    centred = unit - unit.mean(dim=0)
    directions = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors.flip(1)[:, :2]
    largest_weight = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    places = centred.double() @ (directions * largest_weight.sign())
    return torch.nn.functional.pad(places, (0, 2 - places.shape[1])).numpy()


def _umap(unit: Float[Tensor, "latents d_out"], seed: int) -> Float[np.ndarray, "latents 2"]:
    reducer = importlib.import_module("umap").UMAP(
        n_components=2, metric="cosine", n_neighbors=min(UMAP_NEIGHBOURS, len(unit) - 1), random_state=seed, n_jobs=1
    )
    return np.asarray(reducer.fit_transform(unit.numpy()), dtype=np.float64)
