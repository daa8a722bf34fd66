"""A text's page and a steered continuation the slow way: plain hooks, dense encodings, autograd, float64."""

import torch
from torch import Tensor
from torch.nn import functional as F


def hooked(module, side, change):
    """Call `change` with the tensor going into or coming out of a module; what it returns takes its place."""
    if side == "input":
        return module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))

    def after(_, __, output):
        first = change(output[0] if isinstance(output, tuple) else output)
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return module.register_forward_hook(after)


def activations(subject, ids: Tensor) -> Tensor:
    """What the SAE reads at each token [tokens, d_in]."""
    seen = []
    modules = [(subject.model.module.get_submodule(point.module), point.tensor) for point in subject.inputs]
    handles = [hooked(module, side, lambda hidden: seen.append(hidden) or hidden) for module, side in modules]
    with torch.no_grad():
        subject.model.module(ids[None])
    for handle in handles:
        handle.remove()
    return torch.cat([hidden[0] for hidden in seen], dim=1)


def logits_with(subject, ids: Tensor, added: Tensor) -> Tensor:
    """Logits [tokens, vocabulary] with something added to what the decoder writes [tokens, d_out]."""
    handles, first = [], 0
    for point in subject.targets:
        part = added[:, first : first + point.width]
        module = subject.model.module.get_submodule(point.module)
        handles.append(hooked(module, point.tensor, lambda hidden, part=part: hidden + part[None]))
        first += point.width
    logits = subject.model.module(ids[None]).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def deviations(subject, x: Tensor) -> Tensor:
    """What the decoder's part of each row is multiplied by [tokens, 1]."""
    if not subject.sae.layer_norm:
        return torch.ones(len(x), 1, dtype=x.dtype)
    return (x.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def page(subject, ids: Tensor, kept: list[bool], unembedding: Tensor | None) -> list[dict]:
    """Of each token its loss, and latent -> (activation, effect, logit effect)."""
    x = activations(subject, ids)
    acts = subject.sae.encode(x).detach()
    losses: dict[int, Tensor] = {}
    gradient = None
    if subject.model.has_lm_head:
        added = torch.zeros(len(ids), subject.sae.d_out, dtype=torch.float64, requires_grad=True)
        logits = logits_with(subject, ids, added)
        for place in range(len(ids) - 1):
            if kept[place] and kept[place + 1]:
                losses[place + 1] = F.cross_entropy(logits[place : place + 1], ids[place + 1 : place + 2])
        (gradient,) = torch.autograd.grad(sum(losses.values()), added)
        gradient = gradient * deviations(subject, x)
    tokens = []
    for place in range(len(ids)):
        latents = {}
        for latent in range(subject.sae.d_sae) if kept[place] else ():
            activation = float(acts[place, latent])
            if activation <= 0:
                continue
            row = subject.sae.W_dec[latent].detach()
            effect = None if gradient is None else -activation * float(row @ gradient[place])
            direct = None
            if unembedding is not None and place + 1 < len(ids):
                written = activation * row * deviations(subject, x)[place]
                direct = float(written @ unembedding[ids[place + 1]])
            latents[latent] = (activation, effect, direct)
        tokens.append({"loss": float(losses[place].detach()) if place in losses else None, "latents": latents})
    return tokens


@torch.no_grad()
def continuation(subject, prompt: list[int], clamps: dict[int, float], new_tokens: int) -> tuple[list[int], bool]:
    """The likeliest tokens with latents held: the whole text is read anew for each."""
    ids = list(prompt)
    while len(ids) < len(prompt) + new_tokens:
        so_far = torch.tensor(ids)
        x = activations(subject, so_far)
        acts = subject.sae.encode(x)
        added = torch.zeros(len(ids), subject.sae.d_out, dtype=torch.float64)
        for latent, value in clamps.items():
            added += (value - acts[:, latent, None]) * subject.sae.W_dec[latent]
        added *= deviations(subject, x)
        added[[token in subject.model.special for token in ids]] = 0
        token = int(logits_with(subject, so_far, added)[-1].argmax())
        if token in subject.model.special:
            return ids[len(prompt) :], True
        ids.append(token)
    return ids[len(prompt) :], False
