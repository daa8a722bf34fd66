"""What putting the reconstruction in the activation's place costs the model's next-token predictions.

The reconstruction replaces the activation at kept positions; special tokens and padding keep the clean one, with zeros and the
mean put in alike. A prediction is scored where both the token it is made from and the token it is about are kept.

What an SAE reads may lie elsewhere than what it reconstructs (transcoders, crosscoders). It is then given the clean activations
of the same positions, and the place of its target is the only one that is changed. For a target after the input, this is what
a single pass gives that takes the prediction from the input on its way.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.evaluation.passes import RowPasses
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.next_token import final_states, score_next_tokens, scored_positions
from sae.models.splice import Replace, splice
from sae.tokens.blocks import TokenBlocks

__all__ = [
    "SPLICE_KEYS",
    "CleanRun",
    "ReadInputs",
    "evaluate_splice",
    "no_cross_entropy",
    "recovered_fraction",
    "spread_blocks",
]

# Clean activations at the kept positions of some blocks, in row-major order, as the SAE reads them.
ReadInputs = Callable[[TokenBlocks], Float[Tensor, "rows d_in"]]

WHOLE = slice(None)

SPLICE_KEYS = (
    "ce_clean",
    "ce_sae",
    "ce_zero",
    "ce_mean",
    "ce_increase",
    "ce_recovered_zero",
    "ce_recovered_mean",
    "kl",
    "ce_tokens_scored",
)


@final
class CleanRun:
    """A model's untouched predictions on some held-out blocks, for comparing any number of SAEs with them.

    Final hidden states are kept (a few megabytes) and logits made from them again, since those of a large vocabulary fill
    gigabytes. Losses with zeros and with the mean put in are kept for each hook point once they have been computed.
    """

    def __init__(self, model: LanguageModel, blocks: TokenBlocks, *, max_tokens: int, forward_blocks: int = 8) -> None:
        """Run the model.

        Args:
            model: the model; without a language modelling head nothing is computed and `reason` says so.
            blocks: held-out blocks, of which some are taken from all over.
            max_tokens: how many predictions to score at most; a single block is always taken.
            forward_blocks: blocks in one forward pass.

        Raises:
            UserError: no prediction can be scored.
        """
        self.model = model
        self.reason = None if model.has_lm_head else f"{type(model.module).__name__} has no language modelling head"
        chosen = spread_blocks(blocks, max_tokens)
        self.num_scored = int(scored_positions(chosen.keep).sum())
        self._parts: list[tuple[TokenBlocks, Tensor]] = []
        self._ablated: dict[str, tuple[Tensor, dict[str, float]]] = {}
        if self.reason is not None:
            return
        if self.num_scored == 0:
            raise UserError(
                f"No next token can be scored: none of the {len(blocks)} held-out blocks of {blocks.context_length} tokens has "
                "two neighbouring tokens that are neither special nor padding. Raise data.held_out_fraction."
            )
        for start in range(0, len(chosen), forward_blocks):
            part = chosen.select(torch.arange(start, min(start + forward_blocks, len(chosen))))
            self._parts.append((part, final_states(model, part.ids, part.attention)))

    def compare(
        self,
        hook_point: HookPoint,
        replace: Replace,
        *,
        mean: Float[Tensor, " width"],
        inputs: ReadInputs | None = None,
    ) -> tuple[dict[str, float], float]:
        """Mean cross-entropy of the untouched run and of three others, and how far the replaced run diverges.

        Args:
            hook_point: where the activation is replaced.
            replace: what takes its place at kept positions, from the activation itself or from what `inputs` gives.
            mean: the held-out mean activation at this hook point.
            inputs: gives what `replace` reads, where that is not the activation itself.

        Returns:
            Cross-entropies in nats of "clean", "sae" (the run with `replace`), "zero" and "mean"; and KL(clean || sae) in nats.
        """
        known = self._ablated.get(hook_point.name)
        runs: dict[str, Replace] = {"sae": replace}
        if known is None or not torch.equal(known[0], mean):
            runs |= {"zero": torch.zeros_like, "mean": lambda rows: mean.to(rows).expand_as(rows)}
        losses, divergence = self._score(hook_point, runs, inputs)
        if known is None or "zero" in losses:
            known = self._ablated[hook_point.name] = (mean.clone(), {name: losses[name] for name in ("zero", "mean")})
        return losses | known[1], divergence

    def _score(
        self, hook_point: HookPoint, runs: Mapping[str, Replace], inputs: ReadInputs | None
    ) -> tuple[dict[str, float], float]:
        """Mean cross-entropy of the clean run and of each run, and the mean divergence of "sae"."""
        sums = dict.fromkeys(("clean", *runs), 0.0)
        divergence = 0.0
        for part, clean in self._parts:
            states = {"clean": clean}
            for name, replace in runs.items():
                put = replace if inputs is None or name != "sae" else partial(_given, replace(inputs(part)))
                with splice(self.model, hook_point, put, part.keep):
                    states[name] = final_states(self.model, part.ids, part.attention)
            for name, scores in score_next_tokens(self.model, states, part.ids, part.keep).items():
                sums[name] += float(scores.cross_entropy.double().sum())
                divergence += float(scores.divergence.double().sum()) if name == "sae" else 0.0
        return {name: total / self.num_scored for name, total in sums.items()}, divergence / self.num_scored


@torch.no_grad()
def evaluate_splice(
    sae: SparseAutoencoder,
    clean_run: CleanRun,
    hook_point: HookPoint,
    *,
    mean: Float[Tensor, " width"],
    inputs: ReadInputs | None = None,
    columns: slice = WHOLE,
) -> dict[str, float | int | str | None]:
    """Put an SAE's reconstruction into the model and score the predictions.

    Args:
        sae: takes raw activations: an exported SAE. Its mode is put back afterwards.
        clean_run: the model's untouched predictions.
        hook_point: where the reconstruction belongs.
        mean: the held-out mean activation there, for the mean ablation.
        inputs: gives what the SAE reads, where that is not the activation at `hook_point`.
        columns: the part of the reconstruction that belongs to `hook_point`.

    Returns:
        `SPLICE_KEYS` and `ce_reason`: cross-entropies and KL in nats a token; all None, with the reason, where the model has no
        language modelling head.
    """
    if clean_run.reason is not None:
        return no_cross_entropy(clean_run.reason)
    was_training = sae.training
    sae.eval()
    passes = RowPasses(sae)
    losses, divergence = clean_run.compare(
        hook_point, lambda rows: passes.recon(rows.to(sae.W_dec))[:, columns], mean=mean, inputs=inputs
    )
    sae.train(was_training)
    clean, spliced = losses["clean"], losses["sae"]
    numbers = {
        **{f"ce_{name}": loss for name, loss in losses.items()},
        "ce_increase": spliced - clean,
        "ce_recovered_zero": recovered_fraction(ce=spliced, clean=clean, ablated=losses["zero"]),
        "ce_recovered_mean": recovered_fraction(ce=spliced, clean=clean, ablated=losses["mean"]),
        "kl": divergence,
    }
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "ce_tokens_scored": clean_run.num_scored, "ce_reason": None}


def _given(new: Tensor, rows: Tensor) -> Tensor:
    return new.to(rows)


def no_cross_entropy(reason: str) -> dict[str, float | int | str | None]:
    """The keys of `evaluate_splice` without values, and why."""
    return {**dict.fromkeys(SPLICE_KEYS), "ce_reason": reason}


def recovered_fraction(*, ce: float, clean: float, ablated: float) -> float | None:
    """(ablated - ce) / (ablated - clean): 1 where nothing is lost, 0 where replacing is as bad as ablating.

    Args:
        ce: cross-entropy with the reconstruction put in, in nats.
        clean: of the untouched model.
        ablated: with zeros or the mean put in.

    Returns:
        The fraction, or None where the ablation changes nothing, so that there is nothing to recover.
    """
    return None if ablated == clean else (ablated - ce) / (ablated - clean)


def spread_blocks(blocks: TokenBlocks, max_tokens: int) -> TokenBlocks:
    """Blocks taken at even distances, so that many documents are among them, with at most so many scored predictions.

    Args:
        blocks: all held-out blocks, in document order.
        max_tokens: predictions that may be scored; one block is taken even where it holds more.
    """
    scored = scored_positions(blocks.keep).sum(dim=1)
    wanted = math.ceil(len(blocks) * min(1.0, max_tokens / max(1, int(scored.sum()))))
    index: Int[Tensor, " chosen"] = torch.linspace(0, len(blocks) - 1, max(1, wanted)).round().long().unique()
    fits = scored[index].cumsum(dim=0) <= max_tokens
    fits[0] = True
    return blocks.select(index[fits])
