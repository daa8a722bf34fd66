/** The map: a point for every latent, near where decoder rows are alike. Drawn on a canvas, for there may be many. */

import type { Catalogue } from "./catalogue";
import { type Context, noun, summary } from "./context";
import { eachFrame, h, s } from "./dom";
import { download } from "./save";
import type { Shades } from "./shades";
import { hideTip, showAt } from "./tip";

const MARGIN_PIXELS = 24;
const REACH_PIXELS = 14;
const RADIUS_PIXELS = 2.2;
const RADIUS_OF_FEW = 3.4;
const FEW = 2000;

/** What is seen: the middle in data, and pixels of the canvas for one unit. */
interface View {
  x: number;
  y: number;
  scale: number;
}

/** The same on the canvas as large as it is: asking the page for its size is slow, so it is asked once a drawing. */
interface Frame extends View {
  width: number;
  height: number;
}

export class LatentMap {
  readonly element: HTMLElement;
  private readonly canvas = h("canvas", { tabindex: 0, role: "img", class: "map" });
  private readonly swatches: HTMLElement[];
  private readonly faint = h("span", { class: "swatch m0" });
  private readonly ring = h("span", { class: "swatch ring", hidden: true });
  private readonly x: Float32Array;
  private readonly y: Float32Array;
  private readonly extent: { left: number; right: number; low: number; high: number };
  private chosen: Uint8Array | null = null;
  private pointed = -1;
  private view: View | null = null;
  private readonly redraw = eachFrame(() => this.draw());

  constructor(
    private readonly context: Context,
    private readonly catalogue: Catalogue,
    private readonly shades: Shades,
    private readonly open: (latent: number) => void,
  ) {
    [this.x, this.y] = [catalogue.column("x"), catalogue.column("y")];
    const [left, right] = limits(this.x);
    const [low, high] = limits(this.y);
    this.extent = { left, right, low, high };
    this.swatches = shades.classes.map((name) => h("span", { class: `swatch ${name}` }));
    const how = context.manifest?.layout === "umap" ? "UMAP" : "PCA";
    this.canvas.setAttribute("aria-label", `Map of the ${noun(context)}s by ${how} of their decoder rows. Arrow keys go from point to point, Enter opens a ${noun(context)}, + and - zoom, 0 shows all.`);
    this.element = h(
      "figure", { class: "chart map-chart" },
      h("figcaption", {}, h("span", {}, `Map of decoder rows (${how})`), h("span", { class: "tools" },
        h("button", { type: "button", class: "small", "aria-label": "Zoom in", onclick: () => this.zoom(1.5) }, "+"),
        h("button", { type: "button", class: "small", "aria-label": "Zoom out", onclick: () => this.zoom(1 / 1.5) }, "\u2212"),
        h("button", { type: "button", class: "small", "aria-label": "Show all of the map", onclick: () => this.reset() }, "all"),
        h("button", { type: "button", class: "small", "aria-label": "Save as SVG: map", onclick: () => download("map.svg", this.svg()) }, "SVG"))),
      this.canvas,
      h("p", { class: "legend" }, h("span", { class: "scale" }, h("span", {}, shades.low), h("span", { class: "swatches", "aria-hidden": "true" }, this.swatches), h("span", {}, shades.high)),
        h("span", {}, h("span", { class: "swatches" }, this.faint), " not in the table"), this.ring),
    );
    this.listen();
  }

  /** Sets apart the latents that the table shows. */
  update(rows: Uint32Array): void {
    this.chosen = new Uint8Array(this.catalogue.size);
    for (const latent of rows) this.chosen[latent] = 1;
    this.redraw();
  }

