"""How well a model predicts next tokens, clean and with an activation replaced: cross-entropy and KL divergence, in nats.

Logits are made for a few positions at a time, so that no [blocks, context, vocabulary] tensor ever exists: a vocabulary of
262k makes one of 8k positions eight gigabytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.splice import Replace, splice
from sae.models.structure import blocks_path
from sae.models.taps import ForwardStopped, tap

__all__ = [
    "NextTokenScores",
    "answering",
    "compare_next_tokens",
    "final_states",
    "log_probabilities",
    "logits_of",
    "next_token_divergence",
    "score_next_tokens",
    "scored_positions",
]

CLEAN = "clean"
SLICE_LOGITS = 2**24  # logits held at once for one run: 64 MiB in float32


@dataclass(frozen=True)
class NextTokenScores:
    """Scores of one run at the scored positions, in row-major order.

    Attributes:
        cross_entropy: minus the log probability of the next token, nats.
        divergence: KL(clean || this run) of the next-token distributions, nats; zero for the clean run itself.
    """

    cross_entropy: Float[Tensor, " scored"]
    divergence: Float[Tensor, " scored"]


def scored_positions(keep: Bool[Tensor, "blocks context"]) -> Bool[Tensor, "blocks sources"]:
    """Positions whose next token is scored: both the position itself and the next one are kept.

    Args:
        keep: positions that are neither special tokens nor padding.

    Returns:
        A mask over all positions but the last.
    """
    return keep[:, :-1] & keep[:, 1:]


def compare_next_tokens(
    model: LanguageModel,
    ids: Int[Tensor, "blocks context"],
    attention: Bool[Tensor, "blocks context"],
    keep: Bool[Tensor, "blocks context"],
    *,
    hook_point: HookPoint,
    replacements: Mapping[str, Replace],
) -> dict[str, NextTokenScores]:
    """Score a clean run, and a run for each way to replace the activations of the kept positions at one hook point.

    Args:
        model: a model with a language modelling head.
        ids: token ids.
        attention: positions that may be attended to.
        keep: positions whose activation is replaced, and between which next tokens are scored.
        hook_point: where the activation is replaced.
        replacements: name of the run -> what takes the activations' place.

    Returns:
        "clean" and the names of `replacements` -> scores.

    Raises:
        ValueError: the model has no language modelling head, or a run is called "clean".
    """
    if CLEAN in replacements:
        raise ValueError(f"The name {CLEAN!r} belongs to the run without replacement.")
    states = {CLEAN: final_states(model, ids, attention)}
    for name, replace in replacements.items():
        with splice(model, hook_point, replace, keep):
            states[name] = final_states(model, ids, attention)
    return score_next_tokens(model, states, ids, keep)


def final_states(
    model: LanguageModel,
    ids: Int[Tensor, "blocks context"],
    attention: Bool[Tensor, "blocks positions"],
    *,
    gradients: bool = False,
    past: Any = None,
) -> Float[Tensor, "blocks context d_final"]:
    """What the language modelling head reads: the residual stream after the last block and the final norm.

    Args:
        model: a model with a language modelling head.
        ids: token ids.
        attention: positions that may be attended to.
        gradients: keep the graph, for a pass inside a `splice` with gradients.
        past: keys and values of positions before these; `attention` has them too.

    Returns:
        The final states, in the model's number format.

    Raises:
        ValueError: the model has no language modelling head.
    """
    seen: list[Tensor] = []

    def take(hidden: Tensor) -> None:
        seen.append(hidden)
        raise ForwardStopped

    with model.lock, torch.set_grad_enabled(gradients):
        handle = tap(_trunk(model), "output", take)
        try:
            with suppress(ForwardStopped):
                model.run(ids, attention, past)
        finally:
            handle.remove()
    return seen[0]


def score_next_tokens(
    model: LanguageModel,
    states: Mapping[str, Float[Tensor, "blocks context d_final"]],
    ids: Int[Tensor, "blocks context"],
    keep: Bool[Tensor, "blocks context"],
) -> dict[str, NextTokenScores]:
    """Cross-entropy of every run, and its divergence from the clean one, from their final states.

    Args:
        model: a model with a language modelling head.
        states: name of the run -> its final states; "clean" is among them.
        ids: token ids.
        keep: positions that are neither special tokens nor padding; see `scored_positions`.

    Returns:
        Name of the run -> scores, in float32, or in float64 where the model is.

    Raises:
        ValueError: the model has no language modelling head, or its head does not read the trunk's output.
    """
    scored = scored_positions(keep)
    targets = ids[:, 1:][scored].to(model.device, torch.long)
    rows = {name: state[:, :-1][scored.to(state.device)] for name, state in states.items()}
    nothing = torch.zeros(targets.shape[0], dtype=torch.promote_types(model.dtype, torch.float32), device=model.device)
    losses, divergences = ({name: nothing.clone() for name in states} for _ in range(2))
    step = max(1, SLICE_LOGITS // model.vocabulary_size)
    with model.lock, torch.no_grad():
        for start in range(0, targets.shape[0], step):
            window = slice(start, start + step)
            clean = log_probabilities(model, rows[CLEAN][window])
            for name, row in rows.items():
                run = clean if name == CLEAN else log_probabilities(model, row[window])
                losses[name][window] = -run.gather(1, targets[window, None])[:, 0]
                if name != CLEAN:
                    divergences[name][window] = F.kl_div(run, clean, reduction="none", log_target=True).sum(dim=1)
    return {name: NextTokenScores(losses[name], divergences[name]) for name in states}


def next_token_divergence(
    model: LanguageModel, clean: Float[Tensor, "positions d_final"], run: Float[Tensor, "positions d_final"]
) -> Float[Tensor, " positions"]:
    """KL(clean || run) of the next-token distributions, in nats, with a gradient for `run`.

    Logits are made a slice at a time, and again in the backward pass, so that those of all positions never exist together.

    Args:
        model: a model with a language modelling head.
        clean: final states of the untouched run.
        run: final states of the other, with their graph.
    """

    def of_slice(clean_slice: Tensor, run_slice: Tensor) -> Tensor:
        with torch.no_grad():
            expected = log_probabilities(model, clean_slice)
        return F.kl_div(log_probabilities(model, run_slice), expected, reduction="none", log_target=True).sum(dim=1)

    step = max(1, SLICE_LOGITS // model.vocabulary_size)
    with model.lock:
        parts = [
            torch.as_tensor(checkpoint(of_slice, one, two, use_reentrant=False))
            for one, two in zip(clean.split(step), run.split(step), strict=True)
        ]
    return torch.cat(parts)


@final
class TrunkAnswer(tuple[Tensor]):
    """Stands for any family's output class: it has the final states, and None for whatever else a head may look at."""

    def __getattr__(self, name: str) -> Tensor | None:
        """The field of that name."""
        return self[0] if name == "last_hidden_state" else None


