"""How the pages look and react: colours for light and dark, layout down to phone width, and the script of the crosshair.

Series colours are Okabe and Ito's (2008), which people with any common colour blindness tell apart, lightened on dark ground;
each series also has its own dash, so that no meaning rests on colour alone.
"""

__all__ = ["DASHES", "SCRIPT", "STYLE"]

# Dash pattern of each series, in the order of the colours --s0 to --s6.
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2")

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1b1c1e; --quiet: #5d6067; --rule: #dddcd6; --grid: #ebeae5; --focus: #0b57d0;
  --s0: #0072b2; --s1: #d55e00; --s2: #00805c; --s3: #b3548c; --s4: #9a6a00; --s5: #2a8fca; --s6: #3b3d42; --warn: #b04a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131416; --card: #1c1e21; --ink: #ececea; --quiet: #a4a8af; --rule: #35383d; --grid: #2a2d31; --focus: #8ab4f8;
    --s0: #5fb2e6; --s1: #f0873c; --s2: #3cc09a; --s3: #e09cc4; --s4: #e6b23c; --s5: #9ad1f5; --s6: #d0d2d6; --warn: #f0a060;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p { margin: .35rem 0; max-width: 75ch; }
.quiet, figcaption small { color: var(--quiet); }
a { color: var(--focus); }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 3px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; padding: 0; }
.tiles > div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .7rem .9rem; }
.tiles dt { color: var(--quiet); font-size: .82rem; }
.tiles dd { margin: 0; font-size: 1.55rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles dd.quiet { font-size: .78rem; font-weight: 400; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: .9rem; }
.charts.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .75rem .8rem .6rem;
  min-width: 0; display: flex; flex-direction: column; }
figcaption { display: flex; justify-content: space-between; align-items: baseline; gap: .75rem; font-weight: 600;
  overflow-wrap: anywhere; }
figcaption button { font: inherit; font-weight: 400; font-size: .76rem; color: var(--quiet); background: none; cursor: pointer;
  border: 1px solid var(--rule); border-radius: 6px; min-width: 24px; min-height: 24px; padding: 0 .4rem; margin-left: auto; }
figcaption label + button { margin-left: 0; }
figcaption label { margin-left: auto; font-weight: 400; font-size: .82rem; color: var(--quiet); white-space: nowrap;
  cursor: pointer; }
figure p { font-size: .82rem; line-height: 1.4; margin: 0; }
@media (min-width: 1000px) { .wide .axis { font-size: 9px; } }
output { display: block; font-size: .82rem; min-height: 1.3em; line-height: 1.3; color: var(--quiet); overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
figure > svg, figure > div { margin-top: auto; padding-top: .25rem; }
figure svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
figure:has(input:checked) .linear, figure:not(:has(input:checked)) .log { display: none; }
.axis { fill: var(--quiet); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); stroke-width: 1; }
.base { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: butt; }
.line.faint { stroke-width: 1.25; opacity: .6; }
.dot { fill: var(--c); stroke: var(--card); stroke-width: 1; }
.bar { fill: var(--c); }
.bar.never { fill: var(--warn); }
.cross { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 2; visibility: hidden; }
.c0 { --c: var(--s0); } .c1 { --c: var(--s1); } .c2 { --c: var(--s2); } .c3 { --c: var(--s3); } .c4 { --c: var(--s4); }
.c5 { --c: var(--s5); } .c6 { --c: var(--s6); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0 0 .75rem; padding: 0; list-style: none;
  font-size: .88rem; }
