/** The index: all latents in a table, their densities, and the map. */

import type { Catalogue } from "../catalogue";
import { type Context, latentLink } from "../context";
import { defined, DEFINITIONS, type Term, term } from "../definitions";
import { type Child, h, replace } from "../dom";
import { counted, histogram, type Histogram } from "../histogram";
import { LatentMap } from "../map";
import { percent, short, whole } from "../numbers";
import { formatQuery, kindCounts, KINDS, parseQuery, type Query, select } from "../query";
import { search } from "../search";
import type { Manifest } from "../schema";
import { Table, type TableColumn } from "../table";
import { token } from "../visible";

const BARS = 60;
const TYPING_PAUSE_MS = 250;
const NUMBERS: Term[] = ["density", "max", "mean", "effect", "decoder_norm", "concentration", "entropy", "score"];
const WIDE = new Set<Term>(["decoder_norm", "concentration"]);
const SHARES = new Set<string>(["density", "concentration"]);

/** What the shell needs of the index: its element, and where the keyboard goes. */
export interface IndexView {
  element: HTMLElement;
  step: (by: number) => void;
  focusSearch: () => void;
  /** The latents as listed. */
  order: () => Uint32Array;
}

export function indexView(context: Context, manifest: Manifest, catalogue: Catalogue, parameters: URLSearchParams, keep: (query: string) => void): IndexView {
  let query = parseQuery(parameters);
  let found: Uint8Array | null = null;
  let rows: Uint32Array = new Uint32Array();
  let searches = 0;

  const status = h("p", { class: "status", role: "status" });
  const table = new Table(tableColumns(context, catalogue), "Latents", (key) => {
    const again = query.sort === key;
    change({ sort: key, descending: again ? !query.descending : key !== "latent" && key !== "explanation" });
  });
  const densities = densityHistogram(catalogue, (range) => setRange("density", range));
  const map = catalogue.has("x") && catalogue.has("y") ? new LatentMap(context, catalogue, (latent) => (location.hash = `#/latent/${latent}`)) : null;
  const controls = new Controls(catalogue, manifest, (part) => change(part), (name, range) => setRange(name, range));

  function setRange(name: string, range: [number, number] | null): void {
    const ranges = { ...query.ranges };
    delete ranges[name];
    change({ ranges: range ? { ...ranges, [name]: range } : ranges });
  }

  function change(part: Partial<Query>): void {
    const words = part.token !== undefined || part.text !== undefined;
    query = { ...query, ...part };
    keep(formatQuery(query));
    if (words) void look();
    else refresh();
  }

  async function look(): Promise<void> {
    const own = ++searches;
    try {
      const result = await search(manifest, catalogue, query.token, query.text, (done, of) => {
        if (own === searches && done < of) status.textContent = `Searching, file ${done + 1} of ${of}`;
      });
      if (own !== searches) return;
      found = result;
      refresh();
    } catch (error) {
      status.textContent = (error as Error).message;
    }
  }

  function refresh(): void {
    rows = select(catalogue, manifest.ultra_low, query, found);
    table.show(rows, query.sort, query.descending);
    densities.show(rows, query.ranges["density"] ?? null);
    map?.update(rows);
    controls.show(query);
    status.textContent = `${whole(rows.length)} of ${whole(catalogue.size)} latents`;
  }

  const element = h(
    "div", { class: "index" },
    head(manifest),
    h("div", { class: "charts" }, densities.element, map?.element),
    controls.element,
    status,
    table.element,
  );
  controls.show(query);
  if (query.token || query.text) void look();
  else refresh();
  return { element, step: (by) => table.step(by), focusSearch: () => controls.focusSearch(), order: () => rows };
}

