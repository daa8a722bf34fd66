/** The colours of saliency: five steps to either side of none, told apart by hue, and the negative ones by a line below them too. */

import { term } from "./definitions";
import { type Child, h } from "./dom";
import { METHODS } from "./factor_definitions";
import type { Context, SaliencyMethod } from "./factor_schema";
import { scaleLegend } from "./scale";

/** What tokens are coloured by. */
export type Way = "activation" | SaliencyMethod;

const STEPS = 5;

/** The ways that there are for these contexts: all but the nearly exact one where a server can be asked. */
export function waysOf(contexts: Context[], live: boolean): Way[] {
  const there = new Set(contexts.flatMap(({ saliency }) => saliency.map(({ method }) => method)));
  return [...METHODS.filter((method) => (live && method !== "leave_one_out_shortlist") || there.has(method)), "activation"];
}

export function weightsBy(context: Context, way: Way): number[] | null {
  return context.saliency.find(({ method }) => method === way)?.weights ?? null;
}

/** Largest size of a weight; that of the token which fires counts only where there is no other, for it would outshine them. */
export function largestWeight(weights: number[], peak: number): number {
  const others = Math.max(0, ...weights.map((weight, offset) => (offset === peak ? 0 : Math.abs(weight))));
  return others || Math.abs(weights[peak] ?? 0);
}

/** Class of a weight: `pN` for positive ones, `nN` for negative ones, N from 1 to 5; `a0` where it is next to nothing. */
export function salient(weight: number, largest: number): string {
  const size = Math.min(STEPS, Math.round((Math.abs(weight) / (largest || 1)) * STEPS));
  return size ? `${weight > 0 ? "p" : "n"}${size}` : "a0";
}

/** Which way colours the tokens, in words, and what the colours mean. */
export function wayLegend(way: Way, largest: number): HTMLElement {
  const target = h("span", {}, h("span", { class: "t peak target" }, "token"), " on which it fires");
  if (way === "activation") return h("p", { class: "legend" }, h("span", {}, "Coloured by ", term("factor_activation", "activation")), scaleLegend(largest), target);
  const swatches = (letter: string, steps: number[]): Child[] => steps.map((step) => h("span", { class: `swatch ${letter}${step}` }));
  return h(
    "p", { class: "legend" },
    h("span", {}, "Coloured by saliency: ", term(way)),
    h("span", { class: "scale" }, h("span", { class: "n-word" }, "keeps it from firing"),
      h("span", { class: "swatches", "aria-hidden": "true" }, swatches("n", [5, 4, 3, 2, 1]), h("span", { class: "swatch s0" }), swatches("p", [1, 2, 3, 4, 5])),
      h("span", { class: "p-word" }, "makes it fire")),
    target,
    h("span", {}, "Full colour: the largest weight of a context, its boxed token left out."),
  );
}
