/** One floating box that says more about what the pointer is on or the keyboard has reached. */

import { type Child, h, replace } from "./dom";
import { DEFINITIONS, type Term } from "./definitions";

type Content = () => Child[];

const contents = new WeakMap<Element, Content>();
const HIDE_AFTER_MS = 120;

let box: HTMLElement | null = null;
let owner: Element | null = null;
let hiding = 0;

/** Gives an element a tip; the content is made when it is shown. */
export function tip(element: Element, content: Content): void {
  contents.set(element, content);
  element.setAttribute("data-tip", "");
}

/** The same element, with words for its tip. */
export function explained(element: HTMLElement, words: string): HTMLElement {
  tip(element, () => [words]);
  return element;
}

function ownerOf(target: EventTarget | null): Element | null {
  return target instanceof Element ? target.closest("[data-tip], [data-term]") : null;
}

function contentOf(element: Element): Child[] {
  const key = (element as HTMLElement).dataset["term"];
  const own = contents.get(element)?.() ?? [];
  return key ? [h("b", {}, DEFINITIONS[key as Term].name), h("p", {}, DEFINITIONS[key as Term].means), ...own] : own;
}

/** Shows a tip beside a place on the screen. */
export function showAt(left: number, top: number, bottom: number, content: Child[]): void {
  if (!box) return;
  clearTimeout(hiding);
  replace(box, ...content);
  box.hidden = false;
  const size = box.getBoundingClientRect();
  const view = document.documentElement;
  const x = Math.max(8, Math.min(left, view.clientWidth - size.width - 8));
  const fits = bottom + 6 + size.height < view.clientHeight;
  box.style.left = `${x}px`;
  box.style.top = `${fits ? bottom + 6 : Math.max(8, top - size.height - 6)}px`;
}

function show(element: Element): void {
  const content = contentOf(element);
  if (!content.length) return;
  const place = element.getClientRects()[0] ?? element.getBoundingClientRect();
  showAt(place.left, place.top, place.bottom, content);
  if (owner !== element) release();
  owner = element;
  if (!element.hasAttribute("aria-describedby")) element.setAttribute("aria-describedby", "tip");
}

function release(): void {
  if (owner?.getAttribute("aria-describedby") === "tip") owner.removeAttribute("aria-describedby");
  owner = null;
}

/** Hides the tip. */
export function hideTip(): void {
  if (!box) return;
  box.hidden = true;
  release();
}

/** What the keyboard is on keeps its tip. */
function pointerLeft(): void {
  if (owner && owner !== document.activeElement) hideSoon();
}

function hideSoon(): void {
  clearTimeout(hiding);
  hiding = window.setTimeout(hideTip, HIDE_AFTER_MS);
}

/** Makes the box, inside the main part of `root`, and listens. */
export function startTips(root: HTMLElement): void {
  box = h("div", { id: "tip", role: "tooltip", hidden: true });
  (root.querySelector("main") ?? root).append(box);
  root.addEventListener("pointerover", (event) => {
    if (box?.contains(event.target as Node)) return clearTimeout(hiding);
    const element = ownerOf(event.target);
    if (element) show(element);
    else pointerLeft();
  });
  root.addEventListener("pointerleave", pointerLeft);
  root.addEventListener("focusin", (event) => {
    const element = ownerOf(event.target);
    if (element) show(element);
    else hideTip();
  });
  root.addEventListener("focusout", hideSoon);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && box && !box.hidden) hideTip();
  });
  // Reaching a token by keyboard scrolls it into view: the tip moves along. Scrolling away from the pointer hides it.
  document.addEventListener("scroll", () => {
    if (owner && owner === document.activeElement) show(owner);
    else if (owner) hideTip();
  }, { capture: true, passive: true });
}
