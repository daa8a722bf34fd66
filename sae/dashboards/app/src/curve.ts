/** The importance of a factor over the layers, as a curve on which a layer is chosen. */

import { linearAxis } from "./axes";
import { chartFigure, fitted, pixel } from "./chart";
import { term } from "./definitions";
import { h, replace, s } from "./dom";
import type { FactorRecord, FactorsInfo } from "./factor_schema";
import { LayerAxis } from "./layer_axis";
import { layerShade } from "./layers";
import { percent, short, whole } from "./numbers";

const [LEFT, RIGHT, TOP, HEIGHT] = [46, 20, 14, 210];
const BOTTOM = HEIGHT - 36;
const INSIDE = 14; // pixels from the frame to the first and the last layer

export interface Curve {
  element: HTMLElement;
  /** Marks a layer as chosen. */
  show: (layer: number) => void;
}

export function importanceCurve(info: FactorsInfo, record: FactorRecord, choose: (layer: number) => void): Curve {
  const { layers } = info;
  const axis = new LayerAxis(layers);
  const values = record.layers.map(({ importance }) => importance ?? 0);
  const last = layers.length - 1;
  let width = 0;
  let chosen = 0;
  let at = -1;

  const title = `Importance of factor ${record.factor} over the layers`;
  const chart = s("svg", {
    class: "curve", role: "img", tabindex: 0, height: HEIGHT,
    "aria-label": `${title}: ${layers.map(({ name }, i) => `${name} ${short(record.layers[i]?.importance)}`).join(", ")}. Arrow keys read the layers, Enter chooses one.`,
  });
  const readout = h("output", { "aria-live": "polite" }, "\u00a0");

  function draw(): void {
    const y = linearAxis(0, Math.max(1e-12, ...values) * 1.08, BOTTOM, TOP, 4);
    const line = values.map((value, i) => `${i ? "L" : "M"}${pixel(axis.x(i))} ${pixel(y.at(value))}`).join("");
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    replace(
      chart,
      y.ticks.map((tick) => [
        s("path", { class: "grid", d: `M${LEFT} ${pixel(y.at(tick))}H${width - RIGHT}` }),
        s("text", { class: "axis", x: LEFT - 6, y: pixel(y.at(tick) + 4), "text-anchor": "end" }, short(tick)),
      ]),
      s("path", { class: "base", d: `M${LEFT} ${BOTTOM}H${width - RIGHT}` }),
      s("path", { class: "chosen-layer", d: `M${pixel(axis.x(chosen))} ${TOP}V${BOTTOM}` }),
      s("path", { class: "curve-line", d: line }),
      values.map((value, i) => s("circle", {
        class: `curve-point f${layerShade(i, layers.length)}${record.layers[i]?.importance == null ? " none" : ""}`, cx: pixel(axis.x(i)), cy: pixel(y.at(value)), r: i === chosen ? 7 : 4.5,
      })),
      axis.draw(BOTTOM + 4, chosen),
      at >= 0 && s("rect", { class: "pointed", "data-control": true, x: pixel(axis.x(at) - 12), y: TOP, width: 24, height: BOTTOM - TOP }),
    );
  }

  function read(layer: number): void {
    at = Math.min(Math.max(layer, 0), last);
    const one = record.layers[at];
    readout.textContent = one?.importance == null
      ? `${layers[at]!.name}: never active here`
      : `${layers[at]!.name}: importance ${short(one.importance)}, maximum ${short(one.max)}, active on ${whole(one.fired)} vectors`;
    draw();
  }

  function leave(): void {
    at = -1;
    readout.textContent = "\u00a0";
    draw();
  }

  function under(event: PointerEvent): number {
    const box = chart.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * width;
    return layers.reduce((best, _, i) => (Math.abs(axis.x(i) - place) < Math.abs(axis.x(best) - place) ? i : best), 0);
  }

  chart.addEventListener("pointermove", (event) => read(under(event)));
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("pointerup", (event) => choose(under(event)));
  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) read(at < 0 ? chosen : at + step);
    else if (event.key === "Enter" && at >= 0) choose(at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  fitted(chart, (now) => {
    width = now;
    axis.lay(LEFT + INSIDE, width - RIGHT - INSIDE, width);
    draw();
  });
  const heads = ["Layer", term("importance"), term("layer_max"), term("layer_fired"), term("layer_share")];
  const rows = record.layers.map(({ importance, max, fired }, i) => [h("bdi", {}, layers[i]!.name), short(importance), short(max), whole(fired), percent(fired / layers[i]!.rows)]);
  const heading = [term("importance", "Importance"), h("small", {}, ` mean of the ${whole(info.importance_top)} strongest activations at each layer`)];
  return {
    element: chartFigure(title, heading, chart, readout, heads, rows),
    show: (layer) => {
      chosen = layer;
      draw();
    },
  };
}
