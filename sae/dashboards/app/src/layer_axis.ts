/** The axis of charts over layers: labels as far as there is room, the chosen layer's always. */

import { pixel } from "./chart";
import { type Child, s } from "./dom";
import type { LayerInfo } from "./factor_schema";
import { layerLabels } from "./layers";

const CHARACTER_PIXELS = 6.5;
const BETWEEN_PIXELS = 10;

export class LayerAxis {
  private readonly labels: string[];
  private left = 0;
  private right = 0;
  private width = 0;

  constructor(private readonly layers: LayerInfo[]) {
    this.labels = layerLabels(layers);
  }

  /** Lays the layers from one pixel to another, in a chart of this width. */
  lay(left: number, right: number, width: number): void {
    [this.left, this.right, this.width] = [left, right, width];
  }

  /** Pixels from a layer to the next. */
  get step(): number {
    return (this.right - this.left) / Math.max(1, this.layers.length - 1);
  }

  /** Pixel of a layer. */
  x(layer: number): number {
    return this.layers.length > 1 ? this.left + layer * this.step : (this.left + this.right) / 2;
  }

  /** Labels with their upper edge at `top`. */
  draw(top: number, chosen: number | null): Child[] {
    const size = (layer: number): number => this.labels[layer]!.length * CHARACTER_PIXELS;
    const spans: [number, number][] = [];
    const order = [...this.labels.keys()].sort((a, b) => Number(b === chosen) - Number(a === chosen) || a - b);
    const texts = order.map((layer) => {
      const middle = Math.min(Math.max(this.x(layer), size(layer) / 2), this.width - size(layer) / 2);
      const span: [number, number] = [middle - size(layer) / 2 - BETWEEN_PIXELS, middle + size(layer) / 2];
      if (spans.some(([from, to]) => from < span[1] && span[0] < to)) return null;
      spans.push(span);
      return s("text", { class: layer === chosen ? "axis strong" : "axis", x: pixel(middle), y: top + 12, "text-anchor": "middle" }, this.labels[layer]);
    });
    return [texts, s("text", { class: "axis", x: pixel((this.left + this.right) / 2), y: top + 27, "text-anchor": "middle" }, "layer")];
  }
}
