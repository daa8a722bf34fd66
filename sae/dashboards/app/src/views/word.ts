/** A word's page: its occurrences, grouped at each layer by which factors they use. */

import { type Context, latentLink } from "../context";
import { DEFINITIONS, term } from "../definitions";
import { type Child, h, replace } from "../dom";
import type { FactorActivation, FactorsInfo, SenseGroup, WordOccurrence, WordPage } from "../factor_schema";
import { groupColour, groupsChart } from "../groups_chart";
import { layerSlider } from "../layer_slider";
import { short, signed, whole } from "../numbers";
import { explained } from "../tip";
import { LineLayout, TokenLine } from "../token_line";
import { token, visible } from "../visible";

const SHOWN = 8; // occurrences of a group, before all are asked for

const layout = new LineLayout("line");

export function wordView(context: Context, info: FactorsInfo, page: WordPage, first: number | null, keep: (layer: number) => void): HTMLElement {
  if (!page.occurrences.length) return h("p", {}, "The word is nowhere in the text that was read.");
  const at = (layer: number): string => `?${new URLSearchParams({ layer: info.layers[layer]!.name })}`;
  const chart = groupsChart(visible(page.word), info.layers, page.groups, change);
  const slider = layerSlider(info.layers, change);
  const title = h("h2", { id: "groups-title" });
  const list = h("div", { class: "groups" });

  function change(layer: number): void {
    keep(layer);
    show(layer);
  }

  function show(layer: number): void {
    chart.show(layer);
    slider.show(layer);
    const groups = page.groups[layer] ?? [];
    replace(title, `${whole(groups.length)} ${groups.length === 1 ? "group" : "groups"} at `, h("bdi", {}, info.layers[layer]!.name));
    replace(list, groups.length ? groups.map((group, number) => groupView(group, number, layer)) : h("p", { class: "quiet" }, "No occurrence uses a factor at this layer."));
    layout.lay(list);
  }

  function groupView({ occurrences, factors }: SenseGroup, number: number, layer: number): HTMLElement {
    const lines = h("ol", {});
    const line = (place: number): HTMLElement => h("li", {}, occurrenceLine(page, page.occurrences[place]!, layer));
    const more: Child = occurrences.length > SHOWN && h("button", { type: "button", class: "small", onclick: (event: Event) => {
      (event.currentTarget as Element).remove();
      lines.append(...occurrences.slice(SHOWN).map(line));
      layout.lay(list);
    } }, `${whole(occurrences.length - SHOWN)} more`);
    lines.append(...occurrences.slice(0, SHOWN).map(line));
    return h("section", { class: "group sense" },
      h("h3", {}, h("span", { class: `swatch ${groupColour(number)}`, "aria-hidden": "true" }), ` Group ${number + 1}`,
        explained(h("small", {}, `${whole(occurrences.length)} of ${whole(page.occurrences.length)} occurrences`), "Occurrences in this group, of those that are shown.")),
      h("p", { class: "sets-apart" }, factors.length ? [page.groups[layer]!.length > 1 ? "Set apart by " : "Its factors ", h("span", { class: "chips" }, factors.map((one) => chip(one, layer)))] : h("span", { class: "quiet" }, "No factor sets it apart.")),
      lines, more);
  }

  function chip({ factor, activation }: FactorActivation, layer: number): HTMLElement {
    const top = context.catalogue?.topToken(factor);
    return h("span", { class: "chip" }, latentLink(context, factor, at(layer)), top && token(top.text), explained(h("span", { class: "number" }, signed(activation)), DEFINITIONS.sense_difference.means));
  }

  show(first ?? Math.floor((info.layers.length - 1) / 2));
  return h(
    "article", { class: "word-page" },
    h("p", { class: "quiet" }, `${whole(page.occurrences.length)} of ${whole(page.total)} `, term("occurrences", "occurrences"),
      ", grouped by the factors that their last token uses. Beside each factor: ", term("sense_difference", "by how much"), " it is stronger in the group than elsewhere."),
    chart.element, slider.element,
    h("section", { class: "examples", "aria-labelledby": "groups-title" }, h("div", { class: "bar-title" }, title, layout.buttons(list, "Layout of occurrences")), list),
  );
}

function occurrenceLine({ strings }: WordPage, one: WordOccurrence, layer: number): HTMLElement {
  const details = (offset: number): Child[] => {
    const text = strings[one.tokens[offset]!];
    const factors = offset === one.peak ? (one.layers[layer] ?? []) : [];
    return [
      h("p", {}, token(text?.text ?? ""), ` token ${text?.id ?? "?"}`),
      factors.map(({ factor, activation }) => h("p", {}, `factor ${factor}: activation ${short(activation)}`)),
      h("p", { class: "quiet" }, `document ${one.document}, block ${one.block}, position ${one.start + offset}`),
    ];
  };
  const line = new TokenLine(one.tokens.map((place) => strings[place]?.text ?? ""), one.peak, (offset) => (offset === one.peak ? "t peak target" : "t"), details);
  return h("div", { class: "example" }, line.element);
}
