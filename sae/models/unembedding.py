"""The direct way from the residual stream to the logits: the output embedding with the final norm's weights folded in."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.models.structure import blocks_path, trace

__all__ = ["ON_THE_STREAM", "direct_unembedding"]

ON_THE_STREAM = ("embeddings", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
"""Sites whose activations are the residual stream, or are added to it."""


@torch.no_grad()
def direct_unembedding(model: LanguageModel, hook_point: HookPoint) -> Float[Tensor, "vocabulary d_model"] | None:
    """What each dimension of the residual stream adds to each token's logit, the final norm's division left out.

    A vector v in the stream raises logit t by v . result[t] / s, with s the length by which the final norm divides, the same
    for all tokens at a position. A layer norm's centring is folded in too; biases, soft caps and scales of logits are not.

    Args:
        model: any model.
        hook_point: where the vectors are; None is given where that is not on the residual stream.

    Returns:
        In float32 on the CPU; None where the model predicts no next tokens, or its head does not read the final norm's output.
    """
    head = model.module.get_output_embeddings() if model.has_lm_head else None
    if hook_point.site not in ON_THE_STREAM or not isinstance(head, nn.Linear) or head.in_features != model.d_model:
        return None
    trunk = blocks_path(model.module).rpartition(".")[0]
    norms = [
        f"{trunk}.{name}".lstrip(".")
        for name, child in model.module.get_submodule(trunk).named_children()
        if [parameter.shape for parameter in child.parameters()][:1] == [(model.d_model,)]
    ]
    last = f"{blocks_path(model.module)}.{model.num_layers - 1}"
    calls = {call.module: call.output for call in trace(model, [trunk, last, *norms])}
    final = calls.get(trunk)
    if final is None:
        return None
    of_final = [name for name in (*norms, last) if (given := calls.get(name)) is not None and torch.equal(given, final)]
    if not of_final:
        return None
    weight = head.weight.float().cpu()
    return weight if of_final[0] == last else _fold(model.module.get_submodule(of_final[0]), weight)


def _fold(norm: nn.Module, weight: Float[Tensor, "vocabulary d_model"]) -> Float[Tensor, "vocabulary d_model"]:
    """The weight after the norm's own, which a vector of ones of both signs shows: neither kind of norm changes its length."""
    parameter = next(norm.parameters())
    signs = torch.ones(weight.shape[1], dtype=parameter.dtype, device=parameter.device)
    signs[1::2] = -1
    gain = (((norm(signs[None]) - norm(-signs[None])) / 2)[0] * signs).float().cpu()
    folded = weight * gain
    shifted = torch.allclose(norm(signs[None] + 3), norm(signs[None]), atol=1e-2)
    return folded - folded.mean(dim=1, keepdim=True) if shifted else folded
