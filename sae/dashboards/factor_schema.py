"""The data of the pages of transformer factors, for Python and for the browser.

A factor is a latent of one dictionary over several layers (Yun, Chen, Olshausen, LeCun 2021, arXiv:2103.15949). Its pages lie
in the same folder, in the same encoding, as those of latents, whose `manifest`, `index/N` and `search/N` they share
(`sae.dashboards.schema`). Keys of their own are `factors/N`, `words/N` and `paths/N`, all base64 of gzip of JSON.
`app/src/factor_schema.ts` says the same in TypeScript; a test holds them together.

Tokens are written as places in the `strings` of the file that they stand in. A layer is a place in `FactorsInfo.layers`.
"""

from typing import Literal, TypedDict

from sae.dashboards.schema import Bars, LogitWeights, Manifest, NeighbourEntry, TokenEntry, TokenText

__all__ = [
    "Agreement",
    "Context",
    "FactorActivation",
    "FactorLayer",
    "FactorManifest",
    "FactorRecord",
    "FactorShard",
    "FactorsInfo",
    "LayerInfo",
    "PathPage",
    "PathRequest",
    "PathToken",
    "Saliency",
    "SaliencyRequest",
    "SaliencyShare",
    "SenseGroup",
    "WordOccurrence",
    "WordPage",
    "WordRequest",
]

Level = Literal["low", "mid", "high"]
SaliencyMethod = Literal["leave_one_out_shortlist", "leave_one_out", "integrated_gradients", "lime"]


class LayerInfo(TypedDict):
    """A layer of the mixture."""

    name: str  # of the hook point, such as resid_post.4
    number: int | None  # of the block; None: the embeddings, or a module
    rows: int  # activation vectors that factors were read on
    l0: float  # factors active on a vector, on average
    fvu: float | None  # fraction of the variance unexplained on those vectors


class Agreement(TypedDict):
    """How far two ways to measure saliency say the same of the same contexts."""

    first: SaliencyMethod
    second: SaliencyMethod
    contexts: int  # compared
    correlation: float | None  # mean over contexts of the rank correlation over tokens
    same_top: float | None  # share of contexts whose most salient token, apart from the one that fires, is the same


class SaliencyShare(TypedDict):
    """How many of the contexts that pages show have saliency by the way that they are measured by."""

    method: SaliencyMethod | None  # None: none was asked for
    measured: int  # contexts
    shown: int  # contexts, on all pages


class FactorsInfo(TypedDict):
    """What a dashboard of factors says beside what one of latents says."""

    layers: list[LayerInfo]  # from the first to the last
    importance_top: int  # activations whose mean is the importance
    contexts: int  # shown at most for each layer
    level_rule: str  # how levels were read off the importance curves, in words
    size: int  # factors in a file factors/N
    words: list[str]  # titles of the files words/N
    paths: list[str]  # titles of the files paths/N
    method: str  # sparse coding, or the architecture of the SAE
    saliency: SaliencyShare
    agreement: list[Agreement]  # of the ways to measure saliency, over the contexts on which several were used


class FactorManifest(Manifest):
    """`manifest` of a dashboard of factors; one of latents has no `factors`.

    Columns of its index shards, beside those of `IndexShard` that there are: importance (at the peak layer), peak_layer (a
    place in `FactorsInfo.layers`, -1: it never fired) and level (0 low, 1 middle, 2 high, -1: it never fired).
    """

    factors: FactorsInfo


class Saliency(TypedDict):
    """How much each shown token makes the factor fire at the peak, in the units of the activation.

    leave_one_out: fall of the activation when the token is replaced by the mask token. leave_one_out_shortlist: the same, codes
    without the token being found among few factors, those that fit the text best without one or another of its tokens.
    integrated_gradients: along the straight line from the embeddings of mask tokens; they sum to the difference of the
    activations at its ends. lime: weights of a linear fit to masked copies.
    """

    method: SaliencyMethod
    weights: list[float]  # one a shown token; positive: makes it fire


class Context(TypedDict):
    """A stretch of text whose token at `peak` is among those where the factor is strongest at this layer."""

    document: int
    block: int
    start: int  # position in the block of the first token shown
    peak: int  # offset of the token where the factor is that strong
    tokens: list[int]
    places: list[int]  # offsets where the factor is active at this layer
    acts: list[float]  # activations there
    saliency: list[Saliency]  # by each way that was used; none where it was not measured


class FactorLayer(TypedDict):
    """A factor at one layer."""

    fired: int  # vectors on which it is active
    max: float | None  # None, here and below: it never fired here
    importance: (
        float | None
    )  # mean of its `importance_top` strongest activations here; of all where there are fewer, zeros included
    contexts: list[Context]  # strongest first, one for a token of the text
    tokens: list[TokenEntry]  # that it fires on most, here


class FactorRecord(TypedDict):
    """Everything on a factor's page."""

    factor: int
    level: Level | None  # None: it never fired
    peak_layer: int | None  # of the largest importance
    fired: int  # vectors of all layers
    density: float
    max: float | None
    decoder_norm: float
    concentration: float | None  # share of its firings on its commonest token
    entropy: float | None  # of its firings over tokens, bits
    histogram: Bars  # of its activations above zero, all layers
    neighbours: list[NeighbourEntry]  # by cosine of decoder rows
    logits: LogitWeights | None
    layers: list[FactorLayer]


class FactorShard(TypedDict):
    """`factors/N`: pages of factors `first`, `first + 1`, ..."""

    first: int
    strings: list[TokenText]
    factors: list[FactorRecord]


class FactorActivation(TypedDict):
    """A factor and how strongly it is active."""

    factor: int
    activation: float


class WordOccurrence(TypedDict):
    """One occurrence of a word and the factors on its last token."""

    document: int
    block: int
    start: int
    peak: int  # offset of the word's last token
    tokens: list[int]
    layers: list[list[FactorActivation]]  # for each layer the strongest, strongest first


class SenseGroup(TypedDict):
    """Occurrences of a word that use the same factors at one layer."""

    occurrences: list[int]  # places in WordPage.occurrences
    factors: list[FactorActivation]  # that set it apart from the word's other occurrences: mean activation here less elsewhere


class WordPage(TypedDict):
    """`words/N`: the occurrences of one word, grouped at each layer by which factors they use."""

    word: str
    strings: list[TokenText]
    total: int  # occurrences in the text; of many, a seeded sample is shown
    occurrences: list[WordOccurrence]
    groups: list[list[SenseGroup]]  # for each layer, largest group first


class PathToken(TypedDict):
    """A token of a text and the factors on it at each layer."""

    id: int
    text: str
    kept: bool  # False: a special token, on which no factor is read
    layers: list[list[FactorActivation]]  # for each layer the strongest, strongest first


class PathPage(TypedDict):
    """`paths/N`, and what the server answers for a text: how each token's factors change layer by layer."""

    title: str
    text: str
    tokens: list[PathToken]


class PathRequest(TypedDict):
    """`POST /api/path`, answered by a `PathPage`."""

    text: str


class WordRequest(TypedDict):
    """`POST /api/word`, answered by a `WordPage` from the codes of the dashboard's text."""

    word: str


class SaliencyRequest(TypedDict):
    """`POST /api/saliency`, answered by a `Saliency` over the whole block."""

    factor: int
    layer: int
    block: int
    position: int
    method: SaliencyMethod
