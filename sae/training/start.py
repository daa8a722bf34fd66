"""Where a learner's weights begin: drawn by the recipe, or those of a trained SAE."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.crosscoder import CrosscoderSAE
from sae.architectures.initialise import initialise_
from sae.architectures.initialise_biases import initialise_b_dec_, initialise_b_enc_
from sae.errors import UserError
from sae.losses.l0 import thresholds
from sae.training.recipe import Recipe
from sae.training.row_spaces import RowSpaces

__all__ = ["draw_", "take_over_"]

ROUNDING = 1e-4  # relative: norms, and thresholds, that differ by less are equal, but for rounding
START_ROWS = 16384  # of the first chunk, on which encoder biases that follow from firing rates are set


def draw_(
    sae: SparseAutoencoder,
    recipe: Recipe,
    spaces: RowSpaces,
    values: Mapping[str, Float[Tensor, "rows _"]],
    generator: torch.Generator,
) -> None:
    """Initialise the weights, in place.

    Args:
        sae: to be trained.
        recipe: says how.
        spaces: with scales and centres known.
        values: raw activations of the first chunk, by hook point.
        generator: source of all randomness.

    Raises:
        UserError: the rows do not vary or are not finite.
    """
    rows = spaces.targets(values)
    initialise_(
        sae,
        decoder_norm=recipe.decoder_norm,
        tied=recipe.tied_init,
        generator=generator,
        encoder_scale=recipe.encoder_scale,
        directions=recipe.directions,
        rows=rows,
        variance_share=recipe.variance_share,
    )
    sae.reset_latents_(torch.ones(sae.d_sae, dtype=torch.bool, device=sae.W_dec.device))
    initialise_b_dec_(sae, rows, recipe.b_dec_init)
    if recipe.b_enc_init != "zero":
        first = {point: values[point][:START_ROWS] for point in spaces.inputs.points}
        initialise_b_enc_(sae, spaces.inputs(first), recipe.b_enc_init, threshold=thresholds(sae))


def take_over_(sae: SparseAutoencoder, recipe: Recipe, spaces: RowSpaces, trained: SparseAutoencoder) -> None:
    """Take the weights of a trained SAE and bring them into this run's units, in place.

    Args:
        sae: to be trained.
        recipe: of this run.
        spaces: with scales and centres known; where several activations are reconstructed and decoder rows would not keep what
            the constraint asks of them otherwise, the scales take over the ratios that they had to each other.
        trained: of the same architecture and size, in raw units.

    Raises:
        UserError: its numbers mean something else than this run's would.
    """
    _check_same_kind(sae, trained, layer_norm=recipe.scaling == "layer_norm")
    if isinstance(trained, CrosscoderSAE) and trained.shared_latents > 0:
        _keep_ratios_of_shared_latents_(trained, recipe, spaces)
    elif recipe.unit_norm_decoder and _compete(trained):
        _keep_ratios_of_norms_(trained, recipe, spaces)
    sae.load_state_dict(trained.state_dict())
    if trained.apply_b_dec_to_input != sae.apply_b_dec_to_input:
        sae.absorb_input_shift_(trained.b_dec if trained.apply_b_dec_to_input else -trained.b_dec)
    spaces.from_raw_units_(sae)
    _give_thresholds_to_decoder_(sae)
    if recipe.unit_norm_decoder:
        _give_norms_to_latents_(sae)


def _check_same_kind(sae: SparseAutoencoder, trained: SparseAutoencoder, *, layer_norm: bool) -> None:
    """Refuse an SAE that was trained with settings that say what stored numbers mean, and has others than this run."""
    if trained.layer_norm != layer_norm:
        on = {True: "on", False: "off"}
        raise UserError(
            f"the SAE to start from was trained with layer norm {on[trained.layer_norm]}, in this run it is "
            f"{on[layer_norm]}: change sae.scaling (layer_norm is on, all others are off)"
        )
    theirs, ours = trained.config(), sae.config()
    for key in ("activation", "threshold_form", "threshold_rate", "skip", "shared_fraction"):
        its, own = theirs.get(key), ours.get(key)
        if its != own:
            raise UserError(f"the SAE to start from has sae.{key}={its}, this run sae.{key}={own}: make them equal")


def _keep_ratios_of_shared_latents_(trained: CrosscoderSAE, recipe: Recipe, spaces: RowSpaces) -> None:
    """Let the scales of parts be to each other as they were when shared latents had one direction in all of them.

    With other ratios, be it of other rows of the same text, the directions would not be equal, and the first constraint would
    change the function.

    Raises:
        UserError: scales were asked to be 1, and directions are not equal so.
    """
    lengths = trained.decoder_norms().detach().cpu().double()[:, : trained.shared_latents].sum(dim=1)  # as 1 / scale then
    seen = lengths * _scales_of_parts(trained, spaces)
    if _equal_but_for_rounding(seen):
        return
    if recipe.scaling == "none":
        raise UserError(
            f"the SAE to start from shares latents between parts that were scaled as {_as_ratio(1 / lengths)}, and "
            "sae.scaling=none leaves parts as they are: its shared directions would not be equal. Set sae.scaling=variance, "
            "or as it was trained"
        )
    _multiply_scales_(trained, spaces, 1 / seen)


def _keep_ratios_of_norms_(trained: SparseAutoencoder, recipe: Recipe, spaces: RowSpaces) -> None:
    """Let the scales of parts be to each other as they were when all decoder rows, parts together, had one norm.

    They follow from the rows: with s_p the scale of part p and n_ip a row's norm in it, sum_p s_p^2 n_ip^2 is one number for
    all i. Where the rows leave a ratio open, it stays as it is; where no scales make the norms equal, all stay.

    Raises:
        UserError: scales were asked to be 1, and norms are not equal so, though they would be at others.
    """
    if len(trained.target_parts) == 1:
        return
    parts = trained.W_dec.detach().cpu().double().split(list(trained.target_parts), dim=1)
    scales = _scales_of_parts(trained, spaces)
    squares = torch.stack([part.square().sum(dim=1) for part in parts], dim=1) * scales.square()
    squares = squares[squares.sum(dim=1) > 0]
    if len(squares) == 0 or _equal_but_for_rounding(squares.sum(dim=1).sqrt()):
        return
    squares /= squares.sum(dim=1).mean()
    missing = 1 - squares.sum(dim=1, keepdim=True)
    factors = 1 + torch.linalg.lstsq(squares, missing, rcond=ROUNDING, driver="gelsd").solution[:, 0]
    if not bool((factors > 0).all()) or not _equal_but_for_rounding((squares @ factors).clamp(min=0).sqrt()):
        return
    factors = factors.sqrt()
    if recipe.scaling == "none":
        raise UserError(
            f"the SAE to start from reconstructs parts that were scaled as {_as_ratio(scales * factors)}, and sae.scaling=none "
            "leaves parts as they are: its decoder rows would not be of one norm. Set sae.scaling=variance, or as it was "
            "trained; or sae.unit_norm_decoder=false"
        )
    _multiply_scales_(trained, spaces, factors)


def _scales_of_parts(sae: SparseAutoencoder, spaces: RowSpaces) -> Float[Tensor, " parts"]:
    """Of the activations that are reconstructed."""
    return torch.stack([part[0] for part in spaces.targets.scale.cpu().split(list(sae.target_parts))])


def _multiply_scales_(sae: SparseAutoencoder, spaces: RowSpaces, factors: Float[Tensor, " parts"]) -> None:
    """Multiply the scales of parts by these factors, but for a common one: their geometric mean stays."""
    factors = factors / factors.log().mean().exp()
    spaces.targets.scale.mul_(factors.repeat_interleave(torch.tensor(sae.target_parts)).to(spaces.targets.scale))


def _as_ratio(values: Float[Tensor, " values"]) -> str:
    return " : ".join(f"{float(value / values[0]):.4g}" for value in values)


@torch.no_grad()
def _give_thresholds_to_decoder_(sae: SparseAutoencoder) -> None:
    """Give latents one threshold where training selects over the batch, which knows but one, and their factors to the decoder.

    Export moves the norms of a free decoder into the latents, and so into their thresholds; taken as they are, latents would
    compete at other sizes than those they were trained at. A common factor is free: the thresholds' geometric mean stays.
    """
    threshold = sae.batch_threshold
    if threshold is None or not bool((threshold > 0).all()) or _equal_but_for_rounding(threshold):
        return
    wide = threshold.double()
    sae.scale_latents_((wide.log().mean().exp() / wide).to(threshold.dtype))


def _equal_but_for_rounding(values: Float[Tensor, " values"]) -> bool:
    return float(values.max()) <= (1 + ROUNDING) * float(values.min())


def _compete(sae: SparseAutoencoder) -> bool:
    """Whether latents are selected by size while training, in a row or over the batch."""
    return sae.selects_by_size or sae.batch_threshold is not None


def _give_norms_to_latents_(sae: SparseAutoencoder) -> None:
    """Bring decoder rows to unit norm before the constraint does, which would change the function.

    Raises:
        UserError: latents compete by size, and norms that differ would change which of them win.
    """
    norms = torch.linalg.vector_norm(sae.W_dec.detach(), dim=1)
    used = norms[norms > 0]
    if _compete(sae) and len(used) > 0 and not _equal_but_for_rounding(used):
        raise UserError(
            f"the SAE to start from has decoder rows of norm {float(used.min()):.4g} to {float(used.max()):.4g} in this "
            "run's units, and its latents compete by size: with rows brought to norm 1 others would win. Set "
            "sae.unit_norm_decoder=false, or start from an SAE that was trained with unit_norm_decoder=true"
        )
    sae.fold_decoder_norms_()
