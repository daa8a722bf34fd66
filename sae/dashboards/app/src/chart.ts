/** What charts share: they fit the width that they have, are saved as SVG, and stand beside the same numbers in a table. */

import { type Child, h } from "./dom";
import { saveButton } from "./save";

const FIRST_WIDTH = 400;

/** Draws at the width that the chart has on the page, again whenever that changes. */
export function fitted(chart: SVGSVGElement, draw: (width: number) => void): void {
  let width = FIRST_WIDTH;
  new ResizeObserver(() => {
    if (!chart.clientWidth || chart.clientWidth === width) return;
    width = chart.clientWidth;
    draw(width);
  }).observe(chart);
  draw(width);
}

/** A chart with its title, a line that reads it, and its numbers as a table. */
export function chartFigure(title: string, heading: Child, chart: SVGSVGElement, readout: Child, heads: Child[], rows: Child[][]): HTMLElement {
  return h(
    "figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, heading), h("span", { class: "tools" }, saveButton(() => chart, title))),
    chart, readout,
    h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` }, h(
      "table", { class: "numbers-table" },
      h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
      h("tbody", {}, rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "number" }, cell))))),
    ))),
  );
}

/** A pixel as it is written into a file. */
export const pixel = (value: number): number => Math.round(value * 10) / 10;
