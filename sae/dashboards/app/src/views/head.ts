/** The head of the index: what the dashboard is of. */

import { type Context, factorsInfo } from "../context";
import { DEFINITIONS, defined, term } from "../definitions";
import { type Child, h } from "../dom";
import type { FactorsInfo, SaliencyShare } from "../factor_schema";
import { percent, short, whole } from "../numbers";
import type { Manifest } from "../schema";
import { card } from "./cards";

type Fact = [name: Child, value: string];

export function indexHead(context: Context, manifest: Manifest): HTMLElement {
  const info = factorsInfo(context);
  const [facts, more] = info ? ofFactors(manifest, info) : ofLatents(manifest);
  more.push(...Object.entries(manifest.sae).map(([key, value]): Fact => [defined(key) ? term(key) : key, written(value)]), ["Made with", manifest.made_with]);
  return h(
    "div", { class: "head" },
    h("h1", { tabindex: -1 }, h("bdi", {}, manifest.title)),
    h("p", { class: "quiet" }, h("bdi", {}, `${manifest.model}, ${info ? `${info.layers[0]?.name} to ${info.layers.at(-1)?.name}` : manifest.hook_point}`)),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("details", {}, h("summary", {}, "About this dashboard"),
      h("dl", { class: "about" }, more.map(([name, value]) => [h("dt", {}, name), h("dd", {}, h("bdi", {}, value))])), info && tables(info)),
  );
}

function ofLatents(manifest: Manifest): [Fact[], Fact[]] {
  const facts: Fact[] = [
    [term("d_sae", "Latents"), whole(manifest.num_latents)],
    [term("dead"), `${whole(manifest.dead)} (${percent(manifest.dead / manifest.num_latents)})`],
    [term("rows"), whole(manifest.rows)],
    [term("documents"), whole(manifest.documents)],
  ];
  return [facts, [["Model", manifest.model], ["Hook point", manifest.hook_point], ...ofText(manifest), ...exactEffects(manifest), [term("ultra_low"), `density below ${short(manifest.ultra_low)}`]]];
}

function exactEffects({ exact_effects: found }: Manifest): Fact[] {
  if (!found) return [];
  const agreement = found.agreement === null ? "" : `, agreement with their estimates ${short(found.agreement)}`;
  return [[term("exact_effects"), `${whole(found.firings)} firings${agreement}`]];
}

function ofFactors(manifest: Manifest, info: FactorsInfo): [Fact[], Fact[]] {
  const facts: Fact[] = [
    [term("factor", "Factors"), whole(manifest.num_latents)],
    [term("factor_dead"), `${whole(manifest.dead)} (${percent(manifest.dead / manifest.num_latents)})`],
    [term("layers"), whole(info.layers.length)],
    [term("vectors"), whole(info.layers.reduce((sum, { rows }) => sum + rows, 0))],
    [term("documents"), whole(manifest.documents)],
  ];
  const more: Fact[] = [
    ["Model", manifest.model], [term("method"), info.method], ...ofText(manifest),
    [term("importance"), `mean of the ${whole(info.importance_top)} strongest activations at a layer`], [term("level"), info.level_rule],
    [term("factor_ultra_low"), `density below ${short(manifest.ultra_low)}`], ["Saliency", saliencyWords(info.saliency)],
  ];
  return [facts, more];
}

/** Of how many contexts, and how there is more of it. */
function saliencyWords({ method, measured, shown }: SaliencyShare): string {
  if (!method) return "not measured; pages are made with it by pages.saliency=leave_one_out_shortlist";
  const words = `by ${DEFINITIONS[method].name.toLowerCase()} of ${whole(measured)} of the ${whole(shown)} contexts shown`;
  return measured === shown ? words : `${words}, the strongest; of more by a larger pages.saliency_minutes or pages.saliency_contexts, and of any by serve=true`;
}

function ofText(manifest: Manifest): Fact[] {
  return [["Text", manifest.source], [term("blocks"), `${whole(manifest.blocks)} of ${whole(manifest.context)} tokens`]];
}

function tables({ layers, agreement }: FactorsInfo): HTMLElement {
  return h("div", { class: "charts" },
    card("Layers", ["Layer", term("layer_rows"), term("layer_l0"), term("layer_fvu")], layers.map(({ name, rows, l0, fvu }) => [h("bdi", {}, name), whole(rows), short(l0), short(fvu)]), "h2"),
    card("How far the ways to measure saliency agree", ["Ways", term("agreement_contexts"), term("agreement_correlation"), term("agreement_same_top")],
      agreement.map((one) => [[term(one.first), " and ", term(one.second)], whole(one.contexts), short(one.correlation), percent(one.same_top)]), "h2"));
}

function written(value: string | number | null): string {
  if (typeof value === "string") return value;
  return Number.isInteger(value) ? whole(value) : short(value);
}
