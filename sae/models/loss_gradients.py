"""Cross-entropy of next tokens with its gradient, the logits of a few positions at a time.

Most of what a language model spends on a token may lie here: SmolLM2-135M has as many weights in its output embedding as in
eight of its thirty blocks.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sae.models.language_model import LanguageModel
from sae.models.next_token import answering, log_probabilities, logits_of, scored_positions
from sae.models.quick_products import QuickProducts

__all__ = ["SLICE_BYTES", "loss_gradients"]

SLICE_BYTES = 24 * 2**20  # of a slice's logits: above 32 MiB every tensor gets fresh pages from the system, which is slow


def loss_gradients(
    model: LanguageModel,
    states: Float[Tensor, "blocks context d_final"],
    ids: Int[Tensor, "blocks context"],
    keep: Bool[Tensor, "blocks context"],
    products: QuickProducts | None = None,
) -> tuple[Float[Tensor, " scored"], Float[Tensor, "blocks context d_final"]]:
    """Cross-entropy of every scored prediction, and the gradient of their sum with respect to the final states.

    Forward and backward a slice of positions at a time, so that logits of all positions never exist together and none are made
    twice. The gradient can be handed on to what the states were made of.

    Args:
        model: a model with a language modelling head.
        states: final states.
        ids: token ids.
        keep: positions that are neither special tokens nor padding; see `scored_positions`.
        products: an open context that makes the model's products in a lower number format; probabilities are rounded to it
            too.

    Returns:
        Losses in nats, row-major, in float32, no more than the 87 whose probability that format still holds; and the gradient,
        zero where nothing is scored.

    Raises:
        ValueError: the model has no language modelling head, or its head does not read the trunk's output.
    """
    scored = scored_positions(keep).to(states.device)
    targets = ids.to(states.device, torch.long)[:, 1:][scored]
    rows = states.detach()[:, :-1][scored]
    losses: list[Tensor] = []
    gradients: list[Tensor] = []
    with model.lock:
        head = _matrix_head(model)
        weight = None if head is None else head.weight if products is None else products.rounded(head.weight)
        size = 4 if weight is None else weight.itemsize
        step = max(1, SLICE_BYTES // (model.vocabulary_size * size))
        for some, wanted in zip(rows.split(step), targets.split(step), strict=True):
            if head is None or weight is None:
                loss, gradient = _by_graph(model, some, wanted)
            else:
                loss, gradient = _by_matrix(head, weight, some, wanted)
            losses.append(loss)
            gradients.append(gradient)
    gradient = torch.zeros_like(states)
    gradient[:, :-1][scored] = torch.cat(gradients)
    return torch.cat(losses), gradient


@torch.no_grad()
def _matrix_head(model: LanguageModel) -> nn.Linear | None:
    """The output embedding where logits are its product with the trunk's output and nothing else, else None.

    Told without a product: what the head is asked must be what the trunk gave, and what it answers must be the logits.
    """
    head = model.module.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return None
    states = torch.linspace(-3, 3, 2 * head.in_features).to(head.weight).unflatten(0, (2, -1))
    answer = torch.linspace(-300, 300, 2 * head.out_features).to(head.weight).unflatten(0, (1, 2, -1))
    with answering(head, answer) as asked:
        logits = logits_of(model, states)
    alone = len(asked) == 1 and torch.equal(asked[0][0][0], states) and torch.equal(logits.to(answer), answer[0])
    return head if alone else None


@torch.no_grad()
def _by_matrix(
    head: nn.Linear,
    weight: Float[Tensor, "vocabulary d_final"],
    rows: Float[Tensor, "positions d_final"],
    targets: Int[Tensor, " positions"],
) -> tuple[Float[Tensor, " positions"], Float[Tensor, "positions d_final"]]:
    """Losses and gradients p @ W - W[target] with p = softmax(rows @ W.T + b); three tensors of all logits fewer than a graph.

    Args:
        head: W and b.
        weight: W in the number format of the products.
        rows: final states.
        targets: the next tokens.
    """
    logits = rows.to(weight) @ weight.T
    if head.bias is not None:
        logits += head.bias.to(weight)
    probabilities = torch.softmax(logits, dim=-1)
    wanted = probabilities.gather(1, targets[:, None])[:, 0]
    losses = -wanted.clamp_min(torch.finfo(wanted.dtype).tiny).float().log()
    return losses, (probabilities @ weight).to(rows) - head.weight[targets]


def _by_graph(
    model: LanguageModel, rows: Float[Tensor, "positions d_final"], targets: Int[Tensor, " positions"]
) -> tuple[Float[Tensor, " positions"], Float[Tensor, "positions d_final"]]:
    """Losses and gradients through whatever the model makes of its final states."""
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_()
        losses = -log_probabilities(model, leaf).gather(1, targets[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), cast(Tensor, gradient)