.legend li { overflow-wrap: anywhere; }
.legend svg { width: 30px; height: 12px; vertical-align: -1px; margin-right: .4rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .45rem .8rem; border-top: 1px solid var(--rule); vertical-align: top; }
thead th { border-top: 0; color: var(--quiet); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; }
tbody th small { display: block; font-weight: 400; font-size: .84rem; color: var(--quiet); max-width: 80ch; min-width: 13rem; }
tbody th { min-width: 8rem; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.value, td.plain { overflow-wrap: anywhere; }
.config th { font-weight: 400; color: var(--quiet); white-space: nowrap; }
.config th, .config td { padding: .2rem .8rem; font: .84rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
details > summary { cursor: pointer; padding: .2rem 0; }
pre { margin: .4rem 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .6rem .8rem;
  overflow-x: auto; font: .86rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media (max-width: 560px) {
  main { padding: 1rem .75rem 3rem; }
  th, td { padding: .4rem .55rem; }
  .config th { white-space: normal; overflow-wrap: anywhere; }
}
@media print { figure, .tiles > div { break-inside: avoid; } }
"""

# Moves a crosshair over a chart, by pointer or by the arrow keys, and writes the values under it into the chart's <output>. And
# saves charts as files that look as they do here without the page's style, the page's legend under them.
SCRIPT = """
"use strict";
const digits = (v) => (v === 0 ? "0" : String(Number(v.toPrecision(4))));
const nearest = (xs, x) => xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
for (const figure of document.querySelectorAll("figure[data-series]")) {
  const series = JSON.parse(figure.dataset.series);
  const out = figure.querySelector("output");
  const last = out.textContent;
  const stops = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
  let at = stops.length - 1;
  const show = (svg, x) => {
    at = nearest(stops, x);
    const axis = svg.dataset, cross = svg.querySelector(".cross");
    const share = (stops[at] - axis.low) / (axis.high - axis.low);
    const pixel = Number(axis.left) + share * (axis.right - axis.left);
    cross.setAttribute("x1", pixel);
    cross.setAttribute("x2", pixel);
    cross.style.visibility = "visible";
    const parts = series.map((s) => s.name + " " + digits(s.y[nearest(s.x, stops[at])]));
    out.textContent = stops[at].toLocaleString("en") + " " + axis.unit + ": " + parts.join(" · ");
  };
  for (const svg of figure.querySelectorAll("svg")) {
    const axis = svg.dataset;
    const hide = () => { svg.querySelector(".cross").style.visibility = "hidden"; out.textContent = last; };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const pixel = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      show(svg, Number(axis.low) + ((pixel - axis.left) / (axis.right - axis.left)) * (axis.high - axis.low));
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      show(svg, stops[Math.min(Math.max(at + move, 0), stops.length - 1)]);
    });
  }
}
const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "text-anchor",
  "visibility"];
const SVG = "http://www.w3.org/2000/svg";
const styled = (from, to) => {
  const style = getComputedStyle(from);
  for (const name of KEPT) to.setAttribute(name, style.getPropertyValue(name));
  to.removeAttribute("class");
  [...from.children].forEach((child, i) => styled(child, to.children[i]));
  return to;
};
const put = (parent, tag, attributes, text) => {
  const made = parent.appendChild(document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};
const picture = (figure, title) => {
  const chart = [...figure.querySelectorAll("svg")].find((svg) => svg.getClientRects().length);
  const copy = styled(chart, chart.cloneNode(true)), { width, height } = chart.viewBox.baseVal;
  for (const hidden of copy.querySelectorAll('[visibility="hidden"]')) hidden.remove();
  const lines = [...document.querySelectorAll(".legend li")], whole = height + 18 * lines.length;
  lines.forEach((line, i) => {
    const key = put(copy, "g", { transform: `translate(46 ${height + 18 * i})` }, "");
    for (const stroke of line.querySelector("svg").children) key.append(styled(stroke, stroke.cloneNode(true)));
    const style = getComputedStyle(line);
    const look = { x: 38, y: 10, fill: style.color, "font-family": style.fontFamily, "font-size": "12px" };
    put(key, "text", look, line.textContent);
  });
  for (const name of chart.getAttributeNames()) if (/^(data-|tabindex|role|aria-)/.test(name)) copy.removeAttribute(name);
  const size = { width, height: whole }, fill = getComputedStyle(figure).backgroundColor;
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${whole}`, ...size })) copy.setAttribute(name, value);
  copy.prepend(put(copy, "title", {}, title), put(copy, "rect", { ...size, fill }, ""));
  return new XMLSerializer().serializeToString(copy);
};
for (const figure of document.querySelectorAll("figure")) {
  const caption = figure.querySelector("figcaption"), title = caption.firstChild.textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "SVG";
  button.setAttribute("aria-label", "Save as SVG: " + title);
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([picture(figure, title)], { type: "image/svg+xml" }));
    link.download = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") + ".svg";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  caption.append(button);
}
"""
