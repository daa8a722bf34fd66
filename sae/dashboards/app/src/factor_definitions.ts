/** What the numbers on pages of factors mean. A key `factor_KEY` stands there in the place of the latents' own `KEY`. */

import type { SaliencyMethod } from "./factor_schema";

export const METHODS: SaliencyMethod[] = ["lime", "integrated_gradients", "leave_one_out", "leave_one_out_shortlist"];

export const FACTOR_DEFINITIONS = {
  factor: { name: "Factor", means: "Number of the factor in the dictionary, from 0. One dictionary serves all layers." },
  factor_density: { name: "Density", means: "Share of the activation vectors read, those of all layers together, on which the factor is active (above zero)." },
  factor_fired: { name: "Fired on", means: "Number of activation vectors, of all layers, on which the factor is active." },
  factor_max: { name: "Maximum", means: "Largest activation on the text that was read, at any layer." },
  factor_decoder_norm: { name: "Decoder norm", means: "Euclidean length of the factor's row in the dictionary." },
  factor_concentration: { name: "Concentration", means: "Share of the factor's firings, at all layers, that fall on its commonest token." },
  factor_entropy: { name: "Entropy", means: "Entropy, in bits, of the distribution of its firings over tokens: 0 where it fires on one token alone." },
  factor_top_token: { name: "Top token", means: "The token on which the factor fires most often, all layers together." },
  factor_explanation: { name: "Explanation", means: "Words for what the factor fires on, where there are any." },
  factor_cosine: { name: "Cosine", means: "Cosine of the angle between the two factors' rows in the dictionary." },
  factor_dead: { name: "Dead", means: "Factors that are active on none of the vectors read here, at no layer." },
  factor_ultra_low: { name: "Ultra-low", means: "Factors that are active, but on a smaller share of the vectors read than this." },
  factor_token_count: { name: "Count", means: "Firings of the factor on this token, at this layer." },
  factor_token_share: { name: "Share", means: "Share of the factor's firings at this layer that fall on this token." },
  factor_token_mean: { name: "Mean there", means: "Mean activation of the factor where it fires on this token, at this layer." },
  factor_activation: { name: "Activation", means: "The factor's coefficient in the code of this token's activation vector, at this layer." },
  factor_logit_weight: {
    name: "Logit weight",
    means: "The factor's row in the dictionary times the unembedding, with the final norm's weights: what one unit of activation adds to the token's logit directly, were it written into the last layer, divided by a length that the final norm measures at each place.",
  },
  level: { name: "Level", means: "Low, middle or high: where in the network the factor emerges, read off its importance over layers. A factor's page states the rule." },
  peak_layer: { name: "Peak layer", means: "The layer at which the factor's importance is largest." },
  importance: {
    name: "Importance",
    means: "Mean of the factor's strongest activations at a layer; of all where there are fewer, zeros included. In the table of factors: at its peak layer. How many activations these are stands in the head of the index.",
  },
  layers: { name: "Layers", means: "Layers whose activation vectors the one dictionary was fitted to." },
  vectors: { name: "Vectors read", means: "Activation vectors that the factors were read on: one for each token and layer, special tokens left out." },
  method: { name: "Method", means: "How codes were found: sparse coding, or the encoder of a sparse autoencoder." },
  layer_rows: { name: "Vectors", means: "Activation vectors of this layer that factors were read on." },
  layer_l0: { name: "L0", means: "Factors active on a vector of this layer, on average." },
  layer_fvu: { name: "FVU", means: "Fraction of variance unexplained on this layer's vectors: squared error of the reconstruction over their variance." },
  layer_fired: { name: "Fired on", means: "Vectors of this layer on which the factor is active." },
  layer_share: { name: "Share", means: "Share of this layer's vectors on which the factor is active." },
  layer_max: { name: "Maximum", means: "The factor's largest activation at this layer." },
  lime: { name: "LIME", means: "Weights of a linear fit to what the factor's activation at the marked token becomes when random sets of tokens are masked. Positive: the token makes the factor fire." },
  integrated_gradients: {
    name: "Integrated gradients",
    means: "Gradient of the activation at the marked token, added up on the straight line from the embeddings of mask tokens to those of the text. The weights of a whole block sum to the difference of the activations at the line's ends.",
  },
  leave_one_out: { name: "Leave one out", means: "How far the activation at the marked token falls when this token alone is replaced by the mask token. Positive: the token makes the factor fire." },
  leave_one_out_shortlist: {
    name: "Leave one out (shortlist)",
    means: "How far the activation at the marked token falls when this token alone is replaced by the mask token, as by leave one out; but the codes without a token are looked for among some 64 factors only: those active with all tokens, and those that fit the texts without one or another best. Quick, and nearly the same; how nearly stands in the index, under About this dashboard. Positive: the token makes the factor fire.",
  },
  agreement_contexts: { name: "Contexts", means: "Contexts for which both ways were used." },
  agreement_correlation: { name: "Rank correlation", means: "Spearman's correlation of the two ways' weights over a context's tokens, mean over contexts." },
  agreement_same_top: { name: "Same top token", means: "Share of contexts in which both ways find the same token most salient, the one that fires left out." },
  occurrences: { name: "Occurrences", means: "Places where the word stands in the text that was read. Of many, a sample drawn with a fixed seed is shown." },
  groups: { name: "Groups", means: "Sets of occurrences whose last token uses the same factors at a layer." },
  sense_difference: { name: "Difference", means: "The factor's mean activation in this group less its mean in the word's other occurrences, at this layer. The factors with the largest set the group apart." },
};
