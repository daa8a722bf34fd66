/** The index: all latents or factors in a table, their densities, and the map. */

import type { Catalogue } from "../catalogue";
import { type Context, factorsInfo, latentLink, noun } from "../context";
import { DEFINITIONS, type Term, term, termOf } from "../definitions";
import { type Child, h } from "../dom";
import { effectCell, effectTerm } from "../effects";
import type { FactorsInfo } from "../factor_schema";
import { counted, histogram, type Histogram } from "../histogram";
import { layerLabels, levelWord } from "../layers";
import { LatentMap } from "../map";
import { percent, short, whole } from "../numbers";
import { formatQuery, parseQuery, type Query, select } from "../query";
import { search } from "../search";
import type { Manifest } from "../schema";
import { densityShades, layerShades } from "../shades";
import { Table, type TableColumn } from "../table";
import { token } from "../visible";
import { Controls, NUMBERS } from "./controls";
import { indexHead } from "./head";

const BARS = 60;
const WIDE = new Set<Term>(["importance", "decoder_norm", "concentration"]);
const SHARES = new Set<string>(["density", "concentration"]);

/** What the shell needs of the index: its element, and where the keyboard goes. */
export interface IndexView {
  element: HTMLElement;
  step: (by: number) => void;
  /** The latents as listed. */
  order: () => Uint32Array;
}

export function indexView(context: Context, manifest: Manifest, catalogue: Catalogue, parameters: URLSearchParams, keep: (query: string) => void): IndexView {
  let query = parseQuery(parameters);
  let found: Uint8Array | null = null;
  let rows: Uint32Array = new Uint32Array();
  let searches = 0;

  const one = noun(context);
  const info = factorsInfo(context);
  const status = h("p", { class: "status", role: "status" });
  const table = new Table(tableColumns(context, catalogue), info ? "Factors" : "Latents", (key) => {
    const again = query.sort === key;
    change({ sort: key, descending: again ? !query.descending : key !== "latent" && key !== "explanation" });
  });
  const densities = densityHistogram(context, catalogue, (range) => setRange("density", range));
  const shades = info ? layerShades(catalogue, info) : densityShades(catalogue);
  const map = catalogue.has("x") && catalogue.has("y") ? new LatentMap(context, catalogue, shades, (latent) => (location.hash = `#/${one}/${latent}`)) : null;
  const controls = new Controls(context, catalogue, manifest, (part) => change(part), (name, range) => setRange(name, range));

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
    status.textContent = `${whole(rows.length)} of ${whole(catalogue.size)} ${one}s`;
  }

  const element = h(
    "div", { class: "index" },
    indexHead(context, manifest),
    h("div", { class: "charts" }, densities.element, map?.element),
    controls.element,
    status,
    table.element,
  );
  controls.show(query);
  if (query.token || query.text) void look();
  else refresh();
  return { element, step: (by) => table.step(by), order: () => rows };
}

function tableColumns(context: Context, catalogue: Catalogue): TableColumn[] {
  const own = (key: Term): Term => termOf(noun(context), key);
  const columns: TableColumn[] = [
    { key: "latent", name: "number", label: term(noun(context)), width: 5.4, numeric: true, cell: (latent) => [latentLink(context, latent)] },
  ];
  const info = factorsInfo(context);
  if (info) columns.push(...factorColumns(info, catalogue));
  if (catalogue.has("top_token")) {
    columns.push({ key: "top_token", name: "top token", label: term(own("top_token")), width: 8, grows: 1, numeric: false, cell: (latent) => {
      const top = catalogue.topToken(latent);
      return top ? [token(top.text)] : [];
    } });
  }
  if (catalogue.explained) {
    columns.push({ key: "explanation", name: "explanation", label: term(own("explanation")), width: 13, grows: 4, numeric: false, cell: (latent) => [h("bdi", {}, catalogue.explanation(latent) ?? "")] });
  }
  for (const key of NUMBERS.filter((name) => catalogue.has(name))) {
    const write = SHARES.has(key) ? percent : short;
    const cell = (latent: number): Child[] => [key === "effect" ? effectCell(catalogue, latent) : write(catalogue.value(key, latent))];
    columns.push({ key, name: DEFINITIONS[key].name.toLowerCase(), label: key === "effect" ? effectTerm(context.manifest) : term(own(key)), width: WIDE.has(key) ? 8.4 : 6.7, numeric: true, cell });
  }
  return columns;
}

function factorColumns({ layers }: FactorsInfo, catalogue: Catalogue): TableColumn[] {
  const labels = layerLabels(layers);
  return [
    { key: "level", name: "level", label: term("level"), width: 6.2, numeric: false, cell: (factor) => [levelWord(catalogue.value("level", factor))] },
    { key: "peak_layer", name: "peak layer", label: term("peak_layer"), width: 7.4, numeric: true, cell: (factor) => [labels[catalogue.value("peak_layer", factor)] ?? "\u2013"] },
  ];
}

function densityHistogram(context: Context, catalogue: Catalogue, brushed: (range: [number, number] | null) => void) {
  const density = catalogue.column("density");
  const alive = density.filter((value) => value > 0);
  const low = Math.log10(alive.reduce((least, value) => Math.min(least, value), 1)) - 0.02;
  const high = Math.log10(alive.reduce((most, value) => Math.max(most, value), 0) || 1) + 0.02;
  const edges = Array.from({ length: BARS + 1 }, (_, i) => 10 ** (low + ((high - low) * i) / BARS));
  const place = (value: number): number => (value > 0 ? ((Math.log10(value) - low) / (high - low)) * BARS : -1);
  const chart: Histogram = histogram({
    title: `Density of ${noun(context)}s`, bars: { edges, counts: counted(density, edges, place) }, unit: `density (share of ${factorsInfo(context) ? "vectors" : "tokens"}), drag to filter`,
    counted: `${noun(context)}s`, logValues: true, height: 236, brushed,
  });
  return {
    element: chart.element,
    show: (rows: Uint32Array, range: [number, number] | null) => {
      const part = rows.length < catalogue.size ? counted(Array.from(rows, (latent) => density[latent]!), edges, place) : null;
      chart.update(part, range);
    },
  };
}
