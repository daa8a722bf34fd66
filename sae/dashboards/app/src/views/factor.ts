/** A factor's page: where in the network it emerges, and what it fires on at each layer. */

import type { Context } from "../context";
import { importanceCurve } from "../curve";
import { type Term, term } from "../definitions";
import { type Child, h, replace } from "../dom";
import type { FactorRecord, FactorsInfo, Level } from "../factor_schema";
import { histogram } from "../histogram";
import { layerSlider } from "../layer_slider";
import { levelWord } from "../layers";
import { percent, short, whole } from "../numbers";
import type { TokenText } from "../schema";
import { tip } from "../tip";
import { logitsCard, type Neighbours, neighboursCard, numberList, tokensCard, walk } from "./cards";
import { ContextsView, type FactorState } from "./contexts";
import { goToForm } from "./go_to";

const LEVELS: Level[] = ["low", "mid", "high"];

/** The end of the address of a factor's page: what is shown of it. */
export function formatState({ layers }: FactorsInfo, { layer, side, way }: FactorState): string {
  const parameters = new URLSearchParams();
  if (layer !== null) parameters.set("layer", layers[layer]!.name);
  if (side) parameters.set("view", "side");
  if (way) parameters.set("colour", way);
  return parameters.size ? `?${parameters}` : "";
}

export function parseState({ layers }: FactorsInfo, parameters: URLSearchParams): FactorState {
  const layer = layers.findIndex(({ name }) => name === parameters.get("layer"));
  return { layer: layer < 0 ? null : layer, side: parameters.get("view") === "side", way: parameters.get("colour") as FactorState["way"] };
}

export function factorView(
  context: Context, info: FactorsInfo, record: FactorRecord, strings: TokenText[], around: Neighbours, first: FactorState, keep: (state: FactorState) => void,
): HTMLElement {
  let state = first;
  const way = h("div", {});
  const tokens = h("div", {});
  const curve = importanceCurve(info, record, (layer) => change({ layer }));
  const slider = layerSlider(info.layers, (layer) => change({ layer }));
  const contexts = new ContextsView(context, info, record, strings, change);

  function change(part: Partial<FactorState>): void {
    state = { ...state, ...part };
    keep(state);
    show();
  }

  function show(): void {
    const layer = state.layer ?? record.peak_layer ?? 0;
    columns.classList.toggle("one-below-another", state.side);
    replace(way, walk(around, "Previous and next factor", (factor) => `#/factor/${factor}${formatState(info, state)}`));
    curve.show(layer);
    slider.show(layer);
    contexts.show(layer, state);
    replace(tokens, tokensCard(record.layers[layer]!.tokens, strings, ["factor_token_count", "factor_token_share", "factor_token_mean"], `Tokens it fires on at ${info.layers[layer]!.name}`));
  }

  const columns = h("div", { class: "columns" },
    h("div", { class: "emerges" }, curve.element, slider.element, contexts.element),
    h("div", { class: "side" },
      record.fired > 0 && histogram({ title: `Activations of factor ${record.factor}`, heading: "Activations above zero, all layers", bars: record.histogram, unit: "activation", counted: "vectors" }).element,
      tokens,
      logitsCard(record.logits, strings, `factor ${record.factor}`, "factor_logit_weight"),
      neighboursCard(context, "Nearest in the dictionary", "Factor", "factor_cosine", record.neighbours, short)));
  show();
  const words = context.catalogue?.explanation(record.factor);
  return h(
    "article", { class: "latent factor" },
    h("div", { class: "latent-head" }, h("h1", { tabindex: -1 }, `Factor ${record.factor}`), way, context.manifest && goToForm("factor", context.manifest.num_latents)),
    words && h("p", { class: "explanations" }, h("bdi", {}, words)),
    numberList(numbers(info, record)),
    columns,
  );
}

function numbers(info: FactorsInfo, record: FactorRecord): [Child, Child][] {
  const level = h("button", { type: "button", class: "term" }, record.level ? levelWord(LEVELS.indexOf(record.level)) : "none: it never fired");
  tip(level, () => [h("b", {}, "How levels are told"), h("p", {}, h("bdi", {}, info.level_rule))]);
  const entries: [Term, Child][] = [
    ["level", level],
    ["peak_layer", h("bdi", {}, record.peak_layer === null ? "\u2013" : info.layers[record.peak_layer]!.name)],
    ["importance", short(record.peak_layer === null ? null : record.layers[record.peak_layer]!.importance)],
    ["factor_density", percent(record.density)], ["factor_fired", `${whole(record.fired)} vectors`], ["factor_max", short(record.max)],
    ["factor_concentration", percent(record.concentration)], ["factor_entropy", `${short(record.entropy)} bits`], ["factor_decoder_norm", short(record.decoder_norm)],
  ];
  return entries.map(([key, value]) => [key === "importance" ? term(key, "Importance at its peak") : term(key), value]);
}
