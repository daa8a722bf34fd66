/** Which colour each point of the map has, and what the ends of the legend say. */

import type { Catalogue } from "./catalogue";
import type { FactorsInfo } from "./factor_schema";
import { LAYER_SHADES, layerLabels, layerShade } from "./layers";
import { percent } from "./numbers";

export interface Shades {
  /** A class of the style sheet for each shade, from the first. */
  classes: string[];
  /** From 1, for each point; 0 for none. */
  shade: Uint8Array;
  low: string;
  high: string;
}

const DENSITY_SHADES = 5;

/** By the logarithm of density; dead latents have the lowest. */
export function densityShades(catalogue: Catalogue): Shades {
  const density = catalogue.column("density");
  const alive = density.filter((value) => value > 0).sort();
  const [lowest, highest] = [alive[Math.floor(alive.length * 0.02)] ?? 0, alive[Math.floor(alive.length * 0.98)] ?? 1];
  const span = Math.log(highest / lowest) || 1;
  const shade = Uint8Array.from(density, (value) => {
    const share = value > 0 ? Math.log(value / lowest) / span : 0;
    return 1 + Math.min(DENSITY_SHADES - 1, Math.max(0, Math.floor(share * DENSITY_SHADES)));
  });
  const classes = Array.from({ length: DENSITY_SHADES }, (_, i) => `m${i + 1}`);
  return { classes, shade, low: `Density ${percent(lowest)}`, high: percent(highest) };
}

/** By the layer at which a factor is most important. */
export function layerShades(catalogue: Catalogue, { layers }: FactorsInfo): Shades {
  const shade = Uint8Array.from(catalogue.column("peak_layer"), (layer) => (layer >= 0 ? layerShade(layer, layers.length) : 0));
  const labels = layerLabels(layers);
  const classes = Array.from({ length: LAYER_SHADES }, (_, i) => `l${i + 1}`);
  return { classes, shade, low: `Peak layer: ${labels[0] ?? ""}`, high: labels.at(-1) ?? "" };
}
