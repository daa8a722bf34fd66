/** The pages of a dashboard of factors, by their addresses: a factor, the words, a word, the texts, a token's path. */

import { place } from "../address";
import { readCatalogue } from "../catalogue";
import type { Context } from "../context";
import { h, replace } from "../dom";
import type { FactorsInfo } from "../factor_schema";
import type { Live } from "../live";
import { factorsFile, pathFile, wordFile } from "../store";
import { visible } from "../visible";
import type { Neighbours } from "./cards";
import { factorView, formatState, parseState } from "./factor";
import { pathView } from "./path";
import { wordView } from "./word";

const LONGEST_TITLE = 200;

type Page = [title: string, element: HTMLElement];

/** The page of an address; null where it is none of these. `around` gives what stands before and after a factor. */
export async function factorPage(
  context: Context, info: FactorsInfo, page: string, number: string, query: string, around: (factor: number) => Neighbours,
): Promise<Page | null> {
  const parameters = new URLSearchParams(query);
  context.catalogue ??= await readCatalogue(context.manifest!);
  if (page === "factor") return factor(context, info, place(number, context.manifest!.num_latents, "factor"), parameters, around);
  if (page === "words") return ["Words", words(context, info)];
  if (page === "word") return word(context, info, place(number, info.words.length, "word"), parameters);
  if (page === "paths") return ["Paths", paths(context, info)];
  if (page === "path") return path(context, info, place(number, info.paths.length, "text"), parameters);
  return null;
}

function keep(address: string): void {
  history.replaceState(null, "", address);
}

async function factor(context: Context, info: FactorsInfo, number: number, parameters: URLSearchParams, around: (factor: number) => Neighbours): Promise<Page> {
  const shard = await factorsFile(Math.floor(number / info.size));
  const record = shard.factors[number - shard.first];
  if (!record) throw new Error(`Factor ${number} is missing from its file.`);
  const state = parseState(info, parameters);
  return [`Factor ${number}`, factorView(context, info, record, shard.strings, around(number), state, (now) => keep(`#/factor/${number}${formatState(info, now)}`))];
}

async function word(context: Context, info: FactorsInfo, number: number, parameters: URLSearchParams): Promise<Page> {
  const page = await wordFile(number);
  const layer = info.layers.findIndex(({ name }) => name === parameters.get("layer"));
  const view = wordView(context, info, page, layer < 0 ? null : layer, (now) => keep(`#/word/${number}?${new URLSearchParams({ layer: info.layers[now]!.name })}`));
  return [visible(page.word, 80), h("div", {}, heading(`“${page.word}”`), view)];
}

async function path(context: Context, info: FactorsInfo, number: number, parameters: URLSearchParams): Promise<Page> {
  const page = await pathFile(number);
  const token = Number(parameters.get("token") ?? NaN);
  const view = pathView(context, info, page, page.tokens[token] ? token : null, (now) => keep(`#/path/${number}?token=${now}`));
  return [visible(page.title, 80), h("div", {}, heading(page.title), view)];
}

function heading(title: string): HTMLElement {
  return h("h1", { tabindex: -1 }, h("bdi", {}, visible(title, LONGEST_TITLE)));
}

function words(context: Context, info: FactorsInfo): HTMLElement {
  const field = h("input", { id: "live-word", type: "text", autocomplete: "off", spellcheck: "false" });
  return h("div", {}, heading("Words"), h("p", { class: "quiet" }, "A word's occurrences, grouped at each layer by the factors they use."), list("word", info.words),
    context.live && form(context.live, field, "Any word of the text", "Show its groups", async (live) => {
      const page = await live.word({ word: field.value });
      return h("div", {}, h("h2", {}, "“", h("bdi", {}, visible(page.word, LONGEST_TITLE)), "”"), wordView(context, info, page, null, () => undefined));
    }));
}

function paths(context: Context, info: FactorsInfo): HTMLElement {
  const field = h("textarea", { id: "live-path", rows: 3, spellcheck: "false", maxlength: context.live?.hello.limits.characters });
  return h("div", {}, heading("Paths"), h("p", { class: "quiet" }, "Texts, token by token: how a token's factors change from layer to layer."), list("path", info.paths),
    context.live && form(context.live, field, "Any text", "Show its paths", async (live) => pathView(context, info, await live.path({ text: field.value }), null, () => undefined)));
}

function list(page: string, titles: string[]): HTMLElement | null {
  if (!titles.length) return null;
  return h("ul", { class: "texts" }, titles.map((title, number) => h("li", {}, h("a", { href: `#/${page}/${number}` }, h("bdi", {}, visible(title, LONGEST_TITLE))))));
}

/** A field that the server answers with a view. */
function form(live: Live, field: HTMLElement, label: string, action: string, answer: (live: Live) => Promise<HTMLElement>): HTMLElement {
  const said = h("p", { class: "status", role: "status" });
  const result = h("div", { class: "live-result" });
  async function ask(): Promise<void> {
    said.textContent = "Reading";
    try {
      replace(result, await answer(live));
      said.textContent = "";
    } catch (error) {
      said.textContent = (error as Error).message;
    }
  }
  return h("div", { class: "live" }, h("form", { class: "live-form", onsubmit: (event: Event) => {
    event.preventDefault();
    void ask();
  } }, h("label", { for: field.id }, label), field, h("p", {}, h("button", { type: "submit", class: "main" }, action))), said, result);
}
