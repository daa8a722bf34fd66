/** Keys of the pages, and the box that lists them. */

import { h } from "./dom";

export interface Keys {
  step: (by: number) => void;
  layer: (by: number) => void;
  search: () => void;
  goTo: () => void;
  index: () => void;
}

const LIST: [string, string][] = [
  ["j, → or ↓", "next latent or factor; in the index: next row"],
  ["k, ← or ↑", "previous latent or factor; in the index: previous row"],
  ["Enter", "open the row, point or link that the keyboard is on"],
  ["/", "search by token"],
  ["g", "go to a number"],
  ["[ and ]", "layer before and layer after, on pages of factors"],
  ["i", "to the index"],
  ["← → inside a text", "from token to token, with what is known of each"],
  ["← → ↑ ↓ on the map", "from point to point; + and - zoom, 0 shows all"],
  ["← → on a chart", "from bar to bar, from layer to layer"],
  ["Escape", "close a box"],
  ["?", "this list"],
];

export function helpBox(): HTMLDialogElement {
  const close = h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { "aria-labelledby": "help-title" }, h("h2", { id: "help-title" }, "Keys"),
    h("dl", { class: "keys" }, LIST.map(([key, means]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, means)])),
    h("p", {}, "Names of numbers that are underlined with dots say what they mean when pointed at or focused."), close);
  return dialog;
}

/** Listens on the whole page; keys typed into fields stay there, and arrows that scroll something keep doing so. */
export function listen(keys: Keys, help: HTMLDialogElement): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]")) return;
    const scrolls = event.target instanceof Element && event.target.matches(".scroll, .tokens");
    const by = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? tableArrow(event);
    if (by && !scrolls) keys.step(by);
    else if (event.key === "[" || event.key === "]") keys.layer(event.key === "[" ? -1 : 1);
    else if (event.key === "/") keys.search();
    else if (event.key === "g") keys.goTo();
    else if (event.key === "i") keys.index();
    else if (event.key === "?") help.showModal();
    else return;
    event.preventDefault();
  });
}

function tableArrow(event: KeyboardEvent): number | undefined {
  const inTable = event.target instanceof Element && event.target.closest(".table-scroll");
  return inTable ? { ArrowDown: 1, ArrowUp: -1 }[event.key] : undefined;
}
