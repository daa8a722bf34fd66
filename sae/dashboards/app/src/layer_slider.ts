/** A slider over the layers; the keys [ and ] move it from anywhere on the page. */

import { h } from "./dom";
import type { LayerInfo } from "./factor_schema";
import { layerShade } from "./layers";

export interface LayerSlider {
  element: HTMLElement;
  /** Moves it without a word to who listens. */
  show: (layer: number) => void;
}

export function layerSlider(layers: LayerInfo[], changed: (layer: number) => void): LayerSlider {
  const swatch = h("span", { class: "swatch l1", "aria-hidden": "true" });
  const name = h("output", { for: "layer" });
  const input = h("input", { type: "range", id: "layer", min: 0, max: layers.length - 1, step: 1, "aria-keyshortcuts": "[ ]", oninput: () => {
    show(Number(input.value));
    changed(Number(input.value));
  } });

  function show(layer: number): void {
    input.value = String(layer);
    const words = layers[layer]?.name ?? "";
    input.setAttribute("aria-valuetext", words);
    name.textContent = `${words}, ${layer + 1} of ${layers.length}`;
    swatch.className = `swatch l${layerShade(layer, layers.length)}`;
  }

  return { element: h("div", { class: "layer-slider" }, h("label", { for: "layer" }, "Layer"), input, swatch, name), show };
}

/** Moves the page's slider, where it has one. */
export function stepLayer(page: HTMLElement, by: number): void {
  const input = page.querySelector<HTMLInputElement>("#layer");
  if (!input) return;
  input.value = String(Number(input.value) + by);
  input.dispatchEvent(new Event("input"));
}