  private listen(): void {
    const { canvas } = this;
    let from: { x: number; y: number; moved: boolean } | null = null;
    new ResizeObserver(this.redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.redraw);
    document.addEventListener("themechange", this.redraw);
    canvas.addEventListener("pointerdown", (event) => {
      from = { x: event.offsetX, y: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (from && (from.moved || Math.hypot(event.offsetX - from.x, event.offsetY - from.y) > 4)) {
        const { x, y, scale } = this.frame();
        this.view = { x: x - (event.offsetX - from.x) / scale, y: y + (event.offsetY - from.y) / scale, scale };
        from = { x: event.offsetX, y: event.offsetY, moved: true };
        hideTip();
        this.redraw();
      } else this.point(this.nearest(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerup", (event) => {
      const clicked = from && !from.moved;
      from = null;
      const latent = this.nearest(event.offsetX, event.offsetY);
      if (clicked && latent >= 0) this.open(latent);
    });
    canvas.addEventListener("pointerleave", () => this.point(-1));
    canvas.addEventListener("blur", () => this.point(-1));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls on
      event.preventDefault();
      this.zoom(1.0015 ** -event.deltaY, event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (direction) this.point(this.neighbour(direction[0]!, direction[1]!));
    else if (event.key === "Enter" && this.pointed >= 0) this.open(this.pointed);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private reset(): void {
    this.view = null;
    this.redraw();
  }

  /** Zooms about a place on the canvas, its middle where none is given. */
  private zoom(by: number, px?: number, py?: number): void {
    const frame = this.frame();
    const [dx, dy] = [(px ?? frame.width / 2) - frame.width / 2, frame.height / 2 - (py ?? frame.height / 2)];
    const scale = frame.scale * by;
    this.view = { x: frame.x + dx / frame.scale - dx / scale, y: frame.y + dy / frame.scale - dy / scale, scale };
    this.redraw();
  }

  /** The view that was chosen, or else one that holds every point. */
  private frame(): Frame {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (this.view) return { ...this.view, width, height };
    const { left, right, low, high } = this.extent;
    const scale = Math.min((width - MARGIN_PIXELS) / (right - left || 1), (height - MARGIN_PIXELS) / (high - low || 1));
    return { x: (left + right) / 2, y: (low + high) / 2, scale, width, height };
  }

  private place(latent: number, frame: Frame): [number, number] {
    return [(this.x[latent]! - frame.x) * frame.scale + frame.width / 2, (frame.y - this.y[latent]!) * frame.scale + frame.height / 2];
  }

  private nearest(px: number, py: number): number {
    const view = this.frame();
    let [best, least] = [-1, REACH_PIXELS ** 2];
    for (let latent = 0; latent < this.x.length; latent++) {
      if (this.chosen && !this.chosen[latent]) continue;
      const [x, y] = this.place(latent, view);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [latent, distance];
    }
    return best;
  }

  /** The nearest point in a direction: within 45 degrees of it. */
  private neighbour(dx: number, dy: number): number {
    const view = this.frame();
    const [px, py] = this.pointed >= 0 ? this.place(this.pointed, view) : [view.width / 2, view.height / 2];
    let [best, least] = [this.pointed, Infinity];
    for (let latent = 0; latent < this.x.length; latent++) {
      if (latent === this.pointed || (this.chosen && !this.chosen[latent])) continue;
      const [x, y] = this.place(latent, view);
      const [along, across] = [(x - px) * dx + (y - py) * dy, Math.abs((x - px) * dy) + Math.abs((y - py) * dx)];
      const distance = along ** 2 + across ** 2;
      if (this.pointed >= 0 && (along <= 0 || across > along)) continue;
      if (distance < least) [best, least] = [latent, distance];
    }
    return best;
  }

  private point(latent: number): void {
    if (latent === this.pointed) return;
    this.pointed = latent;
    this.canvas.classList.toggle("over", latent >= 0);
    this.redraw();
    if (latent < 0) return hideTip();
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = this.place(latent, this.frame());
    showAt(box.left + x + 8, box.top + y - 8, box.top + y + 8, summary(this.context, this.catalogue, latent));
  }

  private colour(swatch: HTMLElement): string {
    return getComputedStyle(swatch).backgroundColor;
  }

  private draw(): void {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const view = this.frame();
    const { width, height } = view;
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const pen = canvas.getContext("2d");
    if (!pen || !width) return;
    pen.scale(ratio, ratio);
    const radius = this.radius();
    for (let shade = 0; shade <= this.swatches.length; shade++) {
      pen.fillStyle = this.colour(shade ? this.swatches[shade - 1]! : this.faint);
      pen.beginPath();
      for (let latent = 0; latent < this.x.length; latent++) {
        if (this.shadeOf(latent) !== shade) continue;
        const [x, y] = this.place(latent, view);
        if (!(x > -5 && x < width + 5 && y > -5 && y < height + 5)) continue;
        if (this.x.length > FEW) pen.rect(x - radius / 2, y - radius / 2, radius, radius);
        else {
          pen.moveTo(x + radius, y);
          pen.arc(x, y, radius, 0, 2 * Math.PI);
        }
      }
      pen.fill();
    }
    if (this.pointed >= 0) {
      const [x, y] = this.place(this.pointed, view);
      pen.strokeStyle = getComputedStyle(this.ring).color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, 7, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  private radius(): number {
    return this.x.length > FEW ? RADIUS_PIXELS : RADIUS_OF_FEW;
  }

  /** 0 for one that the table does not show. */
  private shadeOf(latent: number): number {
    return this.chosen && !this.chosen[latent] ? 0 : this.shades.shade[latent]!;
  }

  private svg(): string {
    const view = this.frame();
    const { width, height } = view;
    const colours = [this.faint, ...this.swatches].map((swatch) => this.colour(swatch));
    const groups = colours.map((fill, shade) => {
      const group = s("g", { fill });
      for (let latent = 0; latent < this.x.length; latent++) {
        const [x, y] = this.place(latent, view);
        const seen = x > 0 && x < width && y > 0 && y < height;
        if (seen && this.shadeOf(latent) === shade) group.append(s("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: this.radius() / 1.5 }));
      }
      return group;
    });
    const ground = s("rect", { width, height, fill: getComputedStyle(this.element).backgroundColor });
    const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, s("title", {}, "Map of decoder rows"), ground, groups);
    return new XMLSerializer().serializeToString(drawing);
  }
}

function limits(values: Float32Array): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}
