/** A histogram as SVG: counts on a linear or a logarithmic scale, read by pointer or arrow keys, and brushed where wanted. */

import { type Axis, linearAxis, logAxis } from "./axes";
import { fitted, pixel } from "./chart";
import { type Child, h, replace, s } from "./dom";
import { short, whole } from "./numbers";
import { saveButton } from "./save";
import type { Bars } from "./schema";

const LEFT = 46;
const TOP = 10;
const RIGHT = 14;
const LOWEST_ON_LOG = 0.7; // where a bar of none would stand

export type Range = [low: number, high: number];

export interface HistogramOptions {
  title: string;
  heading?: Child;
  bars: Bars;
  /** What the values are, under the axis. */
  unit: string;
  /** What is counted. */
  counted: string;
  logValues?: boolean;
  height?: number;
  /** Called with the range that was chosen by dragging, null where the choice was taken back. */
  brushed?: (range: Range | null) => void;
}

export interface Histogram {
  element: HTMLElement;
  /** Shows a part of what is counted before the whole, and a range as chosen. */
  update: (part: number[] | null, range: Range | null) => void;
}

export function histogram(options: HistogramOptions): Histogram {
  const { bars, height = 200 } = options;
  const bottom = height - 36;
  const { edges, counts } = bars;
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 1];
  let width = 400;
  let right = width - RIGHT;
  let x = values();
  const most = Math.max(1, ...counts);
  let part: number[] | null = null;
  let range: Range | null = null;
  let at = -1;

  const chart = s("svg", {
    role: "img", tabindex: 0, height,
    "aria-label": `${options.title}: ${whole(counts.reduce((sum, n) => sum + n, 0))} ${options.counted} from ${short(low)} to ${short(high)}. Arrow keys read the bars.`,
  });
  const readout = h("output", { "aria-live": "polite" }, "\u00a0");
  const log = h("input", { type: "checkbox", onchange: () => draw() });

  function values(): Axis {
    return options.logValues ? logAxis(low, high, LEFT, right) : linearAxis(low, high, LEFT, right);
  }

  function scale(): Axis {
    if (!log.checked) return linearAxis(0, most * 1.04, bottom, TOP, 4);
    return logAxis(LOWEST_ON_LOG, most * 1.3, bottom, TOP);
  }

  function bar(y: Axis, i: number, count: number, kind: string): Child {
    if (count <= 0) return null;
    const [from, to] = [x.at(edges[i]!), x.at(edges[i + 1]!)];
    const top = Math.min(y.at(count), bottom - 1); // one is seen beside thousands
    const gap = to - from > 4 ? 0.75 : 0;
    return s("rect", { class: kind, x: pixel(from), y: pixel(top), width: pixel(Math.max(to - from - gap, 0.6)), height: pixel(bottom - top) });
  }

  function draw(): void {
    const y = scale();
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const zero = !options.logValues && low < 0 && high > 0;
    replace(
      chart,
      y.ticks.map((tick) => [
        s("path", { class: "grid", d: `M${LEFT} ${pixel(y.at(tick))}H${right}` }),
        s("text", { class: "axis", x: LEFT - 6, y: pixel(y.at(tick) + 4), "text-anchor": "end" }, short(tick)),
      ]),
      counts.map((count, i) => bar(y, i, count, part ? "bar ground" : "bar")),
      part?.map((count, i) => bar(y, i, count, "bar")),
      zero && s("path", { class: "zero", d: `M${pixel(x.at(0))} ${TOP}V${bottom}` }),
      s("path", { class: "base", d: `M${LEFT} ${bottom}H${right}` }),
      x.ticks.map((tick) => s("text", { class: "axis", x: pixel(x.at(tick)), y: bottom + 15, "text-anchor": "middle" }, short(tick))),
      s("text", { class: "axis", x: (LEFT + right) / 2, y: height - 5, "text-anchor": "middle" }, options.unit),
      range && brush(range),
      at >= 0 && s("rect", { class: "pointed", "data-control": true, x: pixel(x.at(edges[at]!)), y: TOP, width: pixel(x.at(edges[at + 1]!) - x.at(edges[at]!)), height: bottom - TOP }),
    );
  }

  function brush([from, to]: Range): Child {
    const [a, b] = [from, to].map((value) => Math.min(Math.max(x.at(Math.min(Math.max(value, low), high)), LEFT), right)) as Range;
    return s("rect", { class: "brush", "data-control": true, x: pixel(a), y: TOP, width: pixel(Math.max(b - a, 1)), height: bottom - TOP });
  }

  function read(i: number): void {
    at = Math.min(Math.max(i, 0), counts.length - 1);
    const words = `${whole(counts[at] ?? 0)} ${options.counted} between ${short(edges[at])} and ${short(edges[at + 1])}`;
    readout.textContent = part ? `${words}, ${whole(part[at] ?? 0)} of them in the table` : words;
    draw();
  }

  function leave(): void {
    at = -1;
    readout.textContent = "\u00a0";
    draw();
  }

  function valueUnder(event: PointerEvent): number {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    return x.of(Math.min(Math.max(at, LEFT), right));
  }

  let dragged: number | null = null;
  chart.addEventListener("pointermove", (event) => {
    const value = valueUnder(event);
    if (dragged !== null) {
      range = value < dragged ? [value, dragged] : [dragged, value];
      draw();
    } else read(edges.findIndex((_, i) => i + 1 === edges.length || value < edges[i + 1]!));
  });
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    read(at < 0 && step < 0 ? counts.length - 1 : at + step);
  });
  if (options.brushed) {
    chart.classList.add("brushable");
    chart.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragged = valueUnder(event);
      range = null;
      chart.setPointerCapture(event.pointerId);
    });
    chart.addEventListener("pointerup", (event) => {
      if (dragged === null) return;
      const moved = Math.abs(x.at(valueUnder(event)) - x.at(dragged)) > 3;
      dragged = null;
      if (!moved) range = null;
      options.brushed?.(range);
    });
    chart.addEventListener("pointercancel", () => (dragged = null));
  }

  fitted(chart, (now) => {
    width = now;
    right = width - RIGHT;
    x = values();
    draw();
  });
  const element = h(
    "figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, options.heading ?? options.title), h("span", { class: "tools" }, h("label", {}, log, " log"), saveButton(() => chart, options.title))),
    chart, readout,
  );
  return {
    element,
    update: (newPart, newRange) => {
      [part, range] = [newPart, newRange];
      draw();
    },
  };
}

/** Counts of values between edges; the last edge belongs to the last bar. */
export function counted(values: Iterable<number>, edges: number[], place: (value: number) => number): number[] {
  const counts = new Array<number>(edges.length - 1).fill(0);
  for (const value of values) {
    const at = Math.min(Math.floor(place(value)), counts.length - 1);
    if (at >= 0) counts[at]! += 1;
  }
  return counts;
}
