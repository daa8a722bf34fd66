/** Stretches of text as lines of tokens: gone through with the arrow keys, each token with what is known of it, lying in one line or wrapped. */

import { type Child, h } from "./dom";
import { tip } from "./tip";
import { running } from "./visible";

/** A line of tokens; Tab reaches one of them, at first the chosen one, and the arrow keys the others. */
export class TokenLine {
  readonly element: HTMLElement;
  /** The token that the keyboard was last on. */
  at: number;
  private readonly spans: HTMLElement[];

  /** `classes` and `details` say how the token at an offset looks, and what its tip holds; with `choose` tokens are buttons. */
  constructor(
    texts: string[],
    chosen: number,
    private readonly classes: (offset: number) => string,
    details: (offset: number) => Child[],
    private readonly choose: ((offset: number) => void) | null = null,
  ) {
    this.at = chosen;
    this.spans = texts.map((text, offset) => {
      const span = h("span", { class: classes(offset), role: choose && "button", tabindex: offset === chosen ? 0 : -1, onclick: () => choose?.(offset) }, running(text));
      tip(span, () => details(offset));
      return span;
    });
    this.element = h("div", { class: "tokens", dir: "ltr" }, this.spans);
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focusin", (event) => (this.at = this.spans.indexOf(event.target as HTMLElement)));
  }

  /** Asks again how the tokens look. */
  refresh(): void {
    this.spans.forEach((span, offset) => (span.className = this.classes(offset)));
  }

  /** Says of one token, to who cannot see it, that it is the chosen one. */
  mark(offset: number): void {
    this.spans.forEach((span, at) => span.setAttribute("aria-pressed", String(at === offset)));
  }

  private key(event: KeyboardEvent): void {
    if (this.choose && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      this.choose(this.at);
      return;
    }
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = this.spans[this.at + by];
    if (!next) return;
    this.spans[this.at]?.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }
}

type Layout = "line" | "wrapped";

/** How lines lie, as last chosen. */
export class LineLayout {
  constructor(private layout: Layout) {}

  /** Buttons that choose it for the lines inside `body`. */
  buttons(body: HTMLElement, name: string): HTMLElement {
    const buttons = (["line", "wrapped"] as const).map((kind) => {
      const button = h("button", { type: "button", onclick: () => choose(kind) }, kind === "line" ? "One line" : "Wrapped");
      return { kind, button };
    });
    const choose = (chosen: Layout): void => {
      this.layout = chosen;
      buttons.forEach(({ kind, button }) => button.setAttribute("aria-pressed", String(kind === chosen)));
      this.lay(body);
    };
    choose(this.layout);
    return h("div", { class: "kinds", role: "group", "aria-label": name }, buttons.map(({ button }) => button));
  }

  /** Lays the lines that are there now. */
  lay(body: HTMLElement): void {
    body.classList.toggle("line", this.layout === "line");
    body.classList.toggle("wrapped", this.layout === "wrapped");
    if (this.layout === "line") requestAnimationFrame(() => body.querySelectorAll<HTMLElement>(".tokens").forEach(centre));
  }
}

/** Scrolls a single line so that the chosen token stands in the middle. */
function centre(line: HTMLElement): void {
  const peak = line.querySelector<HTMLElement>(".peak");
  if (peak) line.scrollLeft = peak.offsetLeft - line.clientWidth / 2 + peak.offsetWidth / 2;
}
