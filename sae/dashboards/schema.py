"""The dashboard's data files, as the browser reads them: what each holds, and what its numbers mean.

A dashboard is a folder that opens from disk. Browsers refuse to fetch files there but load scripts, so every data file is
a script of one call, `dashboard.put("KEY", PAYLOAD)`, and is loaded when it is needed. Keys: `manifest`, `index/N`,
`latents/N`, `search/N`, `texts/N`. PAYLOAD is JSON, or for `latents/N` and `search/N` base64 of gzip of JSON, ASCII alone, so
that no text of a document is ever markup or code. `app/src/schema.ts` says the same in TypeScript; a test holds them together.

Tokens are written as places in the `strings` of the file that they stand in.
"""

from typing import Literal, TypedDict

__all__ = [
    "Bars",
    "Column",
    "ExactEffects",
    "Example",
    "ExampleGroup",
    "ExplanationEntry",
    "IndexShard",
    "LatentRecord",
    "LatentShard",
    "LogitWeights",
    "Manifest",
    "NeighbourEntry",
    "NeuronEntry",
    "ScoreEntry",
    "SearchShard",
    "TextLatent",
    "TextPage",
    "TextToken",
    "TokenEntry",
    "TokenText",
]


class Column(TypedDict):
    """Numbers of an index shard, one a latent: base64 of little-endian values; NaN where there is none."""

    type: Literal["f32", "i32", "u8"]
    data: str


class Bars(TypedDict):
    """A histogram: counts between edges, one edge more than counts."""

    edges: list[float]
    counts: list[int]


class TokenText(TypedDict):
    """A token as people read it and as the tokenizer numbers it."""

    id: int
    text: str


class ExactEffects(TypedDict):
    """Firings that were removed one by one: of many latents the one whose estimated effect on the loss is largest."""

    firings: int
    agreement: float | None  # rank correlation of the sizes of their estimates and of their exact effects; None: too few


class Manifest(TypedDict):
    """`manifest`: what the dashboard is of, and how its data is cut."""

    version: int
    title: str
    sae: dict[str, str | int | float | None]  # architecture, d_in, d_sae and what else cfg.json says, for the head of pages
    model: str
    hook_point: str
    source: str  # the text: name and licence
    rows: int  # tokens that the latents were read on
    documents: int
    blocks: int
    context: int
    window: list[int]  # tokens shown before and after the strongest
    effects: Literal["gradient"] | None  # effects on the loss stand beside activations
    exact_effects: ExactEffects | None  # how many of them were measured too; None: none
    index_size: int  # latents in a file index/N
    latents_size: int  # latents in a file latents/N
    search_size: int  # latents in a file search/N
    num_latents: int
    columns: list[str]  # of index shards
    coactive_rows: int  # drawn of the rows, on which latents that fire together were counted
    dead: int  # latents that fired on no row
    ultra_low: float  # density below which a latent is ultra-low
    texts: list[str]  # titles of the files texts/N
    layout: Literal["umap", "pca"] | None  # how x and y of the map were made
    has_scores: bool
    run_page: str | None  # file name of the run's page in the folder
    sweep_page: str | None  # file name of the page that compares the runs of the sweep that the run belongs to
    made_with: str  # version of this project


class IndexShard(TypedDict):
    """`index/N`: the table of latents, by columns.

    Columns: density (share of rows), max and mean (of the activations above zero), decoder_norm, concentration (share of the
    firings on its commonest token), entropy (of the firings over tokens, bits), top_token (into strings, -1: none), effect
    (largest absolute effect on the loss, nats), effect_exact (1: of its firings that were removed one by one; 0: of the
    estimates of all its firings), x and y (the map), score (best of its explanations).
    """

    first: int
    columns: dict[str, Column]
    strings: list[TokenText]
    explanations: dict[str, str]  # latent number -> text, where there is one


class SearchShard(TypedDict):
    """`search/N`: what a search looks through, loaded at the first search."""

    first: int
    strings: list[TokenText]
    tokens: list[list[int]]  # of each latent: the tokens it fires on most
    snippets: list[str]  # of each latent: the words around its strongest activations


