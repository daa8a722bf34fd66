/** The box in which a number is typed that leads to its page; the key g leads to the box. */

import { h } from "../dom";

export function goToForm(noun: "latent" | "factor", size: number): HTMLElement {
  const input = h("input", { type: "text", inputmode: "numeric", id: "go-to", autocomplete: "off", size: 7, "aria-keyshortcuts": "g" });
  const go = (event: Event): void => {
    event.preventDefault();
    const words = input.value.trim();
    const known = /^\d+$/.test(words) && Number(words) < size;
    input.setAttribute("aria-invalid", String(!known));
    if (known) location.hash = `#/${noun}/${Number(words)}`;
  };
  return h("form", { class: "field", onsubmit: go }, h("label", { for: "go-to" }, `Go to ${noun}`), input);
}
