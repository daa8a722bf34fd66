/** The contexts in which a factor is strongest: at one layer, or at all layers side by side. */

import type { Context } from "../context";
import { DEFINITIONS, term } from "../definitions";
import { h, replace } from "../dom";
import type { Context as FactorContext, FactorLayer, FactorRecord, FactorsInfo } from "../factor_schema";
import { layerShade } from "../layers";
import { short, whole } from "../numbers";
import { type Way, wayLegend, waysOf, weightsBy } from "../saliency";
import type { TokenText } from "../schema";
import { explained } from "../tip";
import { LineLayout } from "../token_line";
import { ContextLine } from "./context_line";

const SIDE_BY_SIDE = 4; // contexts of a layer where all layers are shown

const layout = new LineLayout("wrapped");

/** What is shown of a factor; null stands for what is shown where nothing was chosen. */
export interface FactorState {
  layer: number | null;
  side: boolean;
  way: Way | null;
}

export class ContextsView {
  readonly element: HTMLElement;
  private readonly title = h("h2", { id: "contexts-title" });
  private readonly legend = h("div", {});
  private readonly body = h("div", {});
  private readonly ways: { way: Way; button: HTMLElement }[];
  private readonly sides: { side: boolean; button: HTMLElement }[];

  constructor(
    private readonly context: Context,
    private readonly info: FactorsInfo,
    private readonly record: FactorRecord,
    private readonly strings: TokenText[],
    private readonly change: (part: Partial<FactorState>) => void,
  ) {
    const ways = waysOf(record.layers.flatMap(({ contexts }) => contexts), context.live !== null);
    this.ways = ways.map((way) => ({ way, button: h("button", { type: "button", onclick: () => change({ way }) }, way === "activation" ? "Activation" : DEFINITIONS[way].name) }));
    this.sides = [false, true].map((side) => ({ side, button: h("button", { type: "button", onclick: () => change({ side }) }, side ? "Side by side" : "One layer") }));
    const group = (name: string, buttons: { button: HTMLElement }[]): HTMLElement => h("div", { class: "kinds", role: "group", "aria-label": name }, buttons.map(({ button }) => button));
    this.element = h("section", { class: "examples contexts", "aria-labelledby": "contexts-title" },
      h("div", { class: "bar-title" }, this.title, group("Layers shown", this.sides)),
      h("div", { class: "bar-title" }, group("Colour of tokens", this.ways), layout.buttons(this.body, "Layout of contexts")),
      this.unmeasured(), this.legend, this.body);
  }

  /** How to get saliency, where no way but the activation can be chosen. */
  private unmeasured(): HTMLElement | null {
    if (this.ways.length > 1 || this.record.fired === 0) return null;
    return h("p", { class: "quiet unmeasured" }, "Saliency, which tokens make the factor fire, was not measured for this factor. Served pages measure it on request: ",
      h("code", {}, "python scripts/factors.py from=RUN serve=true"), ". Pages are made with more of it by ", h("code", {}, "pages.saliency_minutes="), ".");
  }

  /** The way that is shown: the chosen one, else the one that was used for most of the contexts that are shown. */
  private way(chosen: Way | null, layers: FactorLayer[]): Way {
    const contexts = layers.flatMap((layer) => layer.contexts);
    const used = (way: Way): number => contexts.filter((one) => weightsBy(one, way)).length;
    if (chosen && this.ways.some(({ way }) => way === chosen)) return chosen;
    const [most] = this.ways.map(({ way }) => ({ way, times: used(way) })).sort((a, b) => b.times - a.times);
    return most?.times ? most.way : "activation";
  }

  show(layer: number, state: FactorState): void {
    const way = this.way(state.way, state.side ? this.record.layers : [this.record.layers[layer]!]);
    for (const one of this.ways) one.button.setAttribute("aria-pressed", String(one.way === way));
    for (const one of this.sides) one.button.setAttribute("aria-pressed", String(one.side === state.side));
    replace(this.legend, wayLegend(way, this.record.max ?? 0));
    if (state.side) this.all(way);
    else this.one(layer, way);
    layout.lay(this.body);
  }

  private lines(layer: number, contexts: FactorContext[], way: Way): HTMLElement {
    return h("ol", {}, contexts.map((one) => h("li", {}, new ContextLine(this.context, this.record, this.strings, layer, one, way).element)));
  }

  private one(layer: number, way: Way): void {
    const { contexts, fired } = this.record.layers[layer]!;
    const count = explained(h("small", {}, ` ${whole(contexts.length)}, of ${whole(fired)} vectors on which it is active`),
      "Contexts shown, strongest first and one for a token of the text; and the vectors of this layer on which the factor is active.");
    replace(this.title, "Contexts at ", h("bdi", {}, this.info.layers[layer]!.name), count);
    this.body.className = "groups group";
    replace(this.body, contexts.length ? this.lines(layer, contexts, way) : h("p", { class: "quiet" }, "The factor is never active at this layer."));
  }

  private all(way: Way): void {
    const { layers } = this.info;
    replace(this.title, "Contexts, layer by layer");
    this.body.className = "groups group side-by-side";
    replace(this.body, this.record.layers.map(({ contexts, importance }, layer) => {
      const choose = h("button", { type: "button", class: "layer-name", onclick: () => this.change({ layer, side: false }) }, h("span", { class: `swatch l${layerShade(layer, layers.length)}`, "aria-hidden": "true" }), h("bdi", {}, layers[layer]!.name));
      return h("section", {},
        h("h3", {}, choose, h("small", {}, term("importance", "importance"), ` ${short(importance)}`)),
        contexts.length ? this.lines(layer, contexts.slice(0, SIDE_BY_SIDE), way) : h("p", { class: "quiet" }, "never active"));
    }));
  }
}
