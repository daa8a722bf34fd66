/** What stands over the index's table: kinds, searches, limits, and the box that finds a number. */

import type { Catalogue } from "../catalogue";
import { type Context, factorsInfo, noun } from "../context";
import { DEFINITIONS, type Term, term, termOf } from "../definitions";
import { h, replace } from "../dom";
import { short, whole } from "../numbers";
import { type Kind, kindCounts, KINDS, type Query } from "../query";
import type { Manifest } from "../schema";
import { tip } from "../tip";
import { goToForm } from "./go_to";
import { LevelChoice } from "./level_choice";

const TYPING_PAUSE_MS = 250;

/** Columns that hold numbers, which can be limited. */
export const NUMBERS: Term[] = ["importance", "density", "max", "mean", "effect", "decoder_norm", "concentration", "entropy", "score"];

function kindMeans(context: Context, kind: Kind, { ultra_low }: Manifest): string {
  const [these, read, share] = [`${noun(context)}s`, factorsInfo(context) ? "vectors" : "tokens", short(ultra_low)];
  return {
    active: `Number of ${these} that are active on a share of at least ${share} of the ${read} read.`,
    "ultra-low": `Number of ${these} that are active, but on a smaller share of the ${read} read than ${share}.`,
    dead: `Number of ${these} that are active on none of the ${read} read.`,
    all: `Number of all ${these}.`,
  }[kind];
}

/** Kinds, searches and limits over the table. */
export class Controls {
  readonly element: HTMLElement;
  private readonly kinds = new Map<string, HTMLButtonElement>();
  private readonly token = h("input", { type: "search", id: "search-token", autocomplete: "off", spellcheck: "false", placeholder: "the, run*, #42" });
  private readonly text = h("input", { type: "search", id: "search-text", autocomplete: "off", spellcheck: "false" });
  private readonly explained = h("input", { type: "checkbox" });
  private readonly limits = new Map<string, [HTMLInputElement, HTMLInputElement]>();
  private readonly summary = h("summary", {}, "Filters");
  private readonly levels: LevelChoice | null;

  constructor(
    private readonly context: Context,
    catalogue: Catalogue,
    manifest: Manifest,
    private readonly change: (part: Partial<Query>) => void,
    setRange: (name: string, range: [number, number] | null) => void,
  ) {
    const counts = kindCounts(catalogue, manifest.ultra_low);
    for (const kind of KINDS) {
      const label = `${kind[0]!.toUpperCase()}${kind.slice(1)}`;
      const button = h("button", { type: "button", onclick: () => change({ kind }) }, label, h("span", { class: "count" }, whole(counts[kind])));
      tip(button, () => [kindMeans(context, kind, manifest)]);
      this.kinds.set(kind, button);
    }
    this.search(this.token, "token");
    this.search(this.text, "text");
    this.explained.addEventListener("change", () => change({ explained: this.explained.checked }));
    const limits = NUMBERS.filter((name) => catalogue.has(name)).map((name) => this.limit(name, setRange));
    const info = factorsInfo(context);
    this.levels = info && new LevelChoice(info, catalogue, setRange);
    const clear = h("button", { type: "button", onclick: () => change({ token: "", text: "", explained: false, ranges: {} }) }, "Clear all");
    this.element = h(
      "section", { class: "controls", "aria-label": "Search and filters" },
      h("div", { class: "kinds", role: "group", "aria-label": `Which ${noun(context)}s` }, [...this.kinds.values()]),
      this.levels?.element,
      h("div", { class: "fields" },
        h("div", { class: "field" }, h("label", { for: "search-token" }, "Fires on token"), this.token),
        h("div", { class: "field wide" }, h("label", { for: "search-text" }, "Text around it, or explanation"), this.text),
        goToForm(noun(context), catalogue.size)),
      h("details", { class: "limits" }, this.summary, h("div", { class: "limit-grid" }, limits),
        h("p", {}, catalogue.explained && h("label", {}, this.explained, " only with an explanation "), clear)),
    );
  }

  show(query: Query): void {
    for (const [kind, button] of this.kinds) button.setAttribute("aria-pressed", String(kind === query.kind));
    if (document.activeElement !== this.token) this.token.value = query.token;
    if (document.activeElement !== this.text) this.text.value = query.text;
    this.levels?.show(query.ranges);
    this.explained.checked = query.explained;
    for (const [name, inputs] of this.limits) {
      inputs.forEach((input, side) => {
        const value = query.ranges[name]?.[side];
        if (document.activeElement !== input) input.value = value !== undefined && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "";
      });
    }
    const active = Object.keys(query.ranges).filter((name) => this.limits.has(name)).length + Number(query.explained);
    replace(this.summary, active ? `Filters (${active})` : "Filters");
  }

  private search(input: HTMLInputElement, key: "token" | "text"): void {
    let pause = 0;
    input.addEventListener("input", () => {
      clearTimeout(pause);
      pause = window.setTimeout(() => this.change({ [key]: input.value }), TYPING_PAUSE_MS);
    });
  }

  private limit(name: Term, setRange: (name: string, range: [number, number] | null) => void): HTMLElement {
    const make = (words: string) => h("input", { type: "text", inputmode: "decimal", size: 8, "aria-label": `${DEFINITIONS[name].name} ${words}` });
    const inputs: [HTMLInputElement, HTMLInputElement] = [make("at least"), make("at most")];
    this.limits.set(name, inputs);
    const read = (input: HTMLInputElement, otherwise: number): number => {
      const value = Number(input.value);
      const bad = input.value.trim() !== "" && Number.isNaN(value);
      input.setAttribute("aria-invalid", String(bad));
      return bad || input.value.trim() === "" ? otherwise : value;
    };
    const changed = (): void => {
      const range: [number, number] = [read(inputs[0], -Infinity), read(inputs[1], Infinity)];
      setRange(name, range.some(Number.isFinite) ? range : null);
    };
    inputs.forEach((input) => input.addEventListener("change", changed));
    return h("div", { class: "limit" }, h("span", {}, term(termOf(noun(this.context), name))), inputs[0], " to ", inputs[1]);
  }
}
