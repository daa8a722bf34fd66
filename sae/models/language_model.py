"""A frozen transformer with its tokenizer and the token ids that open, close and fill blocks."""

import threading
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sae.errors import UserError
from sae.functional import devices

__all__ = ["LanguageModel"]


@final
class LanguageModel:
    """A Hugging Face model in evaluation mode without gradients, and what the rest of the package asks about it.

    One thread at a time may run it: captures and splices hang hooks on shared modules, so that the background harvest would
    otherwise run through another thread's splice. Whoever runs the model holds `lock`.

    Attributes:
        module: the model; its parameters are frozen.
        tokenizer: its tokenizer, or None where only ids are given.
        document_start: id that opens every block, or None.
        document_end: id that closes every block, or None.
        pad: id that fills short blocks.
        special: ids that are never training rows (document start and end, pad, chat marks and the like).
        lock: held while the model runs.
    """

    def __init__(
        self,
        *,
        module: PreTrainedModel,
        tokenizer: Any = None,
        document_start: str | None = None,
        document_end: str | None = None,
        provenance: Mapping[str, object] | None = None,
    ) -> None:
        module.eval()
        module.requires_grad_(False)
        for config in (module.config, module.config.get_text_config()):
            config.use_cache = False  # blocks are read once: keys and values of past tokens are never used again
        self.module = module
        self.tokenizer = tokenizer
        self.document_start = self._token_id(document_start, "model.document_start")
        self.document_end = self._token_id(document_end, "model.document_end")
        self.special = self._special_ids()
        pad = None if tokenizer is None else tokenizer.pad_token_id
        fillers = (pad, self.document_end, self.document_start, 0)
        self.pad: int = next(filler for filler in fillers if filler is not None)
        self.lock = threading.RLock()
        self._provenance = dict(provenance or {})

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.module.config.get_text_config().hidden_size

    @property
    def num_layers(self) -> int:
        """Number of transformer blocks."""
        return self.module.config.get_text_config().num_hidden_layers

    @property
    def vocabulary_size(self) -> int:
        """Rows of the token embedding."""
        return self.module.config.get_text_config().vocab_size

    @property
    def most_positions(self) -> int | None:
        """Tokens that the model can read at once, marks included; None where nothing says."""
        config = self.module.config.get_text_config()
        said = (getattr(config, "max_position_embeddings", None), getattr(self.tokenizer, "model_max_length", None))
        return min((number for number in said if isinstance(number, int)), default=None)

    @property
    def has_lm_head(self) -> bool:
        """Whether the model predicts next tokens: only then do cross-entropy and KL exist."""
        return type(self.module).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights, and so of the activations."""
        return self.module.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    def provenance(self) -> dict[str, object]:
        """What identifies the weights, as JSON-able values for `cfg.json` and manifests."""
        return {"architecture": type(self.module).__name__, "dtype": str(self.dtype).removeprefix("torch."), **self._provenance}

    def run(self, ids: Int[Tensor, "blocks context"], attention: Bool[Tensor, "blocks positions"], past: Any = None) -> Any:
        """Run the model without its head; what callers want of it, they take by hooks.

        Blocks padded on the right need no mask in a causal model, since no token sees a later one. The mask is then left out,
        so that the attention kernel, and with it the last bits of a block's activations, never depend on whether another block
        of the batch is padded.

        Args:
            ids: token ids.
            attention: positions that may be attended to: those of `ids`, and before them those of `past`.
            past: keys and values of positions before these, a cache of transformers, to which these are added; None: nothing
                lies before, and none are kept.

        Returns:
            The output of the model below its head.
        """
        padded_right = not bool((attention[:, 1:] & ~attention[:, :-1]).any()) and bool(attention[:, 0].all())
        mask = None if self.has_lm_head and padded_right else devices.send(attention, self.device)
        base: nn.Module = self.module.base_model
        kept = {} if past is None else {"past_key_values": past, "use_cache": True}
        return base(input_ids=devices.send(ids.long(), self.device), attention_mask=mask, **kept)

    def _token_id(self, token: str | None, key: str) -> int | None:
        if token is None:
            return None
        if self.tokenizer is None:
            raise ValueError(f"{key}={token!r} is text and needs a tokenizer.")
        vocabulary = self.tokenizer.get_vocab()
        if token not in vocabulary:
            known = ", ".join(repr(text) for text in self.tokenizer.all_special_tokens)
            raise UserError(
                f"{key}={token!r} is not a token of this model. Its special tokens are {known}: set {key} to one of them, "
                f"or to null for the tokenizer's own choice."
            )
        return vocabulary[token]

    def _special_ids(self) -> frozenset[int]:
        ids = {self.document_start, self.document_end} - {None}
        if self.tokenizer is not None:
            ids |= set(self.tokenizer.all_special_ids)
            ids |= {token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special}
        return frozenset(token for token in ids if token is not None)
