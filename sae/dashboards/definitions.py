"""What each reported number means, in plain words: the run page, the comparison and the model card say the same."""

from dataclasses import dataclass

__all__ = ["CURVES", "NUMBERS", "Definition", "written"]


@dataclass(frozen=True)
class Definition:
    """One number's name on pages, what it means, and how it is written.

    Attributes:
        label: name on pages.
        meaning: a sentence or two of plain words, for the table.
        short: a few words, for under a chart's title.
        kind: "number", "share" (written in per cent) or "count".
    """

    label: str
    meaning: str = ""
    short: str = ""
    kind: str = "number"


# The numbers of report.json, in the order in which a reader wants them.
NUMBERS: dict[str, Definition] = {
    "l0": Definition(
        "L0",
        "How many latents are active on a token, on average. Fewer is sparser, and easier to read.",
        "active latents a token",
    ),
    "fvu": Definition(
        "FVU",
        "Fraction of variance unexplained: the reconstruction's squared error over the variance of the activations, summed "
        "over all held-out tokens. 0 is perfect, 1 is no better than always answering the mean. A few huge dimensions can "
        "rule it: read it beside the cross-entropy.",
        "0 is perfect, 1 no better than the mean",
    ),
    "explained_variance": Definition("Explained variance", "1 minus FVU.", "1 is perfect"),
    "dead_fraction": Definition(
        "Dead latents",
        "Share of latents that fired on none of the last training tokens (of the last dead.window_tokens).",
        "share that no longer fires in training",
        "share",
    ),
    "never_fired": Definition(
        "Silent on held-out text",
        "Share of latents that fired on none of the evaluated tokens.",
        "share that fired on no evaluated token",
        "share",
    ),
    "ce_increase": Definition(
        "Cross-entropy increase",
        "How much worse the model predicts the next token when the reconstruction takes the activation's place, in nats. "
        "0 is no harm.",
        "nats a token; 0 is no harm to the model",
    ),
    "ce_recovered_zero": Definition(
        "Cross-entropy recovered (zero)",
        "Where the model stands between having the activation set to zero (0 %) and untouched (100 %). In a residual stream "
        "zero destroys the model, so that nearly everything looks close to 100 %.",
        "1 is untouched, 0 as bad as zeros",
        "share",
    ),
    "ce_recovered_mean": Definition(
        "Cross-entropy recovered (mean)",
        "The same with the held-out mean activation in place of zero: a harder test.",
        "1 is untouched, 0 as bad as the mean",
        "share",
    ),
    "kl": Definition(
        "KL divergence",
        "How far the next-token predictions move when the reconstruction is put in: KL(untouched || reconstructed), in nats a "
        "token.",
        "nats a token; 0 is no change",
    ),
    "ce_clean": Definition("Cross-entropy, untouched model", "Nats a token on the scored tokens."),
    "ce_sae": Definition("Cross-entropy, reconstruction put in", "Nats a token on the same tokens."),
    "ce_mean": Definition("Cross-entropy, mean put in", "Nats a token on the same tokens."),
    "ce_zero": Definition("Cross-entropy, zero put in", "Nats a token on the same tokens."),
    "l1": Definition(
        "L1",
        "Sum of a token's latent activations, on average, in the units of the model's activations.",
        "sum of latent activations a token",
    ),
    "cosine": Definition(
        "Cosine", "Mean cosine between activation and reconstruction. 1 is the same direction.", "1 is the same direction"
    ),
    "norm_ratio": Definition(
        "Norm ratio",
        "Mean length of the reconstruction over that of the activation. Below 1 the reconstruction has shrunk.",
        "length of reconstruction over activation",
    ),
    "relative_bias": Definition(
        "Relative reconstruction bias",
        "E|recon|² / E[activation · recon]. 1 is unbiased; below 1 a longer reconstruction would fit better.",
        "1 is unbiased, below 1 shrunk",
    ),
    "threshold_factor": Definition(
        "Threshold factor",
        "What thresholds were multiplied by after the last training step, so that the last training rows have the L0 that was "
        "asked for. Near 1 training had brought it about by itself; far from 1 the L0 is this calibration's work.",
        "1 is as training left thresholds",
    ),
    "tokens_trained": Definition("Tokens trained", "Activation vectors that the dictionary learnt from.", kind="count"),
    "tokens_evaluated": Definition(
        "Tokens evaluated", "Held-out activation vectors behind FVU, L0 and the like.", kind="count"
    ),
    "ce_tokens_scored": Definition("Tokens scored", "Held-out predictions behind cross-entropy and KL.", kind="count"),
    "tokens_per_second": Definition("Training speed", "Tokens a second over the whole of training.", kind="count"),
}

# What the curves over tokens are called: the numbers above and those that exist only while training.
CURVES: dict[str, Definition] = {
    **{key: value for key, value in NUMBERS.items() if value.kind != "count"},
    "loss": Definition("Loss", short="all terms with their coefficients"),
    "loss_mse": Definition("Loss term: squared error", short="before its coefficient, in the scaled units of training"),
    "loss_l1": Definition("Loss term: L1", short="before its coefficient, in the scaled units of training"),
    "mse_coefficient": Definition("Coefficient of the squared error", short="after its ramp"),
    "l1_coefficient": Definition("Coefficient of L1", short="after its ramp, and as it is steered"),
    "lr": Definition("Learning rate", short="after schedule"),
    "gradient_norm": Definition("Gradient norm", short="before clipping"),
    "never_fired_fraction": Definition("Never fired in training", short="share since the first step", kind="share"),
    "objective": Definition("Objective of sparse coding", short="half the squared error and the price of activation, a row"),
    "gap": Definition("Duality gap", short="the objective is at most so much above the least, a row"),
    "unconverged": Definition("Rows not within the tolerance", short="share of rows", kind="share"),
    "atoms_used": Definition("Factors in use", short="active on a row since the last point", kind="count"),
    "redrawn": Definition("Factors drawn anew", short="silent for too long, so far", kind="count"),
    "resampled": Definition("Resampled latents", short="dead latents given new directions", kind="count"),
}


def written(value: object, kind: str) -> str:
    """A value of a report as people read it; "n/a" where there is none."""
    if value is None:
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if kind == "share":
        return f"{100 * value:.2f} %"
    if kind == "count":
        return f"{value:,.0f}"
    return f"{value:.4g}"