function head(manifest: Manifest): HTMLElement {
  const facts: [Child, string][] = [
    [term("d_sae", "Latents"), whole(manifest.num_latents)],
    [term("dead"), `${whole(manifest.dead)} (${percent(manifest.dead / manifest.num_latents)})`],
    [term("rows"), whole(manifest.rows)],
    [term("documents"), whole(manifest.documents)],
  ];
  const more: [Child, string][] = [
    ["Model", manifest.model], ["Hook point", manifest.hook_point], ["Text", manifest.source],
    [term("blocks"), `${whole(manifest.blocks)} of ${whole(manifest.context)} tokens`],
    [term("ultra_low"), `density below ${short(manifest.ultra_low)}`],
    ...Object.entries(manifest.sae).map(([key, value]): [Child, string] => [defined(key) ? term(key) : key, written(value)]),
    ["Made with", manifest.made_with],
  ];
  return h(
    "div", { class: "head" },
    h("h1", { tabindex: -1 }, h("bdi", {}, manifest.title)),
    h("p", { class: "quiet" }, h("bdi", {}, `${manifest.model}, ${manifest.hook_point}`)),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("details", {}, h("summary", {}, "About this dashboard"), h("dl", { class: "about" }, more.map(([name, value]) => [h("dt", {}, name), h("dd", {}, h("bdi", {}, value))]))),
  );
}

function written(value: string | number | null): string {
  if (typeof value === "string") return value;
  return Number.isInteger(value) ? whole(value) : short(value);
}

function tableColumns(context: Context, catalogue: Catalogue): TableColumn[] {
  const columns: TableColumn[] = [
    { key: "latent", name: "number", label: term("latent"), width: 5.4, numeric: true, cell: (latent) => [latentLink(context, latent)] },
  ];
  if (catalogue.has("top_token")) {
    columns.push({ key: "top_token", name: "top token", label: term("top_token"), width: 8, grows: 1, numeric: false, cell: (latent) => {
      const top = catalogue.topToken(latent);
      return top ? [token(top.text)] : [];
    } });
  }
  if (catalogue.explained) {
    columns.push({ key: "explanation", name: "explanation", label: term("explanation"), width: 13, grows: 4, numeric: false, cell: (latent) => [h("bdi", {}, catalogue.explanation(latent) ?? "")] });
  }
  for (const key of NUMBERS.filter((name) => catalogue.has(name))) {
    const write = SHARES.has(key) ? percent : short;
    columns.push({ key, name: DEFINITIONS[key].name.toLowerCase(), label: term(key), width: WIDE.has(key) ? 8.4 : 6.7, numeric: true, cell: (latent) => [write(catalogue.value(key, latent))] });
  }
  return columns;
}

function densityHistogram(catalogue: Catalogue, brushed: (range: [number, number] | null) => void) {
  const density = catalogue.column("density");
  const alive = density.filter((value) => value > 0);
  const low = Math.log10(alive.reduce((least, value) => Math.min(least, value), 1)) - 0.02;
  const high = Math.log10(alive.reduce((most, value) => Math.max(most, value), 0) || 1) + 0.02;
  const edges = Array.from({ length: BARS + 1 }, (_, i) => 10 ** (low + ((high - low) * i) / BARS));
  const place = (value: number): number => (value > 0 ? ((Math.log10(value) - low) / (high - low)) * BARS : -1);
  const chart: Histogram = histogram({
    title: "Density of latents", bars: { edges, counts: counted(density, edges, place) }, unit: "density (share of tokens), drag to filter",
    counted: "latents", logValues: true, height: 236, brushed,
  });
  return {
    element: chart.element,
    show: (rows: Uint32Array, range: [number, number] | null) => {
      const part = rows.length < catalogue.size ? counted(Array.from(rows, (latent) => density[latent]!), edges, place) : null;
      chart.update(part, range);
    },
  };
}

/** Kinds, searches and limits over the table. */
class Controls {
  readonly element: HTMLElement;
  private readonly kinds = new Map<string, HTMLButtonElement>();
  private readonly token = h("input", { type: "search", id: "search-token", autocomplete: "off", spellcheck: "false", placeholder: "the, run*, #42" });
  private readonly text = h("input", { type: "search", id: "search-text", autocomplete: "off", spellcheck: "false" });
  private readonly number = h("input", { type: "text", inputmode: "numeric", id: "go-to", autocomplete: "off", size: 7 });
  private readonly explained = h("input", { type: "checkbox" });
  private readonly limits = new Map<string, [HTMLInputElement, HTMLInputElement]>();
  private readonly summary = h("summary", {}, "Filters");

