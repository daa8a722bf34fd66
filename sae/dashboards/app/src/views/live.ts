/** The live page: any text, its latents, and how the text goes on when some of them are held at a value. */

import { type Context, latentLink } from "../context";
import { h, replace } from "../dom";
import type { Live } from "../live";
import type { Clamp, Continuation, SteerRequest } from "../messages";
import { short } from "../numbers";
import type { TextPage } from "../schema";
import { shown } from "../visible";
import { textView } from "./text";

export function liveView(context: Context, live: Live): HTMLElement {
  const { limits, steer } = live.hello;
  const text = h("textarea", { id: "live-text", rows: 4, spellcheck: "false", maxlength: limits.characters });
  const said = h("p", { class: "status", role: "status" });
  const result = h("div", {});
  const steering = steer ? new SteeringPanel(context, live, () => text.value) : null;

  async function read(): Promise<void> {
    said.textContent = "Reading";
    try {
      const page = await live.text({ text: text.value });
      replace(result, textView(context, page, {
        clamp: steering && ((latent) => steering.add({ latent: latent.latent, value: latent.activation * FIRST_CLAMP })),
        ablate: ablation(live, page),
      }));
      said.textContent = `${page.tokens.length} tokens`;
    } catch (error) {
      said.textContent = (error as Error).message;
    }
  }

  const form = h("form", { class: "live-form", onsubmit: (event: Event) => {
    event.preventDefault();
    void read();
  } }, h("label", { for: "live-text" }, "Text"), text, h("p", {}, h("button", { type: "submit", class: "main" }, "Show latents")));
  return h("div", { class: "live" }, h("h1", { tabindex: -1 }, "Live"), h("p", { class: "quiet" }, h("bdi", {}, `${live.hello.model}, ${live.hello.hook_point}`)),
    form, said, steering?.element, result);
}

/** Exact effects of latents at a token of a text, as many as the server takes at once. */
function ablation(live: Live, page: TextPage): ((position: number, latents: number[]) => Promise<number[]>) | null {
  if (!live.hello.ablate) return null;
  return (position, latents) => live.ablate({ text: page.text, position, latents: latents.slice(0, live.hello.limits.ablations) });
}

const LONGEST_CONTINUATION = 100_000; // characters
const FIRST_TOKENS = 40;
const FIRST_CLAMP = 2; // times the activation that the latent had

/** Clamped latents and the continuation with and without them. */
class SteeringPanel {
  readonly element: HTMLElement;
  private clamps: Clamp[] = [];
  private readonly list = h("ul", { class: "clamps" });
  private readonly outcome = h("div", { class: "two continuations" });
  private readonly said = h("p", { class: "status", role: "status" });
  private readonly latent = field("Latent", "steer-latent", "0");
  private readonly value = field("Value", "steer-value", "1");
  private readonly tokens = field("Tokens", "steer-tokens", "");
  private readonly temperature = field("Temperature", "steer-temperature", "0.8");
  private readonly seed = field("Seed", "steer-seed", "0");

  constructor(
    private readonly context: Context,
    private readonly live: Live,
    private readonly text: () => string,
  ) {
    const add = h("button", { type: "button", onclick: () => this.add({ latent: number(this.latent), value: number(this.value) }) }, "Add clamp");
    const run = h("button", { type: "button", class: "main", onclick: () => void this.run() }, "Continue the text");
    this.element = h("section", { class: "card steering", "aria-labelledby": "steer-title" },
      h("h2", { id: "steer-title" }, "Continue with latents clamped"),
      h("p", { class: "quiet" }, "A clamped latent is held at its value on every token, whatever the text says."),
      h("div", { class: "fields" }, this.latent.element, this.value.element, add), this.list,
      h("div", { class: "fields" }, this.tokens.element, this.temperature.element, this.seed.element, run), this.said, this.outcome);
    this.tokens.input.value = String(Math.min(FIRST_TOKENS, live.hello.limits.new_tokens));
    this.show();
  }

  add(clamp: Clamp): void {
    this.clamps = [...this.clamps.filter(({ latent }) => latent !== clamp.latent), clamp];
    this.show();
  }

  private show(): void {
    replace(this.list, this.clamps.map((clamp) => h("li", { class: "chip" }, "latent ", latentLink(this.context, clamp.latent), ` at ${short(clamp.value)} `,
      h("button", { type: "button", class: "small", "aria-label": `Take off the clamp of latent ${clamp.latent}`, onclick: () => {
        this.clamps = this.clamps.filter((one) => one !== clamp);
        this.show();
      } }, "take off"))));
  }

  private async run(): Promise<void> {
    this.said.textContent = "Writing";
    const request: SteerRequest = {
      text: this.text(), clamps: this.clamps, new_tokens: number(this.tokens), temperature: number(this.temperature), seed: number(this.seed),
    };
    try {
      const { own, clamped } = await this.live.steer(request);
      replace(this.outcome, outcome("As the model is", own), outcome("With the clamps", clamped));
      this.said.textContent = "";
    } catch (error) {
      this.said.textContent = (error as Error).message;
    }
  }
}

function outcome(title: string, { text, ended }: Continuation): HTMLElement {
  const end = ended && h("span", { class: "sign named" }, "end");
  return h("div", {}, h("h3", {}, title), h("div", { class: "continuation", dir: "auto" }, shown(text, true, LONGEST_CONTINUATION), end));
}

interface Field {
  element: HTMLElement;
  input: HTMLInputElement;
}

function field(label: string, id: string, value: string): Field {
  const input = h("input", { id, type: "text", inputmode: "decimal", size: 7, value });
  return { element: h("div", { class: "field" }, h("label", { for: id }, label), input), input };
}

function number(one: Field): number {
  return Number(one.input.value);
}
