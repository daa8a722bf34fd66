/** A text's page: every token with its strongest latents, by the measure that is chosen. */

import { type Context, latentLink } from "../context";
import { type Term, term } from "../definitions";
import { type Child, h, replace } from "../dom";
import { percent, short, signed } from "../numbers";
import { scaleLegend, step } from "../scale";
import type { TextLatent, TextPage, TextToken } from "../schema";
import { tip } from "../tip";
import { TokenLine } from "../token_line";
import { running, token, visible } from "../visible";

const SHOWN = 6;

interface Measure {
  key: keyof TextLatent & ("activation" | "quantile" | "effect" | "logit_effect");
  term: Term;
  label: string;
  write: (value: number | null) => string;
  /** What the order is by: the size, for measures that have a sign. */
  size: (value: number) => number;
}

const MEASURES: Measure[] = [
  { key: "activation", term: "activation", label: "Activation", write: short, size: (v) => v },
  { key: "quantile", term: "quantile", label: "Quantile", write: percent, size: (v) => v },
  { key: "effect", term: "loss_effect", label: "Loss effect", write: signed, size: Math.abs },
  { key: "logit_effect", term: "logit_effect", label: "Logit effect", write: signed, size: Math.abs },
];

/** What a server adds. */
export interface TextActions {
  clamp: ((latent: TextLatent) => void) | null;
  /** Exact effects of latents at the token of a place, for as many of them as are answered. */
  ablate: ((position: number, latents: number[]) => Promise<number[]>) | null;
}

