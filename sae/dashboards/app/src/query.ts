/** What the index shows: which latents, in which order. It stands in the address, so that a view can be kept and sent on. */

import type { Catalogue } from "./catalogue";
import type { Range } from "./histogram";

export type Kind = "active" | "ultra-low" | "dead" | "all";
export const KINDS: Kind[] = ["active", "ultra-low", "dead", "all"];

export interface Query {
  kind: Kind;
  sort: string;
  descending: boolean;
  token: string;
  text: string;
  explained: boolean;
  ranges: Record<string, Range>;
}

const PLAIN: Query = { kind: "active", sort: "latent", descending: false, token: "", text: "", explained: false, ranges: {} };

export function parseQuery(parameters: URLSearchParams): Query {
  const kind = parameters.get("kind") as Kind | null;
  const query: Query = {
    kind: kind && KINDS.includes(kind) ? kind : PLAIN.kind,
    sort: parameters.get("sort") ?? PLAIN.sort,
    descending: parameters.get("order") === "descending",
    token: parameters.get("token") ?? "",
    text: parameters.get("text") ?? "",
    explained: parameters.has("explained"),
    ranges: {},
  };
  for (const [name, value] of parameters) {
    const match = /^(.*)\.\.(.*)$/.exec(value);
    if (match) query.ranges[name] = [number(match[1]!, -Infinity), number(match[2]!, Infinity)];
  }
  return query;
}

function number(text: string, otherwise: number): number {
  return text.trim() === "" || Number.isNaN(Number(text)) ? otherwise : Number(text);
}

export function formatQuery(query: Query): string {
  const parameters = new URLSearchParams();
  if (query.kind !== PLAIN.kind) parameters.set("kind", query.kind);
  if (query.sort !== PLAIN.sort) parameters.set("sort", query.sort);
  if (query.descending) parameters.set("order", "descending");
  if (query.token) parameters.set("token", query.token);
  if (query.text) parameters.set("text", query.text);
  if (query.explained) parameters.set("explained", "");
  for (const [name, [low, high]] of Object.entries(query.ranges)) {
    parameters.set(name, `${Number.isFinite(low) ? shortest(low) : ""}..${Number.isFinite(high) ? shortest(high) : ""}`);
  }
  return parameters.toString();
}

function shortest(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/** Which kind a latent is of, by its density. */
export function kindOf(density: number, ultraLow: number): Exclude<Kind, "all"> {
  if (!(density > 0)) return "dead";
  return density < ultraLow ? "ultra-low" : "active";
}

/** How many latents are of each kind. */
export function kindCounts(catalogue: Catalogue, ultraLow: number): Record<Kind, number> {
  const counts: Record<Kind, number> = { active: 0, "ultra-low": 0, dead: 0, all: catalogue.size };
  for (const density of catalogue.column("density")) counts[kindOf(density, ultraLow)] += 1;
  return counts;
}

/** The latents that a query asks for, in its order; latents without the number that is sorted by come last. */
export function select(catalogue: Catalogue, ultraLow: number, query: Query, found: Uint8Array | null): Uint32Array {
  const density = catalogue.column("density");
  const ranges = Object.entries(query.ranges).filter(([name]) => catalogue.has(name));
  const limits = ranges.map(([name, range]) => [catalogue.column(name), ...range] as const);
  const kept = new Uint32Array(catalogue.size);
  let count = 0;
  for (let latent = 0; latent < catalogue.size; latent++) {
    if (query.kind !== "all" && kindOf(density[latent]!, ultraLow) !== query.kind) continue;
    if (found && !found[latent]) continue;
    if (query.explained && catalogue.explanation(latent) === null) continue;
    if (limits.some(([column, low, high]) => !(column[latent]! >= low && column[latent]! <= high))) continue;
    kept[count++] = latent;
  }
  return sorted(catalogue, kept.subarray(0, count), query);
}

const [SIGN, LAST] = [0x80000000, 0xffffffff];
const MOST_LATENTS = 2 ** 21; // a rank of 32 bits and a latent's number together are a whole number that a double holds

/** Sorted by rank and number packed into one double each: without a function to compare them, browsers do it ten times as fast. */
function sorted(catalogue: Catalogue, latents: Uint32Array, { sort, descending }: Query): Uint32Array {
  if (!catalogue.has(sort)) return descending ? latents.reverse() : latents;
  const column = catalogue.column(sort);
  const ranks = sort === "effect" ? rankedEffects(column, catalogue.column("effect_exact"), descending) : ranked(column, descending);
  const packed = Float64Array.from(latents, (latent) => ranks[latent]! * MOST_LATENTS + latent).sort();
  return Uint32Array.from(packed, (value) => value % MOST_LATENTS);
}

/** Whole numbers in the order of the values: the bits of a float are in its order but for the sign. NaN comes last either way. */
function ranked(column: Float32Array, descending: boolean): Uint32Array {
  const bits = new Uint32Array(column.slice().buffer);
  return bits.map((own, at) => {
    if (Number.isNaN(column[at])) return LAST;
    const rank = (own & SIGN ? ~own : own | SIGN) >>> 0;
    return descending ? LAST - 1 - rank : rank;
  });
}

/** The same for sizes, which leave the bit of their sign free: exact ones come before estimates either way. */
function rankedEffects(sizes: Float32Array, exact: Float32Array, descending: boolean): Uint32Array {
  const bits = new Uint32Array(sizes.slice().buffer);
  return bits.map((own, at) => {
    if (Number.isNaN(sizes[at])) return LAST;
    const rank = (exact[at] === 1) === descending ? (own | SIGN) >>> 0 : own;
    return descending ? LAST - 1 - rank : rank;
  });
}
