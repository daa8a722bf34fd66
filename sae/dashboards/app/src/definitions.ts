/** What every number means, once; pages refer to it. */

import { h } from "./dom";
import { FACTOR_DEFINITIONS } from "./factor_definitions";

export interface Definition {
  name: string;
  means: string;
}

export const DEFINITIONS = {
  ...FACTOR_DEFINITIONS,
  latent: { name: "Latent", means: "Number of the latent in the dictionary, from 0." },
  density: { name: "Density", means: "Share of the tokens read on which the latent is active (above zero)." },
  fired: { name: "Fired on", means: "Number of tokens on which the latent is active." },
  max: { name: "Maximum", means: "Largest activation on the text that was read." },
  mean: { name: "Mean", means: "Mean of the activations above zero." },
  std: { name: "Standard deviation", means: "Standard deviation of the activations above zero." },
  skewness: { name: "Skewness", means: "Third standardised moment of the activations above zero: positive where the tail is to the right." },
  kurtosis: { name: "Kurtosis", means: "Fourth standardised moment of the activations above zero; 3 for a normal distribution." },
  decoder_norm: { name: "Decoder norm", means: "Euclidean length of the latent's decoder row." },
  concentration: { name: "Concentration", means: "Share of the latent's firings that fall on its commonest token." },
  entropy: { name: "Entropy", means: "Entropy, in bits, of the distribution of its firings over tokens: 0 where it fires on one token alone." },
  effect: {
    name: "Effect",
    means: "Largest effect on the loss, in nats, of removing the latent at one token, whatever its sign. Exact for the latents with the largest estimates: the latent was removed there and the model run again. For the others, after ≈, the largest estimate to first order by the gradient. Large estimates are poor, above all on a document's first tokens, whose activations are huge: sorting therefore puts exact effects first.",
  },
  exact_effects: {
    name: "Exact effects",
    means: "Firings at which a latent was removed and the model run again. Agreement is the rank correlation of the sizes of these effects and of their estimates to first order: 1 where both have the same order, 0 where estimates say nothing of it.",
  },
  score: { name: "Score", means: "Best score among the latent's explanations: how well the words predict its activations." },
  top_token: { name: "Top token", means: "The token on which the latent fires most often." },
  explanation: { name: "Explanation", means: "Words for what the latent fires on, where there are any." },
  cosine: { name: "Cosine", means: "Cosine of the angle between the two latents' decoder rows." },
  jaccard: { name: "Jaccard", means: "Tokens on which both latents are active over tokens on which either is." },
  neuron_weight: { name: "Weight", means: "Component of the decoder row along this dimension of the activation space." },
  neuron_share: { name: "Share", means: "Size of that component over the sum of the sizes of all components of the row." },
  logit_weight: {
    name: "Logit weight",
    means: "Decoder row times the unembedding, with the final norm's weights. One unit of activation adds this to the token's logit directly, later layers left out, divided by a length that the final norm measures at each place, the same for all tokens there.",
  },
  token_share: { name: "Share", means: "Share of the latent's firings that fall on this token." },
  token_mean: { name: "Mean there", means: "Mean activation of the latent where it fires on this token." },
  activation: { name: "Activation", means: "The latent's value on this token." },
  quantile: {
    name: "Quantile",
    means: "Share of the latent's firings on the dashboard's text that are weaker than this one.",
  },
  loss_effect: {
    name: "Loss effect",
    means: "What the summed loss of all later predictions gains, in nats, when the latent is removed at this token; to first order. Positive: the latent helps to predict.",
  },
  logit_effect: {
    name: "Logit effect",
    means: "What the latent writes here, by the logit weights of the token that comes next; the final norm's division is left out.",
  },
  token_count: { name: "Count", means: "Firings of the latent on this token." },
  dead: { name: "Dead", means: "Latents that are active on none of the tokens read here. In training another text counts: see the run's page." },
  ultra_low: { name: "Ultra-low", means: "Latents that are active, but on a smaller share of the tokens read than this." },
  rows: { name: "Tokens read", means: "Tokens on which the latents were read: all of the text but special tokens." },
  documents: { name: "Documents", means: "Documents that the text consists of." },
  blocks: { name: "Blocks of text", means: "Pieces in which the model reads the text, and the tokens that fit into one." },
  d_in: { name: "d_in", means: "Dimensions of the activations that the SAE reads." },
  d_sae: { name: "d_sae", means: "Latents of the SAE." },
  l0: { name: "L0", means: "Latents active on a token, on average, on the text of the SAE's evaluation." },
  fvu: { name: "FVU", means: "Fraction of variance unexplained: squared error of the reconstruction over the variance of the activations, in the SAE's evaluation." },
  dead_fraction: { name: "Dead in training", means: "Share of latents that were active on none of the last tokens of training." },
  ce_increase: { name: "Cross-entropy increase", means: "What predicting the next token loses, in nats a token, with the reconstruction in the activation's place." },
  tokens_trained: { name: "Tokens trained", means: "Tokens that the SAE was trained on, repeated ones counted again." },
  loss: { name: "Loss", means: "Nats, of predicting this token from those before it." },
} satisfies Record<string, Definition>;

export type Term = keyof typeof DEFINITIONS;

export function defined(key: string): key is Term {
  return Object.hasOwn(DEFINITIONS, key);
}

/** The key of a number on pages of factors, where it has words of its own there, and on those of latents. */
export function termOf(noun: "latent" | "factor", key: Term): Term {
  const own = `factor_${key}`;
  return noun === "factor" && defined(own) ? own : key;
}

/** The name of a number, with its definition behind it: shown on hover and focus, read out by screen readers. */
export function term(key: Term, label: string = DEFINITIONS[key].name): HTMLElement {
  return h("button", { type: "button", class: "term", "data-term": key, "aria-describedby": `means-${key}` }, label);
}

/** All definitions, hidden; `term` refers to them. One stands in every page. */
export function glossary(): HTMLElement {
  const entries = Object.entries(DEFINITIONS).map(([key, { means }]) => h("span", { id: `means-${key}` }, means));
  return h("div", { hidden: true }, entries);
}
