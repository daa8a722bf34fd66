"""A few texts as the token blocks that a model reads; whole corpora come from `sae.tokens.corpus`."""

from collections.abc import Sequence

from sae.errors import UserError
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks
from sae.tokens.documents import Document
from sae.tokens.packing import pack_documents
from sae.tokens.tokenisation import TokenisationSpec

__all__ = ["token_blocks", "tokenisation_spec"]


def tokenisation_spec(model: LanguageModel) -> TokenisationSpec:
    """The special ids that a model wants around its text."""
    return TokenisationSpec(
        document_start=model.document_start,
        document_end=model.document_end,
        pad=model.pad,
        special=model.special,
        vocabulary_size=model.vocabulary_size,
    )


def token_blocks(model: LanguageModel, texts: str | Sequence[str], *, context_length: int = 128) -> TokenBlocks:
    """Tokenise texts for a model, each opened and closed as the model wants its documents.

    Args:
        model: a model with a tokenizer.
        texts: one text or several. One that is longer than a block goes on in the next; one without tokens gives none.
        context_length: positions in a block at most; blocks are no longer than the longest text needs.

    Returns:
        The blocks: `ids` and `attention` for the model, `keep` to leave out special tokens and padding, and `document`, the
        number of the text at each position.

    Raises:
        UserError: there is no token in the texts, or no room for one in a block.
    """
    documents = [Document.of_text(text) for text in ([texts] if isinstance(texts, str) else texts)]
    spec = tokenisation_spec(model)
    blocks = pack_documents(documents, model.tokenizer, spec, context_length=context_length, min_tail=1)
    if len(blocks) == 0:
        which = "The text holds" if len(documents) == 1 else f"The {len(documents)} texts hold"
        raise UserError(f"{which} no token. Expected at least one word.")
    longest = int(blocks.attention.sum(dim=1).max())
    return TokenBlocks(
        ids=blocks.ids[:, :longest],
        attention=blocks.attention[:, :longest],
        keep=blocks.keep[:, :longest],
        document=blocks.document[:, :longest],
    )
