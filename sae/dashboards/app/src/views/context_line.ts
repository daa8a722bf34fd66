/** One context of a factor at one layer: its tokens, coloured in the chosen way, and how strongly it fires on the boxed one. */

import type { Context } from "../context";
import { DEFINITIONS } from "../definitions";
import { type Child, h, replace } from "../dom";
import type { Context as FactorContext, FactorRecord } from "../factor_schema";
import { short, signed } from "../numbers";
import { largestWeight, salient, type Way, weightsBy } from "../saliency";
import { step } from "../scale";
import type { TokenText } from "../schema";
import { explained, hideTip } from "../tip";
import { TokenLine } from "../token_line";
import { token } from "../visible";

export class ContextLine {
  readonly element: HTMLElement;
  private readonly line: TokenLine;
  private readonly acts: Map<number, number>;
  private readonly note = h("span", { class: "measure" });

  constructor(
    private readonly context: Context,
    private readonly record: FactorRecord,
    private readonly strings: TokenText[],
    private readonly layer: number,
    private readonly shown: FactorContext,
    private readonly way: Way,
  ) {
    this.acts = new Map(shown.places.map((place, i) => [place, shown.acts[i] ?? 0]));
    this.line = new TokenLine(shown.tokens.map((place) => strings[place]?.text ?? ""), shown.peak, (offset) => this.classes(offset), (offset) => this.details(offset));
    const value = explained(h("span", { class: "value" }, short(this.acts.get(shown.peak))), "Activation on the boxed token, at this layer.");
    this.element = h("div", { class: "example" }, value, this.line.element, this.note);
    this.say();
  }

  private get weights(): number[] | null {
    return weightsBy(this.shown, this.way);
  }

  private classes(offset: number): string {
    const { weights, shown } = this;
    if (offset === shown.peak) return "t peak target";
    return `t ${weights ? salient(weights[offset] ?? 0, largestWeight(weights, shown.peak)) : `a${step(this.acts.get(offset) ?? 0, this.record.max ?? 0)}`}`;
  }

  private details(offset: number): Child[] {
    const { shown, record } = this;
    const text = this.strings[shown.tokens[offset]!];
    const act = this.acts.get(offset);
    return [
      h("p", {}, token(text?.text ?? ""), ` token ${text?.id ?? "?"}`),
      h("p", {}, act === undefined ? "not active at this layer" : `activation ${short(act)}, ${short((100 * act) / (record.max ?? NaN))} % of the largest`),
      shown.saliency.map(({ method, weights }) => h("p", {}, `${DEFINITIONS[method].name}: ${signed(weights[offset])}`)),
      offset === shown.peak && h("p", {}, "the context was chosen for this token"),
      h("p", { class: "quiet" }, `document ${shown.document}, block ${shown.block}, position ${shown.start + offset}`),
    ];
  }

  /** Where the chosen way was not used: says so, and lets the server use it. */
  private say(): void {
    const { way } = this;
    if (way === "activation" || this.weights) return replace(this.note);
    const button = this.context.live && h("button", { type: "button", class: "small", onclick: () => void this.measure(way, button!) }, "measure");
    replace(this.note, explained(h("small", {}, "by activation"), "Saliency was not measured here in the chosen way: tokens are coloured by activation."), button);
  }

  private async measure(method: Exclude<Way, "activation">, button: HTMLButtonElement): Promise<void> {
    const { shown, record, layer } = this;
    button.disabled = true;
    button.textContent = "measuring";
    try {
      const { weights } = await this.context.live!.saliency({ factor: record.factor, layer, block: shown.block, position: shown.start + shown.peak, method });
      shown.saliency.push({ method, weights: weights.slice(shown.start, shown.start + shown.tokens.length) });
      this.line.refresh();
      this.say();
    } catch (error) {
      replace(this.note, h("span", { role: "alert" }, (error as Error).message));
    }
    hideTip();
  }
}