export function textView(context: Context, page: TextPage, { clamp, ablate }: TextActions = { clamp: null, ablate: null }): HTMLElement {
  const measures = MEASURES.filter(({ key }) => page.tokens.some((entry) => entry.latents.some((latent) => latent[key] !== null)));
  let measure = measures[0] ?? MEASURES[0]!;
  let lit: number | null = null;
  let kept: number | null = null;
  let acts = page.tokens.map(() => 0);
  let largest = 1;
  const exact = page.tokens.map(() => new Map<number, number>());

  const note = h("div", { class: "lit legend" });
  const list = h("ol", { class: "token-rows" });
  const line = new TokenLine(page.tokens.map(({ text }) => text), 0, (at) => `t a${step(acts[at]!, largest)}`, details, go);
  const buttons = measures.map((one) => h("button", { type: "button", onclick: () => choose(one) }, one.label));

  function details(at: number): Child[] {
    const entry = page.tokens[at]!;
    return [
      h("p", {}, written(entry), ` token ${entry.id}, position ${at}`),
      entry.text === "" && h("p", {}, "ends a character that stands at a token before it"),
      entry.loss !== null && h("p", {}, `loss ${short(entry.loss)} nats`),
      h("p", {}, entry.kept ? `${entry.latents.length} latents listed` : "a special token, on which the SAE is not read"),
      lit !== null && h("p", {}, `latent ${lit}: ${short(activationOf(entry, lit))}`),
    ];
  }

  function go(at: number): void {
    const row = list.children[at] as HTMLElement | undefined;
    row?.scrollIntoView({ block: "center" });
    row?.focus({ preventScroll: true });
  }

  /** Colours the text by one latent. */
  function light(latent: number | null): void {
    lit = latent;
    acts = page.tokens.map((entry) => (latent === null ? 0 : activationOf(entry, latent)));
    largest = Math.max(1e-12, ...acts);
    line.refresh();
    if (latent === null) replace(note, "Point at a latent below to colour the text by it; a click on the token beside its number keeps the colours.");
    else replace(note, h("span", {}, "Latent ", latentLink(context, latent)), scaleLegend(largest), kept !== null && h("button", { type: "button", class: "small", onclick: () => keep(null) }, "take colours off"));
  }

  function keep(latent: number | null): void {
    kept = latent;
    light(latent);
  }

  /** A latent's number by the measure that is chosen; a measured effect stands before an estimated one. */
  function valueOf(entry: TextLatent, at: number): number | null {
    return (measure.key === "effect" ? exact[at]!.get(entry.latent) : undefined) ?? entry[measure.key];
  }

  /** Exact effects stand before estimates, which may be far off. */
  function isMeasured(entry: TextLatent, at: number): boolean {
    return measure.key === "effect" && exact[at]!.has(entry.latent);
  }

  function chip(entry: TextLatent, at: number): HTMLElement {
    const measured = isMeasured(entry, at);
    const gist = visible(context.catalogue?.topToken(entry.latent)?.text.trim() ?? "", 12) || "colour";
    const [on, off] = [() => light(entry.latent), () => light(kept)];
    return h("li", { class: "chip", onpointerenter: on, onpointerleave: off, onfocusin: on, onfocusout: off },
      latentLink(context, entry.latent),
      h("button", { type: "button", class: "gist", "aria-label": `${gist}: keep the text coloured by latent ${entry.latent}`, onclick: () => keep(entry.latent) }, h("bdi", {}, gist)),
      h("span", { class: "number" }, measure.write(valueOf(entry, at)), measured && " exact"),
      clamp && h("button", { type: "button", class: "small", "aria-label": `Clamp latent ${entry.latent}`, onclick: () => clamp(entry) }, "clamp"));
  }

  function row(entry: TextToken, at: number): HTMLElement {
    const known = entry.latents.filter((latent) => valueOf(latent, at) !== null);
    const first = (latent: TextLatent): number => Number(isMeasured(latent, at));
    const sorted = known.sort((a, b) => first(b) - first(a) || measure.size(valueOf(b, at)!) - measure.size(valueOf(a, at)!));
    const chips = h("ul", { class: "chips" }, sorted.slice(0, SHOWN).map((latent) => chip(latent, at)));
    const others = sorted.length - SHOWN;
    const more: Child = others > 0 && h("button", { type: "button", class: "small more", onclick: (event: Event) => {
      (event.currentTarget as Element).remove();
      sorted.slice(SHOWN).forEach((latent) => chips.append(chip(latent, at)));
    } }, `${others} more`);
    const place = h("span", { class: "place" }, at);
    tip(place, () => ["Position of the token in the text, from 0, special tokens counted too."]);
    return h("li", { tabindex: -1 }, place, h("span", { class: "row-token" }, written(entry)),
      h("div", {}, sorted.length ? [chips, more, measure.key === "effect" && ablate && measureButton(sorted, at)] : h("span", { class: "quiet" }, entry.kept ? "none" : "special token")));
  }

  /** Removes the latents of a token one by one, and shows what that really does. */
  function measureButton(latents: TextLatent[], at: number): HTMLElement {
    const button = h("button", { type: "button", class: "small more", "aria-label": `Exact effects of removing the latents at token ${at}` }, "Exact effects");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const effects = await ablate!(at, latents.map(({ latent }) => latent));
        effects.forEach((effect, i) => exact[at]!.set(latents[i]!.latent, effect));
        list.children[at]!.replaceWith(row(page.tokens[at]!, at));
      } catch (error) {
        button.replaceWith(h("span", { role: "alert" }, (error as Error).message));
      }
    });
    return button;
  }

  function choose(one: Measure): void {
    measure = one;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(measures[i] === one)));
    replace(list, page.tokens.map(row));
  }

  light(null);
  choose(measure);
  return h(
    "div", { class: "text-page" },
    h("div", { class: "text-box" }, h("div", { class: "text-tokens" }, line.element), note),
    h("div", { class: "bar-title" }, h("h2", {}, "Strongest latents on each token"), h("div", { class: "kinds", role: "group", "aria-label": "Order of latents" }, buttons)),
    h("p", { class: "quiet measures" }, "By ", measures.map((one, i) => [i > 0 && ", ", term(one.term, one.label.toLowerCase())]), page.effects && ["; effects on the loss are estimated to first order", ablate && " until they are measured"], "."),
    list,
  );
}

function written({ text }: TextToken): HTMLElement {
  return text === "" ? h("bdi", { class: "word" }, running(text)) : token(text);
}

function activationOf(entry: TextToken, latent: number): number {
  return entry.latents.find((one) => one.latent === latent)?.activation ?? 0;
}
