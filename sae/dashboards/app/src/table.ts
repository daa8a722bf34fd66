/** A table of any length: only the rows that are seen exist. */

import { type Child, eachFrame, h, replace } from "./dom";

const ROW_PIXELS = 36;
const SPARE_ROWS = 8;
const TALLEST_PIXELS = 8_000_000; // browsers lay out nothing much taller; longer tables scroll in proportion

export interface TableColumn {
  key: string;
  label: Child;
  name: string;
  /** Least width in rem, and its part of what is left over. */
  width: number;
  grows?: number;
  numeric: boolean;
  cell: (row: number) => Child[];
}

interface Slot {
  element: HTMLElement;
  cells: HTMLElement[];
  at: number;
}

export class Table {
  readonly element: HTMLElement;
  private readonly body = h("div", { role: "rowgroup", class: "rows" });
  private readonly buttons = new Map<string, HTMLElement>();
  private slots: Slot[] = [];
  private rows: Uint32Array = new Uint32Array();
  private current = -1;

  constructor(
    private readonly columns: TableColumn[],
    name: string,
    sortBy: (key: string) => void,
  ) {
    const heads = columns.map((column) => {
      const button = h("button", { type: "button", class: "sort", onclick: () => sortBy(column.key), "aria-label": `Sort by ${column.name}` }, "↕");
      const head = h("div", { role: "columnheader", class: column.numeric ? "cell number" : "cell" }, column.label, button);
      this.buttons.set(column.key, head);
      return head;
    });
    const grid = h("div", { role: "table", class: "grid-table", "aria-label": name }, h("div", { role: "rowgroup", class: "heads" }, h("div", { role: "row", class: "row" }, heads)), this.body);
    grid.style.setProperty("--columns", columns.map(({ width, grows }) => (grows ? `minmax(${width}rem, ${grows}fr)` : `${width}rem`)).join(" "));
    grid.style.minWidth = `${columns.reduce((sum, { width }) => sum + width, 0)}rem`;
    this.element = h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": `${name}, scrolls` }, grid);
    const refresh = eachFrame(() => this.refresh());
    this.element.addEventListener("scroll", refresh, { passive: true });
    new ResizeObserver(refresh).observe(this.element);
  }

  /** Shows these rows; the mark of the order stands at the column it is by. */
  show(rows: Uint32Array, sort: string, descending: boolean): void {
    this.rows = rows;
    this.current = -1;
    for (const [key, head] of this.buttons) {
      const chosen = key === sort;
      head.setAttribute("aria-sort", chosen ? (descending ? "descending" : "ascending") : "none");
      replace(head.querySelector(".sort")!, chosen ? (descending ? "▼" : "▲") : "↕");
    }
    this.element.firstElementChild?.setAttribute("aria-rowcount", String(rows.length + 1));
    this.body.style.height = `${this.height}px`;
    this.element.scrollTop = 0;
    for (const slot of this.slots) slot.at = -1;
    this.refresh();
  }

  /** Goes to the row so many further on, and puts the keyboard there. */
  step(by: number): void {
    if (!this.rows.length) return;
    this.current = Math.min(Math.max(this.current + by, 0), this.rows.length - 1);
    const [view, head] = [this.element.clientHeight, ROW_PIXELS];
    const top = this.topOf(this.current);
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + head + ROW_PIXELS > this.element.scrollTop + view) this.element.scrollTop = top + head + ROW_PIXELS - view;
    this.refresh();
    this.slots[this.current % this.slots.length]?.element.querySelector("a")?.focus({ preventScroll: true });
  }

  private get height(): number {
    return Math.min(this.rows.length * ROW_PIXELS, TALLEST_PIXELS);
  }

  /** Pixels that rows are drawn together by where the table is taller than can be. */
  private get squeeze(): number {
    return (this.rows.length * ROW_PIXELS) / Math.max(this.height, 1);
  }

  private topOf(at: number): number {
    return (at * ROW_PIXELS) / this.squeeze;
  }

  private refresh(): void {
    const seen = Math.ceil(this.element.clientHeight / ROW_PIXELS) + SPARE_ROWS;
    while (this.slots.length < Math.min(seen, this.rows.length)) this.slots.push(this.slot());
    const first = Math.max(0, Math.floor((this.element.scrollTop * this.squeeze) / ROW_PIXELS) - SPARE_ROWS / 2);
    const offset = this.squeeze > 1 ? this.element.scrollTop - (this.element.scrollTop * this.squeeze) : 0;
    const number = this.slots.length;
    for (const slot of this.slots) slot.element.hidden = true;
    for (let at = first; at < Math.min(first + number, this.rows.length); at++) {
      const slot = this.slots[at % number]!;
      slot.element.hidden = false;
      slot.element.style.transform = `translateY(${at * ROW_PIXELS + offset}px)`;
      if (slot.at !== at) this.fill(slot, at);
    }
  }

  private slot(): Slot {
    const cells = this.columns.map((column) => h("div", { role: "cell", class: column.numeric ? "cell number" : "cell" }));
    const element = h("div", { role: "row", class: "row" }, cells);
    element.addEventListener("click", (event) => {
      if (!(event.target as Element).closest("a, button")) element.querySelector("a")?.click();
    });
    element.addEventListener("focusin", () => (this.current = this.slots.find((slot) => slot.element === element)?.at ?? -1));
    this.body.append(element);
    return { element, cells, at: -1 };
  }

  private fill(slot: Slot, at: number): void {
    slot.at = at;
    slot.element.setAttribute("aria-rowindex", String(at + 2));
    const row = this.rows[at]!;
    this.columns.forEach((column, i) => replace(slot.cells[i]!, ...column.cell(row)));
  }
}
