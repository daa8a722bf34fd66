/** Examples of a latent: stretches of text whose tokens are coloured by activation and underlined by effect on the loss. */

import type { Context } from "../context";
import { h, replace } from "../dom";
import { short, signed, whole } from "../numbers";
import { legend, step, underline } from "../scale";
import type { Example, ExampleGroup, LatentRecord, TokenText } from "../schema";
import { hideTip, tip } from "../tip";
import { LineLayout, TokenLine } from "../token_line";
import { token } from "../visible";

const layout = new LineLayout("line");

export function examplesView(context: Context, record: LatentRecord, strings: TokenText[]): HTMLElement {
  const all = record.groups.flatMap((group) => group.examples);
  const effects = all.some((example) => example.effects !== null || Object.keys(example.exact).length > 0);
  const strong = strongEffect(all);
  const draw = (example: Example): HTMLElement => new ExampleView(context, record, strings, example, strong).element;
  const body = h("div", { class: "groups" });
  const intervals = record.groups.filter((group) => group.kind === "interval").length;
  let interval = 0;
  replace(body, record.groups.map((group) => groupView(group, group.kind === "interval" ? ++interval : 0, intervals, draw)));
  return h(
    "section", { class: "examples", "aria-labelledby": "examples-title" },
    h("div", { class: "bar-title" }, h("h2", { id: "examples-title" }, "Examples"), layout.buttons(body, "Layout of examples")),
    all.length ? [legend(record.max ?? 0, effects), body] : h("p", { class: "quiet" }, "No token of the text makes this latent fire."),
  );
}

/** The size from which on underlines are thickest: that of one effect in twenty, so that a few huge ones do not hide all others. */
function strongEffect(examples: Example[]): number {
  const sizes = examples.flatMap((example) => example.places.map((place, i) => Math.abs(example.exact[place] ?? example.effects?.[i] ?? 0)));
  sizes.sort((a, b) => a - b);
  return Math.max(1e-12, sizes[Math.floor(0.95 * sizes.length)] ?? 0);
}

function groupView(group: ExampleGroup, number: number, of: number, draw: (example: Example) => HTMLElement): HTMLElement | null {
  if (!group.examples.length && group.kind !== "interval") return null;
  const range = group.low !== null && group.high !== null ? `${short(group.low)} to ${short(group.high)}` : "";
  const title = { top: "Strongest", interval: `Interval ${of - number + 1} of ${of}: activation ${range}`, random: "Random firings" }[group.kind];
  return h(
    "section", { class: "group" },
    h("h3", {}, title, size(group)),
    group.examples.length ? h("ol", {}, group.examples.map((example) => h("li", {}, draw(example)))) : null,
  );
}

function size({ examples, count }: ExampleGroup): HTMLElement {
  const words = h("small", {}, ` ${whole(examples.length)} of ${whole(count)}`);
  tip(words, () => ["Examples shown, of the firings that they were taken from. Where firings lie close together, one example shows them."]);
  return words;
}

/** One example: its value, its tokens, and where the server can, the exact effect. */
class ExampleView {
  readonly element: HTMLElement;
  private readonly line: TokenLine;
  private readonly acts = new Map<number, number>();
  private readonly effects = new Map<number, number>();

  constructor(
    private readonly context: Context,
    private readonly record: LatentRecord,
    private readonly strings: TokenText[],
    private readonly example: Example,
    private readonly strongEffect: number,
  ) {
    example.places.forEach((place, i) => {
      this.acts.set(place, example.acts[i] ?? 0);
      if (example.effects) this.effects.set(place, example.effects[i] ?? 0);
    });
    const texts = example.tokens.map((place) => strings[place]?.text ?? "");
    this.line = new TokenLine(texts, example.peak, (offset) => this.classes(offset), (offset) => this.details(offset));
    const value = h("span", { class: "value" }, short(this.acts.get(example.peak)));
    tip(value, () => ["Activation on the token that the example was chosen for."]);
    this.element = h("div", { class: "example" }, value, this.line.element, context.live?.hello.ablate && this.measure());
  }

  private classes(offset: number): string {
    const effect = this.example.exact[offset] ?? this.effects.get(offset);
    const names = ["t", `a${step(this.acts.get(offset) ?? 0, this.record.max ?? 0)}`];
    if (offset === this.example.peak) names.push("peak");
    if (effect !== undefined) names.push(underline(effect, this.strongEffect));
    return names.join(" ").trim();
  }

  private details(offset: number): HTMLElement[] {
    const { example } = this;
    const text = this.strings[example.tokens[offset]!];
    const act = this.acts.get(offset);
    const lines: HTMLElement[] = [h("p", {}, token(text?.text ?? ""), ` token ${text?.id ?? "?"}`)];
    lines.push(h("p", {}, act === undefined ? "not active" : `activation ${short(act)}, ${short((100 * act) / (this.record.max ?? NaN))} % of the largest`));
    const [estimate, exact] = [this.effects.get(offset), example.exact[offset]];
    if (exact !== undefined) lines.push(effectLine(exact, "exact: removed, and the model run again"));
    if (estimate !== undefined) lines.push(exact === undefined ? effectLine(estimate, "estimated to first order") : h("p", { class: "quiet" }, `its estimate to first order was ${signed(estimate)} nats`));
    if (offset === example.peak) lines.push(h("p", {}, "the example was chosen for this token"));
    lines.push(h("p", { class: "quiet" }, `document ${example.document}, block ${example.block}, position ${example.start + offset}`));
    return lines;
  }

  /** Asks the server for the exact effect at the token last gone to where it fires, else at the chosen one. */
  private measure(): HTMLElement {
    const button = h("button", { type: "button", class: "small" }, "exact effect");
    button.title = "Removes the latent at the chosen token and runs the model again";
    const said = h("output", {});
    button.addEventListener("click", async () => {
      const offset = this.acts.has(this.line.at) ? this.line.at : this.example.peak;
      button.disabled = true;
      said.textContent = "running";
      try {
        const [effect = NaN] = await this.context.live!.ablate({ block: this.example.block, position: this.example.start + offset, latents: [this.record.latent] });
        this.example.exact[offset] = effect;
        this.line.refresh();
        said.textContent = `${signed(effect)} nats, exact`;
      } catch (error) {
        said.textContent = (error as Error).message;
      }
      button.disabled = false;
      hideTip();
    });
    return h("span", { class: "measure" }, button, said);
  }
}

function effectLine(effect: number, how: string): HTMLElement {
  const words = effect > 0 ? `raises the loss by ${short(effect)}` : `lowers the loss by ${short(-effect)}`;
  return h("p", {}, h("span", { class: effect > 0 ? "raises-word" : "lowers-word" }, `removing it here ${words} nats`), ` (${how})`);
}