class TokenEntry(TypedDict):
    """A token that a latent fires on."""

    token: int
    count: int
    share: float  # of the latent's firings
    mean: float  # activation there


class LogitWeights(TypedDict):
    """The latent's decoder row times the unembedding, with the final norm's weights and without its division.

    That is what one unit of activation adds directly to each logit, times the length by which the norm divides at the token.
    """

    raised: list[tuple[int, float]]  # (token, weight), largest first
    lowered: list[tuple[int, float]]  # smallest first
    histogram: Bars


class NeighbourEntry(TypedDict):
    """Another latent and how near it is."""

    latent: int
    value: float


class NeuronEntry(TypedDict):
    """A dimension of the activation space in the decoder row."""

    dimension: int
    weight: float
    share: float  # of the row's absolute sum


class ExplanationEntry(TypedDict):
    """Words for a latent, and how well they predict it where that was measured."""

    text: str
    source: str
    score: float | None


class ScoreEntry(TypedDict):
    """A number from a probe or an automatic evaluation."""

    name: str
    value: float


class Example(TypedDict):
    """A stretch of text around a token on which a latent fires.

    `acts` and `effects` go with `places`, offsets from the first token shown. An effect is what the summed loss of all later
    predictions of the block gains, in nats, when this latent is removed at that token: `-activation * decoder row . gradient`
    (an estimate to first order). `exact` has the same for some places by removing it and running the model again.
    """

    document: int
    block: int
    start: int  # position in the block of the first token shown
    peak: int  # offset of the token that the example was chosen for
    tokens: list[int]
    places: list[int]
    acts: list[float]
    effects: list[float] | None
    exact: dict[str, float]  # offset -> nats


class ExampleGroup(TypedDict):
    """Examples chosen in one way: `top`, `interval` (drawn from a tenth of the range of activations) or `random`."""

    kind: Literal["top", "interval", "random"]
    low: float | None  # activations of the interval
    high: float | None
    count: int  # firings that belong to the group
    examples: list[Example]


class LatentRecord(TypedDict):
    """Everything on a latent's page."""

    latent: int
    fired: int  # rows on which it is active
    density: float
    max: float | None  # None, here and below: the latent never fired
    mean: float | None  # moments of the activations above zero
    std: float | None
    skewness: float | None  # None too where all activations are equal
    kurtosis: float | None  # of a normal distribution: 3
    decoder_norm: float
    concentration: float | None
    entropy: float | None
    histogram: Bars  # of the activations above zero, each part with its upper edge
    tokens: list[TokenEntry]
    logits: LogitWeights | None
    decoder_neighbours: list[NeighbourEntry]  # by cosine of decoder rows
    coactive_neighbours: list[NeighbourEntry]  # by Jaccard index: rows where both fire over rows where either does, of a sample
    neurons: list[NeuronEntry]
    groups: list[ExampleGroup]  # none where the latent never fired
    explanations: list[ExplanationEntry]
    scores: list[ScoreEntry]


class LatentShard(TypedDict):
    """`latents/N`: pages of latents `first`, `first + 1`, ..."""

    first: int
    strings: list[TokenText]
    latents: list[LatentRecord]


class TextLatent(TypedDict):
    """A latent on one token of a text."""

    latent: int
    activation: float
    quantile: float | None  # share of its firings in the dashboard's text that are weaker; None where it never fired there
    effect: float | None  # on the loss, as in Example
    logit_effect: float | None  # what is written, by the logit weights of the token that comes next


class TextToken(TypedDict):
    """A token of a text and the latents that are active on it: of many those that are strongest by any of their numbers."""

    id: int
    text: str  # a character that several tokens share stands at the first of them; the others' may be empty
    kept: bool  # False: a special token, on which the SAE is not read
    loss: float | None  # nats, of predicting this token
    latents: list[TextLatent]


class TextPage(TypedDict):
    """`texts/N`, and what the server answers for a text that is typed in."""

    title: str
    text: str
    tokens: list[TextToken]
    effects: Literal["gradient"] | None
