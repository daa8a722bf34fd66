/** A token's factors as lanes over the layers, as thick as the factor is active: which stay, which appear and which vanish. */

import { chartFigure, fitted, pixel } from "./chart";
import { term } from "./definitions";
import { type Child, h, replace, s } from "./dom";
import type { FactorActivation, LayerInfo } from "./factor_schema";
import { LayerAxis } from "./layer_axis";
import { layerShade } from "./layers";
import { short } from "./numbers";

const [NAME, RIGHT, TOP, LANE, FOOT] = [132, 24, 10, 26, 36];
const THICKEST = 19;
const INSIDE = 16; // pixels from the names to the first layer
const TAPER = 0.4; // of the way between two layers
const MANY = 15; // lanes below whose foot the layers' names would be out of sight

/** A factor on a token: its activation at each layer, zero where it is not among the strongest. */
export interface Lane {
  factor: number;
  acts: number[];
}

/** In the order in which they appear; those that appear together, longest first and then strongest. */
export function lanesOf(layers: FactorActivation[][]): Lane[] {
  const lanes = new Map<number, number[]>();
  layers.forEach((factors, layer) => {
    for (const { factor, activation } of factors) {
      if (!lanes.has(factor)) lanes.set(factor, new Array<number>(layers.length).fill(0));
      lanes.get(factor)![layer] = activation;
    }
  });
  const first = (acts: number[]): number => acts.findIndex((act) => act > 0);
  const length = (acts: number[]): number => acts.filter((act) => act > 0).length;
  return [...lanes].map(([factor, acts]) => ({ factor, acts }))
    .sort((a, b) => first(a.acts) - first(b.acts) || length(b.acts) - length(a.acts) || Math.max(...b.acts) - Math.max(...a.acts));
}

/** What happens to a factor at a layer. */
function fate(acts: number[], layer: number): string {
  const [before, now] = [layer > 0 && acts[layer - 1]! > 0, acts[layer]! > 0];
  if (now) return layer === 0 || before ? short(acts[layer]) : `${short(acts[layer])} appears`;
  return before ? "vanishes" : "";
}

/** How many factors stay, appear and vanish at a layer. */
function balance(lanes: Lane[], layer: number): string {
  const fates = lanes.map(({ acts }) => [layer > 0 && acts[layer - 1]! > 0, acts[layer]! > 0] as const);
  const count = (before: boolean, now: boolean): number => fates.filter((one) => one[0] === before && one[1] === now).length;
  return layer === 0 ? `${count(false, true)}` : `${count(true, true)} stay, ${count(false, true)} appear, ${count(true, false)} vanish`;
}

/** `link` makes a factor's link, `address` its address for the chart, `gist` a word for it; `point` hears which factor is pointed at. */
export function lanesChart(
  title: string, layers: LayerInfo[], lanes: Lane[], link: (factor: number) => Child, address: (factor: number) => string, gist: (factor: number) => string,
  point: (factor: number | null) => void,
): HTMLElement {
  const axis = new LayerAxis(layers);
  const top = lanes.length > MANY ? FOOT : TOP;
  const bottom = top + lanes.length * LANE;
  const height = bottom + FOOT;
  const largest = Math.max(1e-12, ...lanes.flatMap(({ acts }) => acts));
  const chart = s("svg", { class: "lanes", role: "group", height, "aria-label": `${title}: ${lanes.length} factors over ${layers.length} layers` });
  const readout = h("output", { "aria-live": "polite" }, "\u00a0");
  let width = 0;

  /** The outline of a lane: it swells and thins from layer to layer, and ends in a point where the factor appears or vanishes. */
  function outline(acts: number[], middle: number): string {
    const stretches: [x: number, half: number][][] = [];
    acts.forEach((act, layer) => {
      if (!(act > 0)) return;
      const half = Math.max(0.75, (act / largest) * (THICKEST / 2));
      const [starts, ends] = [!(acts[layer - 1]! > 0), !(acts[layer + 1]! > 0)];
      if (starts) stretches.push([[axis.x(layer) - axis.step * TAPER, 0]]);
      if (layer === 0) stretches[0] = [[axis.x(0) - INSIDE / 2, half]];
      stretches.at(-1)!.push([axis.x(layer), half]);
      if (ends) stretches.at(-1)!.push(layer === acts.length - 1 ? [axis.x(layer) + INSIDE / 2, half] : [axis.x(layer) + axis.step * TAPER, 0]);
    });
    const edge = (side: 1 | -1, points: [number, number][]): string => points.map(([x, half], i) => {
      const before = points[i - 1];
      if (!before) return `${pixel(x)} ${pixel(middle + side * half)}`;
      const bend = pixel((x + before[0]) / 2);
      return `C${bend} ${pixel(middle + side * before[1])} ${bend} ${pixel(middle + side * half)} ${pixel(x)} ${pixel(middle + side * half)}`;
    }).join("");
    return stretches.map((points) => `M${edge(-1, points)}L${edge(1, [...points].reverse())}Z`).join("");
  }

  function lane({ factor, acts }: Lane, row: number): Child {
    const middle = top + (row + 0.5) * LANE;
    const peak = acts.indexOf(Math.max(...acts));
    const words = acts.flatMap((act, layer) => (act > 0 ? [`${layers[layer]!.name} ${short(act)}`] : [])).join(", ");
    const read = (): void => {
      readout.textContent = `factor ${factor}, activation by layer: ${words}`;
      point(factor);
    };
    const leave = (): void => {
      readout.textContent = "\u00a0";
      point(null);
    };
    return s("a", { class: "lane", href: address(factor), "aria-label": `Factor ${factor} ${gist(factor)}: ${words}`, onpointerenter: read, onpointerleave: leave, onfocus: read, onblur: leave },
      s("rect", { class: "lane-ground", "data-control": true, x: 0, y: top + row * LANE, width, height: LANE }),
      s("text", { y: middle + 4 }, s("tspan", { class: "lane-number", x: 52, "text-anchor": "end" }, factor), s("tspan", { class: "lane-gist", x: 56 }, ` ${gist(factor)}`)),
      s("path", { class: "grid", d: `M${NAME} ${middle}H${width - RIGHT}` }),
      s("path", { class: `stream f${layerShade(peak, layers.length)}`, d: outline(acts, middle) }));
  }

  fitted(chart, (now) => {
    width = now;
    axis.lay(NAME + INSIDE, width - RIGHT, width);
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    replace(
      chart,
      lanes.map(lane),
      layers.map((_, i) => s("path", { class: "layer-line", d: `M${pixel(axis.x(i))} ${top}V${bottom}` })),
      axis.draw(bottom + 4, null),
      lanes.length > MANY && axis.draw(0, null),
    );
  });
  const rows = lanes.map(({ factor, acts }) => [link(factor), ...acts.map((_, layer) => fate(acts, layer))]);
  rows.push(["All", ...layers.map((_, layer) => balance(lanes, layer))]);
  const heading = [term("factor_activation", "Activation"), " of its factors, layer by layer"];
  return chartFigure(title, heading, chart, readout, [term("factor"), ...layers.map(({ name }) => h("bdi", {}, name))], rows);
}
