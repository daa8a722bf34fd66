/** How the occurrences of a word split into groups, layer by layer: a column for each layer, and bands between the groups that share occurrences. */

import { chartFigure, fitted, pixel } from "./chart";
import { term } from "./definitions";
import { h, replace, s } from "./dom";
import type { LayerInfo, SenseGroup } from "./factor_schema";
import { LayerAxis } from "./layer_axis";
import { whole } from "./numbers";

export const GROUP_COLOURS = 7;
const [SIDE, TOP, HEIGHT, BAR] = [26, 10, 240, 9];
const BOTTOM = HEIGHT - 36;
const WIDEST_GAP = 5;
const MOST_GAPS = 0.3; // of the height, where there are many groups

/** Colour of a group, by its place among the groups of the chosen layer: a class `gN`, `g0` for those beyond. */
export function groupColour(group: number): string {
  return `g${group < GROUP_COLOURS ? group + 1 : 0}`;
}

/** A column: each occurrence's group and slot, and the groups from the top down. */
interface Column {
  places: Map<number, { group: number; slot: number }>;
  stack: { group: number; slot: number; size: number }[];
}

/** An order of the occurrences in which those that are together at later layers lie together. */
function ranks(groups: SenseGroup[][]): Map<number, number> {
  const keys = new Map<number, number[]>();
  for (const layer of [...groups].reverse()) {
    layer.forEach(({ occurrences }, group) => occurrences.forEach((one) => keys.set(one, [...(keys.get(one) ?? []), group])));
  }
  const compare = (a: number[], b: number[]): number => a.map((group, i) => group - (b[i] ?? 0)).find((difference) => difference !== 0) ?? 0;
  const order = [...keys].sort((a, b) => compare(a[1], b[1]) || a[0] - b[0]);
  return new Map(order.map(([one], rank) => [one, rank]));
}

function columnOf(groups: SenseGroup[], rank: Map<number, number>): Column {
  const sorted = groups.map(({ occurrences }, group) => {
    const members = [...occurrences].sort((a, b) => rank.get(a)! - rank.get(b)!);
    return { group, members, height: members.reduce((sum, one) => sum + rank.get(one)!, 0) / members.length };
  });
  const places: Column["places"] = new Map();
  const stack = sorted.sort((a, b) => a.height - b.height).map(({ group, members }) => {
    const slot = places.size;
    members.forEach((one, i) => places.set(one, { group, slot: slot + i }));
    return { group, slot, size: members.length };
  });
  return { places, stack };
}

export interface GroupsChart {
  element: HTMLElement;
  /** Colours the bands by the groups of this layer. */
  show: (layer: number) => void;
}

export function groupsChart(word: string, layers: LayerInfo[], groups: SenseGroup[][], choose: (layer: number) => void): GroupsChart {
  const axis = new LayerAxis(layers);
  const rank = ranks(groups);
  const columns = groups.map((layer) => columnOf(layer, rank));
  const most = Math.max(1, ...columns.map(({ places }) => places.size));
  const widest = Math.max(1, ...groups.map((layer) => layer.length));
  const gap = Math.min(WIDEST_GAP, ((BOTTOM - TOP) * MOST_GAPS) / Math.max(1, widest - 1));
  const each = (BOTTOM - TOP - gap * (widest - 1)) / most;
  let width = 0;
  let chosen = 0;

  const title = `Groups of ${word} over the layers`;
  const chart = s("svg", { class: "groups-chart", role: "img", height: HEIGHT, "aria-label": `${title}: ${groups.map((layer, i) => `${layers[i]!.name} ${layer.length}`).join(", ")}.` });
  const readout = h("output", { "aria-live": "polite" }, "\u00a0");
  const y = (layer: number, slot: number, group: number): number => TOP + slot * each + gap * columns[layer]!.stack.findIndex((one) => one.group === group);

  /** Occurrences that run side by side from one column to the next, in one colour. */
  function bands(layer: number): SVGElement[] {
    const [here, there] = [columns[layer]!.places, columns[layer + 1]!.places];
    const runs: { size: number; colour: string; ends: [number, number] }[] = [];
    for (const [one, from] of [...here].sort((a, b) => a[1].slot - b[1].slot)) {
      const to = there.get(one);
      if (!to) continue;
      const group = columns[chosen]!.places.get(one)?.group;
      const colour = group === undefined ? "g0" : groupColour(group);
      const ends: [number, number] = [y(layer, from.slot, from.group), y(layer + 1, to.slot, to.group)];
      const run = runs.at(-1);
      const follows = run && run.colour === colour && ends.every((end, side) => Math.abs(end - run.ends[side]! - run.size * each) < 1e-6);
      if (follows) run.size += 1;
      else runs.push({ size: 1, colour, ends });
    }
    const [a, b] = [axis.x(layer) + BAR / 2, axis.x(layer + 1) - BAR / 2];
    const middle = (a + b) / 2;
    return runs.map(({ size, colour, ends: [from, to] }) => s("path", {
      class: `band ${colour}`,
      d: `M${pixel(a)} ${pixel(from)}C${pixel(middle)} ${pixel(from)} ${pixel(middle)} ${pixel(to)} ${pixel(b)} ${pixel(to)}V${pixel(to + size * each)}C${pixel(middle)} ${pixel(to + size * each)} ${pixel(middle)} ${pixel(from + size * each)} ${pixel(a)} ${pixel(from + size * each)}Z`,
    }));
  }

  function bars(layer: number): SVGElement[] {
    return columns[layer]!.stack.map(({ group, slot, size }) => {
      const words = `${layers[layer]!.name}, group ${group + 1} of ${groups[layer]!.length}: ${whole(size)} occurrences`;
      return s("rect", {
        class: layer === chosen ? `node ${groupColour(group)}` : "node", x: pixel(axis.x(layer) - BAR / 2), y: pixel(y(layer, slot, group)), width: BAR, height: pixel(Math.max(1, size * each)),
        onpointerenter: () => (readout.textContent = words), onpointerleave: () => (readout.textContent = "\u00a0"), onclick: () => choose(layer),
      });
    });
  }

  function draw(): void {
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    replace(
      chart,
      s("rect", { class: "chosen-column", x: pixel(axis.x(chosen) - 11), y: TOP - 6, width: 22, height: BOTTOM - TOP + 10, rx: 4 }),
      layers.slice(1).map((_, layer) => bands(layer)),
      layers.map((_, layer) => bars(layer)),
      axis.draw(BOTTOM + 4, chosen),
    );
  }

  fitted(chart, (now) => {
    width = now;
    axis.lay(SIDE, width - SIDE, width);
    draw();
  });
  const rows = groups.map((layer, i) => [h("bdi", {}, layers[i]!.name), whole(layer.length), layer.map(({ occurrences }) => occurrences.length).join(", ")]);
  return {
    element: chartFigure(title, [term("groups", "Groups"), " over the layers"], chart, readout, ["Layer", term("groups"), term("occurrences")], rows),
    show: (layer) => {
      chosen = layer;
      draw();
    },
  };
}
