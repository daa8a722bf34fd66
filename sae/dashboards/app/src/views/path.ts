/** A text's page: one of its tokens is chosen, and its factors are followed from layer to layer. */

import { type Context, latentLink } from "../context";
import { h, replace } from "../dom";
import type { FactorsInfo, PathPage, PathToken } from "../factor_schema";
import { lanesChart, lanesOf } from "../lanes";
import { short } from "../numbers";
import { scaleLegend, step } from "../scale";
import { explained } from "../tip";
import { TokenLine } from "../token_line";
import { token, visible } from "../visible";

const GIST = 9; // characters of a factor's commonest token

/** `keep` is told which token was chosen. */
export function pathView(context: Context, info: FactorsInfo, page: PathPage, first: number | null, keep: (token: number) => void): HTMLElement {
  const { tokens } = page;
  let chosen = first ?? Math.max(0, tokens.map(({ kept, text }) => kept && /[\p{L}\p{N}]/u.test(text)).lastIndexOf(true));
  let lit: number | null = null;
  let strongest = 1;
  const largest = tokens.map((entry) => largestActs(entry));
  const note = h("div", { class: "lit legend" });
  const title = h("h2", {});
  const chart = h("div", {});

  const actOf = (offset: number): number => (lit === null ? 0 : (largest[offset]!.get(lit) ?? 0));
  const line = new TokenLine(tokens.map(({ text }) => text), chosen, (offset) => `t a${step(actOf(offset), strongest)}${offset === chosen ? " peak target" : ""}`, (offset) => [
    h("p", {}, token(tokens[offset]!.text), ` token ${tokens[offset]!.id}, position ${offset}`),
    h("p", {}, tokens[offset]!.kept ? `${largest[offset]!.size} factors, all layers together` : "a special token, on which no factor is read"),
    lit !== null && h("p", {}, `factor ${lit}: at most ${short(actOf(offset))}`),
  ], (offset) => {
    chosen = offset;
    keep(offset);
    show();
  });

  function light(factor: number | null): void {
    lit = factor;
    strongest = Math.max(1e-12, ...tokens.map((_, offset) => actOf(offset)));
    line.refresh();
    if (factor === null) replace(note, "A token is chosen by a click, or by the arrow keys and Enter. Pointing at a factor below colours the text by it.");
    else replace(note, h("span", {}, "Factor ", latentLink(context, factor), ", its largest activation over the layers"), scaleLegend(strongest));
  }

  function show(): void {
    light(null);
    line.mark(chosen);
    const entry = tokens[chosen];
    replace(title, "Factors on ", entry && token(entry.text), explained(h("small", {}, `position ${chosen}`), "Position of the token in the text, from 0, special tokens counted too."));
    const lanes = entry ? lanesOf(entry.layers) : [];
    const gist = (factor: number): string => visible(context.catalogue?.topToken(factor)?.text.trim() ?? "", GIST).slice(0, GIST + 1);
    replace(chart, lanes.length
      ? lanesChart(`Factors on token ${chosen}`, info.layers, lanes, (factor) => latentLink(context, factor), (factor) => `#/factor/${factor}`, gist, light)
      : h("p", { class: "quiet" }, entry?.kept === false ? "A special token: no factor is read on it." : "No factor is active on this token."));
  }

  show();
  return h("article", { class: "path-page" },
    h("div", { class: "text-box" }, h("div", { class: "text-tokens" }, line.element), note),
    h("div", { class: "bar-title" }, title),
    h("p", { class: "quiet" }, "A lane is as thick as the factor is active, and coloured by the layer where it is strongest here. At each layer the strongest factors are known: a lane that ends may go on weakly."),
    chart);
}

/** The largest activation, over the layers, of each factor on a token. */
function largestActs({ layers }: PathToken): Map<number, number> {
  const found = new Map<number, number>();
  for (const { factor, activation } of layers.flat()) found.set(factor, Math.max(activation, found.get(factor) ?? 0));
  return found;
}