  constructor(
    catalogue: Catalogue,
    manifest: Manifest,
    private readonly change: (part: Partial<Query>) => void,
    setRange: (name: string, range: [number, number] | null) => void,
  ) {
    const counts = kindCounts(catalogue, manifest.ultra_low);
    for (const kind of KINDS) {
      const label = `${kind[0]!.toUpperCase()}${kind.slice(1)}`;
      this.kinds.set(kind, h("button", { type: "button", onclick: () => change({ kind }) }, label, h("span", { class: "count" }, whole(counts[kind]))));
    }
    this.search(this.token, "token");
    this.search(this.text, "text");
    this.explained.addEventListener("change", () => change({ explained: this.explained.checked }));
    const limits = NUMBERS.filter((name) => catalogue.has(name)).map((name) => this.limit(name, setRange));
    const clear = h("button", { type: "button", onclick: () => change({ token: "", text: "", explained: false, ranges: {} }) }, "Clear all");
    this.element = h(
      "section", { class: "controls", "aria-label": "Search and filters" },
      h("div", { class: "kinds", role: "group", "aria-label": "Which latents" }, [...this.kinds.values()]),
      h("div", { class: "fields" },
        h("div", { class: "field" }, h("label", { for: "search-token" }, "Fires on token"), this.token),
        h("div", { class: "field wide" }, h("label", { for: "search-text" }, "Text around it, or explanation"), this.text),
        h("form", { class: "field", onsubmit: (event: Event) => this.go(event, catalogue.size) }, h("label", { for: "go-to" }, "Go to latent"), this.number)),
      h("details", { class: "limits" }, this.summary, h("div", { class: "limit-grid" }, limits),
        h("p", {}, catalogue.explained && h("label", {}, this.explained, " only with an explanation "), clear)),
    );
  }

  show(query: Query): void {
    for (const [kind, button] of this.kinds) button.setAttribute("aria-pressed", String(kind === query.kind));
    if (document.activeElement !== this.token) this.token.value = query.token;
    if (document.activeElement !== this.text) this.text.value = query.text;
    this.explained.checked = query.explained;
    for (const [name, inputs] of this.limits) {
      inputs.forEach((input, side) => {
        const value = query.ranges[name]?.[side];
        if (document.activeElement !== input) input.value = value !== undefined && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "";
      });
    }
    const active = Object.keys(query.ranges).length + Number(query.explained);
    replace(this.summary, active ? `Filters (${active})` : "Filters");
  }

  focusSearch(): void {
    this.token.focus();
    this.token.select();
  }

  private search(input: HTMLInputElement, key: "token" | "text"): void {
    let pause = 0;
    input.addEventListener("input", () => {
      clearTimeout(pause);
      pause = window.setTimeout(() => this.change({ [key]: input.value }), TYPING_PAUSE_MS);
    });
  }

  private limit(name: Term, setRange: (name: string, range: [number, number] | null) => void): HTMLElement {
    const make = (words: string) => h("input", { type: "text", inputmode: "decimal", size: 8, "aria-label": `${DEFINITIONS[name].name} ${words}` });
    const inputs: [HTMLInputElement, HTMLInputElement] = [make("at least"), make("at most")];
    this.limits.set(name, inputs);
    const read = (input: HTMLInputElement, otherwise: number): number => {
      const value = Number(input.value);
      const bad = input.value.trim() !== "" && Number.isNaN(value);
      input.setAttribute("aria-invalid", String(bad));
      return bad || input.value.trim() === "" ? otherwise : value;
    };
    const changed = (): void => {
      const range: [number, number] = [read(inputs[0], -Infinity), read(inputs[1], Infinity)];
      setRange(name, range.some(Number.isFinite) ? range : null);
    };
    inputs.forEach((input) => input.addEventListener("change", changed));
    return h("div", { class: "limit" }, h("span", {}, term(name)), inputs[0], " to ", inputs[1]);
  }

  private go(event: Event, size: number): void {
    event.preventDefault();
    const latent = Number(this.number.value.trim());
    const known = /^\d+$/.test(this.number.value.trim()) && latent < size;
    this.number.setAttribute("aria-invalid", String(!known));
    if (known) location.hash = `#/latent/${latent}`;
  }
}
