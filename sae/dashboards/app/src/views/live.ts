/** The live page: any text, its latents, and how the text goes on when some of them are held at a value. */

import { type Context, latentLink } from "../context";
import { h, replace } from "../dom";
import type { Live } from "../live";
import type { Clamp, Continuation, SteerRequest } from "../messages";
import { NumberField } from "../number_field";
import { short, whole } from "../numbers";
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
const FIRST_CLAMP = 2; // times the activation that the latent had
const [MOST_VALUE, MOST_TEMPERATURE, MOST_SEED] = [1e9, 100, Number.MAX_SAFE_INTEGER];

/** Clamped latents and the continuation with and without them. */
class SteeringPanel {
  readonly element: HTMLElement;
  private clamps: Clamp[] = [];
  private readonly list = h("ul", { class: "clamps" });
  private readonly outcome = h("div", { class: "two continuations" });
  private readonly said = h("p", { class: "status", role: "status" });
  private readonly latent: NumberField;
  private readonly value = new NumberField("Value", "steer-value", 1, { low: -MOST_VALUE, high: MOST_VALUE, whole: false });
  private readonly tokens: NumberField;
  private readonly temperature: NumberField;
  private readonly seed: NumberField;

  constructor(
    private readonly context: Context,
    private readonly live: Live,
    private readonly text: () => string,
  ) {
    const { d_sae, limits, defaults } = live.hello;
    this.latent = new NumberField("Latent", "steer-latent", 0, { low: 0, high: d_sae - 1, whole: true });
    this.tokens = new NumberField("Tokens", "steer-tokens", defaults.new_tokens, { low: 1, high: limits.new_tokens, whole: true });
    this.temperature = new NumberField("Temperature", "steer-temperature", defaults.temperature, { low: 0, high: MOST_TEMPERATURE, whole: false });
    this.seed = new NumberField("Seed", "steer-seed", defaults.seed, { low: 0, high: MOST_SEED, whole: true });
    const add = h("button", { type: "button", onclick: () => this.addTyped() }, "Add clamp");
    const run = h("button", { type: "button", class: "main", onclick: () => void this.run() }, "Continue the text");
    this.element = h("section", { class: "card steering", "aria-labelledby": "steer-title" },
      h("h2", { id: "steer-title" }, "Continue with latents clamped"),
      h("p", { class: "quiet" }, "A clamped latent is held at its value on every token, whatever the text says: 0 removes it, and a value below 0, which it never has by itself, steers the other way. At temperature 0 the model takes the likeliest token each time."),
      h("div", { class: "fields" }, this.latent.element, this.value.element, add), this.list,
      h("div", { class: "fields" }, this.tokens.element, this.temperature.element, this.seed.element, run), this.said, this.outcome);
    this.show();
  }

  add(clamp: Clamp): void {
    const others = this.clamps.filter(({ latent }) => latent !== clamp.latent);
    const most = this.live.hello.limits.clamps;
    this.said.textContent = others.length < most ? "" : `${whole(most)} latents are clamped, which is the most: take one off first.`;
    if (others.length < most) this.clamps = [...others, clamp];
    this.show();
  }

  private addTyped(): void {
    const [latent, value] = [this.latent.read(), this.value.read()];
    if (latent !== null && value !== null) this.add({ latent, value });
  }

  private show(): void {
    replace(this.list, this.clamps.map((clamp) => h("li", { class: "chip" }, "latent ", latentLink(this.context, clamp.latent), ` at ${short(clamp.value)} `,
      h("button", { type: "button", class: "small", "aria-label": `Take off the clamp of latent ${clamp.latent}`, onclick: () => {
        this.clamps = this.clamps.filter((one) => one !== clamp);
        this.show();
      } }, "take off"))));
  }

  private async run(): Promise<void> {
    const [tokens, temperature, seed] = [this.tokens.read(), this.temperature.read(), this.seed.read()];
    if (tokens === null || temperature === null || seed === null) return;
    this.said.textContent = "Writing";
    const request: SteerRequest = { text: this.text(), clamps: this.clamps, new_tokens: tokens, temperature, seed };
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