def log_probabilities(model: LanguageModel, rows: Float[Tensor, "positions d_final"]) -> Float[Tensor, "positions vocabulary"]:
    """Log probabilities of `logits_of`, in float32 or, of a float64 model, in float64."""
    logits = logits_of(model, rows)
    return torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def logits_of(model: LanguageModel, rows: Float[Tensor, "positions d_final"]) -> Float[Tensor, "positions vocabulary"]:
    """Logits from the model's own code after its trunk, soft caps and scales of some families included."""
    dummy = torch.zeros(1, rows.shape[0], dtype=torch.long, device=rows.device)
    with answering(_trunk(model), TrunkAnswer((rows[None],))) as asked:
        logits: Tensor = model.module(input_ids=dummy).logits[0]
    if not asked:
        raise ValueError(f"The head of {type(model.module).__name__} does not read the output of the module above its blocks.")
    return logits


def _trunk(model: LanguageModel) -> nn.Module:
    """The module that owns the blocks and the final norm."""
    if not model.has_lm_head:
        raise ValueError(f"{type(model.module).__name__} has no language modelling head: it predicts no next tokens.")
    return model.module.get_submodule(blocks_path(model.module).rpartition(".")[0])


@contextmanager
def answering(module: nn.Module, answer: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Let a module give `answer` without running; the list yielded gets the positional arguments of every call."""
    asked: list[tuple[Any, ...]] = []

    def forward(*args: Any, **_: Any) -> Any:
        asked.append(args)
        return answer

    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield asked
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
