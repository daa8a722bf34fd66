/** The index: all latents in a table, their densities, and the map. */

import type { Catalogue } from "../catalogue";
import { type Context, effect, isExact, latentLink } from "../context";
import { defined, DEFINITIONS, type Term, term } from "../definitions";
import { type Child, h } from "../dom";
import { counted, histogram, type Histogram } from "../histogram";
import { LatentMap } from "../map";
import { percent, short, whole } from "../numbers";
import { formatQuery, parseQuery, type Query, select } from "../query";
import { search } from "../search";
import type { Manifest } from "../schema";
import { Table, type TableColumn } from "../table";
import { tip } from "../tip";
import { token } from "../visible";
import { Controls, NUMBERS } from "./controls";

const BARS = 60;
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
    ...exactEffects(manifest),
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

function exactEffects({ exact_effects: found }: Manifest): [Child, string][] {
  if (!found) return [];
  const agreement = found.agreement === null ? "" : `, agreement with their estimates ${short(found.agreement)}`;
  return [[term("exact_effects"), `${whole(found.firings)} firings${agreement}`]];
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
    const cell = (latent: number): Child[] => [key === "effect" ? effectCell(catalogue, latent) : write(catalogue.value(key, latent))];
    columns.push({ key, name: DEFINITIONS[key].name.toLowerCase(), label: term(key), width: WIDE.has(key) ? 8.4 : 6.7, numeric: true, cell });
  }
  return columns;
}

function effectCell(catalogue: Catalogue, latent: number): HTMLElement {
  const words = h("span", {}, effect(catalogue, latent));
  tip(words, () => [isExact(catalogue, latent) ? "Exact: the latent was removed, and the model run again." : "The largest estimate to first order; exact effects may differ much."]);
  return words;
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
