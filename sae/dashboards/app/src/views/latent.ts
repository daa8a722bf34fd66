/** A latent's page: what it fires on, what it does, and which latents are near. */

import { type Context, latentLink } from "../context";
import { DEFINITIONS, type Term, term } from "../definitions";
import { type Child, h } from "../dom";
import { histogram } from "../histogram";
import { percent, short, signed, whole } from "../numbers";
import type { LatentRecord, NeighbourEntry, TokenText } from "../schema";
import { token } from "../visible";
import { examplesView } from "./examples";

/** Where previous and next lead, and which place this has among them. */
export interface Neighbours {
  previous: number | null;
  next: number | null;
  words: string;
}

export function latentView(context: Context, record: LatentRecord, strings: TokenText[], around: Neighbours | null): HTMLElement {
  return h(
    "article", { class: "latent" },
    h("div", { class: "latent-head" }, h("h1", { tabindex: -1 }, `Latent ${record.latent}`), around && walk(around)),
    explanations(record),
    numbers(record),
    h("div", { class: "columns" }, examplesView(context, record, strings), h("div", { class: "side" },
      record.fired > 0 && histogram({ title: `Activations of latent ${record.latent}`, heading: "Activations above zero", bars: record.histogram, unit: "activation", counted: "tokens" }).element,
      tokens(record, strings),
      logits(record, strings),
      neighbours(context, "Nearest by decoder", "cosine", record.decoder_neighbours, short),
      neighbours(context, "Most often active together", "jaccard", record.coactive_neighbours, percent),
      neurons(record),
      scores(record))),
  );
}

function walk({ previous, next, words }: Neighbours): HTMLElement {
  const link = (latent: number | null, label: string, key: string): Child =>
    latent === null ? h("span", { class: "button off" }, label) : h("a", { class: "button", href: `#/latent/${latent}`, "aria-keyshortcuts": key }, label);
  return h("nav", { class: "walk", "aria-label": "Previous and next latent" }, link(previous, "← Previous", "k"), h("span", { class: "quiet" }, words), link(next, "Next →", "j"));
}

function explanations(record: LatentRecord): HTMLElement | null {
  if (!record.explanations.length) return null;
  return h("ul", { class: "explanations" }, record.explanations.map(({ text, source, score }) =>
    h("li", {}, h("bdi", {}, text), h("small", {}, " ", h("bdi", {}, source), score !== null && [", ", term("score", "score"), ` ${short(score)}`]))));
}

function numbers(record: LatentRecord): HTMLElement {
  const entries: [Term, string][] = [
    ["density", percent(record.density)], ["fired", `${whole(record.fired)} tokens`], ["max", short(record.max)], ["mean", short(record.mean)],
    ["std", short(record.std)], ["skewness", short(record.skewness)], ["kurtosis", short(record.kurtosis)],
    ["concentration", percent(record.concentration)], ["entropy", `${short(record.entropy)} bits`], ["decoder_norm", short(record.decoder_norm)],
  ];
  return h("dl", { class: "numbers" }, entries.map(([key, value]) => h("div", {}, h("dt", {}, term(key)), h("dd", {}, value))));
}

/** A card with a small table; nothing where there are no rows. */
function card(title: string, heads: Child[], rows: Child[][], tables: "words" | "numbers" = "words"): HTMLElement | null {
  if (!rows.length) return null;
  return h("section", { class: "card" }, h("h3", {}, title), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, h(
    "table", { class: tables },
    h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
    h("tbody", {}, rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "number" }, cell))))),
  )));
}

function tokens(record: LatentRecord, strings: TokenText[]): HTMLElement | null {
  const rows = record.tokens.map((entry) => [token(strings[entry.token]?.text ?? ""), whole(entry.count), percent(entry.share), short(entry.mean)]);
  return card("Tokens it fires on", ["Token", term("token_count"), term("token_share"), term("token_mean")], rows);
}

function logits(record: LatentRecord, strings: TokenText[]): HTMLElement | null {
  if (!record.logits) return null;
  const list = (title: string, entries: [number, number][]): HTMLElement =>
    h("div", {}, h("h4", {}, title), h("ol", { class: "logits" }, entries.map(([place, weight]) => h("li", {}, token(strings[place]?.text ?? ""), h("span", { class: "number" }, signed(weight))))));
  return h("section", { class: "card" }, h("h3", {}, term("logit_weight", "Direct effect on logits")),
    h("div", { class: "two" }, list("Raised most", record.logits.raised), list("Lowered most", record.logits.lowered)),
    histogram({ title: `Logit weights of latent ${record.latent}`, heading: "All logit weights", bars: record.logits.histogram, unit: "logit weight", counted: "tokens", height: 170 }).element);
}

function neighbours(context: Context, title: string, measure: "cosine" | "jaccard", entries: NeighbourEntry[], write: (value: number) => string): HTMLElement | null {
  const rows = entries.map(({ latent, value }) => {
    const top = context.catalogue?.topToken(latent);
    const words = context.catalogue?.explanation(latent);
    return [[latentLink(context, latent), top && [" ", token(top.text)], words && h("small", {}, " ", h("bdi", {}, words))], write(value)];
  });
  return card(title, ["Latent", term(measure)], rows);
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
