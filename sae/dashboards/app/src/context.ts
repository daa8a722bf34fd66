/** What every view knows, and the links between them. */

import type { Catalogue } from "./catalogue";
import { h } from "./dom";
import { effectWords } from "./effects";
import type { FactorManifest, FactorsInfo } from "./factor_schema";
import { levelWord } from "./layers";
import type { Live } from "./live";
import { percent } from "./numbers";
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

/** What a dashboard of factors says about them; null in one of latents. */
export function factorsInfo(context: Context): FactorsInfo | null {
  return (context.manifest as Partial<FactorManifest> | null)?.factors ?? null;
}

/** What the dashboard is of, in a word: also the first part of the addresses of their pages. */
export function noun(context: Context): "latent" | "factor" {
  return factorsInfo(context) ? "factor" : "latent";
}

/** A latent's or factor's number as a link to its page, with what is known of it behind it; `more` ends the address. */
export function latentLink(context: Context, latent: number, more = ""): HTMLElement {
  if (context.base === null) return h("span", {}, latent);
  const href = `${context.base}#/${noun(context)}/${latent}${more}`;
  const link = h("a", { href, target: context.base ? "_blank" : null, rel: context.base ? "noopener" : null }, latent);
  const { catalogue } = context;
  if (catalogue) tip(link, () => summary(context, catalogue, latent));
  return link;
}

/** A latent or factor in a few lines. */
export function summary(context: Context, catalogue: Catalogue, latent: number): (Node | string)[] {
  const top = catalogue.topToken(latent);
  const explanation = catalogue.explanation(latent);
  const info = factorsInfo(context);
  const lines = [h("b", {}, `${info ? "Factor" : "Latent"} ${latent}`), h("p", {}, `Active on ${percent(catalogue.value("density", latent))} of ${info ? "vectors" : "tokens"}`)];
  if (catalogue.has("effect")) lines.push(h("p", {}, `Effect on the loss up to ${effectWords(catalogue, latent)} nats`));
  const layer = info?.layers[catalogue.value("peak_layer", latent)];
  if (layer) lines.push(h("p", {}, `Level ${levelWord(catalogue.value("level", latent))}, strongest at ${layer.name}`));
  if (top) lines.push(h("p", {}, "Most often on ", token(top.text)));
  if (explanation) lines.push(h("p", {}, h("bdi", {}, explanation)));
  return lines;
}
