/** Over the index of factors: which levels and which peak layers the table shows. Both are limits of a column, as any other. */

import type { Catalogue } from "../catalogue";
import { term } from "../definitions";
import { h } from "../dom";
import type { FactorsInfo } from "../factor_schema";
import type { Range } from "../histogram";
import { levelWord } from "../layers";
import { whole } from "../numbers";

const LEVELS = [0, 1, 2];

export class LevelChoice {
  readonly element: HTMLElement;
  private readonly buttons: { level: number | null; button: HTMLButtonElement }[];
  private readonly layer: HTMLSelectElement;

  constructor({ layers }: FactorsInfo, catalogue: Catalogue, setRange: (name: string, range: Range | null) => void) {
    const of = (name: string, value: number): string => whole(catalogue.column(name).filter((one) => one === value).length);
    this.buttons = [null, ...LEVELS].map((level) => {
      const onclick = (): void => setRange("level", level === null ? null : [level, level]);
      return { level, button: h("button", { type: "button", onclick }, level === null ? "Any" : levelWord(level), level !== null && h("span", { class: "count" }, of("level", level))) };
    });
    this.layer = h("select", { "aria-label": "Peak layer", onchange: () => setRange("peak_layer", this.layer.value === "" ? null : [Number(this.layer.value), Number(this.layer.value)]) },
      h("option", { value: "" }, "any"), layers.map(({ name }, layer) => h("option", { value: layer }, `${name} (${of("peak_layer", layer)})`)));
    this.element = h("div", { class: "fields level-choice" },
      h("span", {}, term("level"), " ", h("span", { class: "kinds", role: "group", "aria-label": "Level" }, this.buttons.map(({ button }) => button))),
      h("span", {}, term("peak_layer"), " ", this.layer));
  }

  show(ranges: Record<string, Range>): void {
    const single = (range: Range | undefined): number | null => (range && range[0] === range[1] ? range[0] : null);
    const [level, layer] = [single(ranges["level"]), single(ranges["peak_layer"])];
    for (const one of this.buttons) one.button.setAttribute("aria-pressed", String(one.level === level));
    this.layer.value = layer === null ? "" : String(layer);
  }
}
