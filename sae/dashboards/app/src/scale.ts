/** The colours of activations: ten steps of one hue, from faint to strong, so that lightness alone tells them apart. */

import { h } from "./dom";
import { short } from "./numbers";

export const STEPS = 10;
const EFFECT_STEPS = 3;

/** Step of an activation: 0 for none, 1 to 10 up to the largest. */
export function step(activation: number, largest: number): number {
  if (!(activation > 0)) return 0;
  return Math.min(STEPS, Math.max(1, Math.ceil((activation / largest) * STEPS)));
}

/** Class of an effect's underline: `raises` or `lowers` with its thickness, full from `strong` on, empty where it is next to nothing. */
export function underline(effect: number, strong: number): string {
  const thickness = Math.min(EFFECT_STEPS, Math.round((Math.abs(effect) / strong) * EFFECT_STEPS));
  return thickness > 0 ? `${effect > 0 ? "raises" : "lowers"} u${thickness}` : "";
}

/** The legend of the colours. */
export function scaleLegend(largest: number): HTMLElement {
  const swatches = Array.from({ length: STEPS }, (_, i) => h("span", { class: `swatch a${i + 1}` }));
  return h("span", { class: "scale" }, h("span", {}, "Activation 0"), h("span", { class: "swatches", "aria-hidden": "true" }, swatches), h("span", {}, short(largest)));
}

/** The legend of examples: colours, the mark of the chosen token, and underlines where there are effects. */
export function legend(largest: number, effects: boolean): HTMLElement {
  return h(
    "p", { class: "legend" },
    scaleLegend(largest),
    h("span", {}, h("span", { class: "t a5 peak" }, "token"), " chosen for"),
    effects && h("span", {}, h("span", { class: "t raises u2" }, "token"), " removing the latent here raises the loss"),
    effects && h("span", {}, h("span", { class: "t lowers u2" }, "token"), " lowers it"),
  );
}
