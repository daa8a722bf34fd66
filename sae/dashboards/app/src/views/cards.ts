/** Parts that the pages of latents and of factors share: the way to the next one, and cards with small tables. */

import { type Context, latentLink } from "../context";
import { type Term, term } from "../definitions";
import { type Child, h } from "../dom";
import { histogram } from "../histogram";
import { percent, short, signed, whole } from "../numbers";
import type { LogitWeights, NeighbourEntry, TokenEntry, TokenText } from "../schema";
import { token } from "../visible";

/** Where previous and next lead, and which place this has among them. */
export interface Neighbours {
  previous: number | null;
  next: number | null;
  words: string;
}

/** Links to the previous and the next; `address` gives that of a number's page. */
export function walk({ previous, next, words }: Neighbours, name: string, address: (number: number) => string): HTMLElement {
  const link = (number: number | null, label: string, key: string): Child =>
    number === null ? h("span", { class: "button off" }, label) : h("a", { class: "button", href: address(number), "aria-keyshortcuts": key }, label);
  return h("nav", { class: "walk", "aria-label": name }, link(previous, "← Previous", "k"), h("span", { class: "quiet" }, words), link(next, "Next →", "j"));
}

/** Numbers with their names, which say what they mean. */
export function numberList(entries: [Child, Child][]): HTMLElement {
  return h("dl", { class: "numbers" }, entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A card with a small table; nothing where there are no rows. */
export function card(title: string, heads: Child[], rows: Child[][], heading: "h2" | "h3" = "h3", note: Child = null): HTMLElement | null {
  if (!rows.length) return null;
  return h("section", { class: "card" }, h(heading, {}, title), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, h(
    "table", {},
    h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
    h("tbody", {}, rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "number" }, cell))))),
  )), note && h("p", { class: "note" }, note));
}

export function tokensCard(entries: TokenEntry[], strings: TokenText[], [count, share, mean]: [Term, Term, Term], title = "Tokens it fires on"): HTMLElement | null {
  const rows = entries.map((entry) => [token(strings[entry.token]?.text ?? ""), whole(entry.count), percent(entry.share), short(entry.mean)]);
  return card(title, ["Token", term(count), term(share), term(mean)], rows);
}

export function logitsCard(weights: LogitWeights | null, strings: TokenText[], of: string, key: Term): HTMLElement | null {
  if (!weights) return null;
  const list = (title: string, entries: [number, number][]): HTMLElement =>
    h("div", {}, h("h4", {}, title), h("ol", { class: "logits" }, entries.map(([place, weight]) => h("li", {}, token(strings[place]?.text ?? ""), h("span", { class: "number" }, signed(weight))))));
  return h("section", { class: "card" }, h("h3", {}, term(key, "Direct effect on logits")),
    h("div", { class: "two" }, list("Raised most", weights.raised), list("Lowered most", weights.lowered)),
    histogram({ title: `Logit weights of ${of}`, heading: "All logit weights", bars: weights.histogram, unit: "logit weight", counted: "tokens", height: 170 }).element);
}

export function neighboursCard(context: Context, title: string, head: string, measure: Term, entries: NeighbourEntry[], write: (value: number) => string, note: Child = null): HTMLElement | null {
  const rows = entries.map(({ latent, value }) => {
    const top = context.catalogue?.topToken(latent);
    const words = context.catalogue?.explanation(latent);
    return [[latentLink(context, latent), top && [" ", token(top.text)], words && h("small", {}, " ", h("bdi", {}, words))], write(value)];
  });
  return card(title, [head, term(measure)], rows, "h3", note);
}
