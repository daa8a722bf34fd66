/** A field for a number, which says beside itself why what stands in it does not fit. */

import { h } from "./dom";
import { short, whole } from "./numbers";
import { visible } from "./visible";

/** Which numbers fit. */
export interface Fit {
  low: number;
  high: number;
  whole: boolean;
}

export class NumberField {
  readonly element: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly said: HTMLElement;

  constructor(
    private readonly label: string,
    id: string,
    value: number,
    private readonly fit: Fit,
  ) {
    this.input = h("input", { id, type: "text", inputmode: fit.low < 0 || !fit.whole ? "text" : "numeric", autocomplete: "off", size: 7, value, "aria-describedby": `${id}-said`, oninput: () => this.say("") });
    this.said = h("small", { id: `${id}-said`, class: "field-said", role: "alert" });
    this.element = h("div", { class: "field" }, h("label", { for: id }, label), this.input, this.said);
  }

  /** The number; null where there is none that fits, which is said, and the keyboard goes there. */
  read(): number | null {
    const words = this.input.value.trim();
    const value = Number(words);
    const fits = words !== "" && value >= this.fit.low && value <= this.fit.high && (!this.fit.whole || Number.isInteger(value));
    this.say(fits ? "" : `${this.label} is ${words === "" ? "empty" : `“${visible(words, 20)}”`}. Expected ${this.expected()}.`);
    if (!fits) this.input.focus();
    return fits ? value : null;
  }

  private expected(): string {
    const { low, high, whole: isWhole } = this.fit;
    return isWhole ? `a whole number from ${whole(low)} to ${whole(high)}` : `a number from ${short(low)} to ${short(high)}`;
  }

  private say(words: string): void {
    this.said.textContent = words;
    this.input.setAttribute("aria-invalid", String(words !== ""));
  }
}
