/** What every view knows, and the links between them. */

import type { Catalogue } from "./catalogue";
import { h } from "./dom";
import type { Live } from "./live";
import { percent, short } from "./numbers";
import type { Manifest } from "./schema";
import { tip } from "./tip";
import { token } from "./visible";

export interface Context {
  manifest: Manifest | null;
  catalogue: Catalogue | null;
  live: Live | null;
  /** Address of the dashboard that links lead to: empty inside it, null where there is none (in a notebook). */
  base: string | null;
}

/** A latent's number as a link to its page, with what is known of it behind it. */
export function latentLink(context: Context, latent: number): HTMLElement {
  if (context.base === null) return h("span", {}, latent);
  const link = h("a", { href: `${context.base}#/latent/${latent}`, target: context.base ? "_blank" : null, rel: context.base ? "noopener" : null }, latent);
  const { catalogue } = context;
  if (catalogue) tip(link, () => summary(catalogue, latent));
  return link;
}

/** A latent's largest effect on the loss; a sign stands before an estimate. */
export function effect(catalogue: Catalogue, latent: number): string {
  const nats = catalogue.value("effect", latent);
  return Number.isNaN(nats) || isExact(catalogue, latent) ? short(nats) : `≈ ${short(nats)}`;
}

export function isExact(catalogue: Catalogue, latent: number): boolean {
  return catalogue.value("effect_exact", latent) === 1;
}

/** A latent in a few lines. */
export function summary(catalogue: Catalogue, latent: number): (Node | string)[] {
  const top = catalogue.topToken(latent);
  const explanation = catalogue.explanation(latent);
  const lines = [h("b", {}, `Latent ${latent}`), h("p", {}, `Active on ${percent(catalogue.value("density", latent))} of tokens`)];
  if (catalogue.has("effect")) lines.push(h("p", {}, `Effect on the loss up to ${effect(catalogue, latent)} nats`));
  if (top) lines.push(h("p", {}, "Most often on ", token(top.text)));
  if (explanation) lines.push(h("p", {}, h("bdi", {}, explanation)));
  return lines;
}
