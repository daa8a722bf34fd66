/** A latent's page: what it fires on, what it does, and which latents are near. */

import type { Context } from "../context";
import { DEFINITIONS, type Term, term } from "../definitions";
import { h } from "../dom";
import { effectTerm, effectWords } from "../effects";
import { histogram } from "../histogram";
import { percent, short, signed, whole } from "../numbers";
import type { LatentRecord, TokenText } from "../schema";
import { card, logitsCard, type Neighbours, neighboursCard, numberList, tokensCard, walk } from "./cards";
import { examplesView } from "./examples";

export function latentView(context: Context, record: LatentRecord, strings: TokenText[], around: Neighbours | null): HTMLElement {
  return h(
    "article", { class: "latent" },
    h("div", { class: "latent-head" }, h("h1", { tabindex: -1 }, `Latent ${record.latent}`), around && walk(around, "Previous and next latent", (latent) => `#/latent/${latent}`)),
    explanations(record),
    numbers(context, record),
    h("div", { class: "columns" }, examplesView(context, record, strings), h("div", { class: "side" },
      record.fired > 0 && histogram({ title: `Activations of latent ${record.latent}`, heading: "Activations above zero", bars: record.histogram, unit: "activation", counted: "tokens" }).element,
      tokensCard(record.tokens, strings, ["token_count", "token_share", "token_mean"]),
      logitsCard(record.logits, strings, `latent ${record.latent}`, "logit_weight"),
      neighboursCard(context, "Nearest by decoder", "Latent", "cosine", record.decoder_neighbours, short),
      neighboursCard(context, "Most often active together", "Latent", "jaccard", record.coactive_neighbours, percent, coactiveNote(context)),
      neurons(record),
      scores(record))),
  );
}

/** On how many tokens co-activation was counted. */
function coactiveNote({ manifest }: Context): string | null {
  if (!manifest) return null;
  const { coactive_rows: sample, rows } = manifest;
  return sample < rows ? `Counted on ${whole(sample)} tokens, drawn at random from the ${whole(rows)} read.` : `Counted on all ${whole(rows)} tokens read.`;
}

function explanations(record: LatentRecord): HTMLElement | null {
  if (!record.explanations.length) return null;
  return h("ul", { class: "explanations" }, record.explanations.map(({ text, source, score }) =>
    h("li", {}, h("bdi", {}, text), h("small", {}, " ", h("bdi", {}, source), score !== null && [", ", term("score", "score"), ` ${short(score)}`]))));
}

function numbers({ catalogue, manifest }: Context, record: LatentRecord): HTMLElement {
  const entries: [Term, string][] = [
    ["density", percent(record.density)], ["fired", `${whole(record.fired)} tokens`], ["max", short(record.max)], ["mean", short(record.mean)],
    ["std", short(record.std)], ["skewness", short(record.skewness)], ["kurtosis", short(record.kurtosis)],
    ["concentration", percent(record.concentration)], ["entropy", `${short(record.entropy)} bits`], ["decoder_norm", short(record.decoder_norm)],
  ];
  if (catalogue?.has("effect") && record.fired > 0) entries.push(["effect", `${effectWords(catalogue, record.latent)} nats`]);
  return numberList(entries.map(([key, value]) => [key === "effect" ? effectTerm(manifest) : term(key), value]));
}

function neurons(record: LatentRecord): HTMLElement | null {
  const rows = record.neurons.map(({ dimension, weight, share }) => [String(dimension), signed(weight), percent(share)]);
  return card("Neurons it lies along", ["Dimension", term("neuron_weight"), term("neuron_share")], rows);
}

function scores(record: LatentRecord): HTMLElement | null {
  return card("Scores", ["Measure", "Value"], record.scores.map(({ name, value }) => [h("bdi", {}, name), short(value)]));
}

/** A latent in the page's title. */
export function latentTitle(record: LatentRecord): string {
  return `${DEFINITIONS.latent.name} ${record.latent}`;
}
