/** A latent's largest effect on the loss, and how far estimates of effects can be trusted. */

import type { Catalogue } from "./catalogue";
import { term } from "./definitions";
import { h } from "./dom";
import { short, whole } from "./numbers";
import type { Manifest } from "./schema";
import { tip } from "./tip";

/** The number; a sign stands before an estimate. */
export function effectWords(catalogue: Catalogue, latent: number): string {
  const nats = catalogue.value("effect", latent);
  return Number.isNaN(nats) || isExact(catalogue, latent) ? short(nats) : `≈ ${short(nats)}`;
}

function isExact(catalogue: Catalogue, latent: number): boolean {
  return catalogue.value("effect_exact", latent) === 1;
}

/** The same for a table, with how it was found behind it. */
export function effectCell(catalogue: Catalogue, latent: number): HTMLElement {
  const words = h("span", {}, effectWords(catalogue, latent));
  tip(words, () => [isExact(catalogue, latent) ? "Exact: the latent was removed, and the model run again." : "The largest estimate to first order; exact effects may differ much."]);
  return words;
}

/** The number's name; behind it, after what it means, how good estimates are here. */
export function effectTerm(manifest: Manifest | null): HTMLElement {
  const name = term("effect");
  const found = manifest?.exact_effects;
  if (found && found.agreement !== null) {
    const { firings, agreement } = found;
    tip(name, () => [h("p", {}, `Here ${whole(firings)} firings were measured: their sizes and those of their estimates have a rank correlation of ${short(agreement)}.`)]);
  }
  return name;
}
