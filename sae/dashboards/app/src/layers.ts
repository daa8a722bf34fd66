/** Layers and levels as people read them. */

import type { LayerInfo } from "./factor_schema";

export const LAYER_SHADES = 9;
const LEVELS = ["low", "middle", "high"];

/** A word for a level as the index numbers them: 0 low, 1 middle, 2 high. */
export function levelWord(level: number): string {
  return LEVELS[level] ?? "\u2013";
}

/** Short names: the blocks' numbers where these tell the layers apart, and the names of what has none. */
export function layerLabels(layers: LayerInfo[]): string[] {
  const numbers = layers.flatMap(({ number }) => (number === null ? [] : [number]));
  const apart = new Set(numbers).size === numbers.length;
  return layers.map(({ name, number }) => (apart && number !== null ? String(number) : name));
}

/** The colour of a layer among so many: a class `lN`, N from 1 to 9, from the first to the last. */
export function layerShade(layer: number, of: number): number {
  return 1 + Math.round((layer * (LAYER_SHADES - 1)) / Math.max(1, of - 1));
}
