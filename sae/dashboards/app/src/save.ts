/** Saves a chart as an SVG file that looks as it does here, without the page's style sheet. */

import { h, s } from "./dom";

const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-family", "font-size",
  "font-weight", "text-anchor", "visibility"];

function withStyle(from: Element, to: Element): void {
  const style = getComputedStyle(from);
  for (const name of KEPT) to.setAttribute(name, style.getPropertyValue(name));
  to.removeAttribute("class");
  [...from.children].forEach((child, i) => withStyle(child, to.children[i]!));
}

/** The chart as the text of a file. */
export function standalone(chart: SVGSVGElement, title: string): string {
  const copy = chart.cloneNode(true) as SVGSVGElement;
  withStyle(chart, copy);
  for (const control of copy.querySelectorAll("[data-control]")) control.remove();
  const { width, height } = chart.viewBox.baseVal;
  for (const name of ["tabindex", "role", "aria-label", "visibility"]) copy.removeAttribute(name);
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  const ground = getComputedStyle(chart.closest("figure") ?? document.body).backgroundColor;
  copy.prepend(s("title", {}, title), s("rect", { width, height, fill: ground }));
  return new XMLSerializer().serializeToString(copy);
}

/** Hands a file to the user. */
export function download(name: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A button that saves what `chart` gives at that moment. */
export function saveButton(chart: () => SVGSVGElement, title: string): HTMLElement {
  const name = `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.svg`;
  return h(
    "button",
    { type: "button", class: "small", "aria-label": `Save as SVG: ${title}`, onclick: () => download(name, standalone(chart(), title)) },
    "SVG",
  );
}
