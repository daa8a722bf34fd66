/** The dashboard as a whole: reads the address, shows the page that it names, and keeps what pages share. */

import { place } from "./address";
import { readCatalogue } from "./catalogue";
import { type Context, factorsInfo, noun } from "./context";
import { glossary } from "./definitions";
import { type Child, h, replace } from "./dom";
import { helpBox, listen } from "./keys";
import { stepLayer } from "./layer_slider";
import { findLive } from "./live";
import { lookButton } from "./look";
import type { Manifest } from "./schema";
import { latentsFile, manifestFile, textFile } from "./store";
import { hideTip, startTips } from "./tip";
import type { Neighbours } from "./views/cards";
import { factorPage } from "./views/factor_pages";
import { latentTitle, latentView } from "./views/latent";
import { type IndexView, indexView } from "./views/list";
import { liveView } from "./views/live";
import { textView } from "./views/text";
import { visible } from "./visible";

const PAGE_BESIDE = /^[\w.-]+\.html$/; // a file beside this one: the manifest cannot lead elsewhere

export class App {
  private readonly page = h("div", {});
  private readonly main = h("main", { id: "main", tabindex: -1 }, this.page);
  private readonly links = h("nav", { "aria-label": "Pages" });
  private readonly help = helpBox();
  private readonly context: Context = { manifest: null, catalogue: null, live: null, base: "" };
  private index: IndexView | null = null;
  private indexAddress = "#/";
  private around: Neighbours | null = null;
  private shows = 0;

  constructor(private readonly root: HTMLElement) {}

  async start(): Promise<void> {
    const skip = h("a", { class: "skip", href: "#main", onclick: (event: Event) => {
      event.preventDefault();
      this.main.focus();
    } }, "Skip to the page");
    const help = h("button", { type: "button", class: "quiet-button", "aria-label": "Keys", title: "Keys (?)", onclick: () => this.help.showModal() }, "?");
    replace(this.root, skip, h("header", { class: "top" }, this.links, h("span", { class: "tools" }, lookButton(document.documentElement), help)), this.main, glossary(), this.help);
    startTips(this.root);
    replace(this.page, h("p", { class: "quiet" }, "Reading the dashboard"));
    try {
      this.context.manifest = await manifestFile();
    } catch (error) {
      return this.fail(error);
    }
    this.showLinks();
    window.addEventListener("hashchange", () => void this.show());
    listen({
      step: (by) => this.step(by), layer: (by) => stepLayer(this.page, by), search: () => this.search("#search-token"), goTo: () => this.search("#go-to"),
      index: () => (location.hash = this.indexAddress),
    }, this.help);
    await Promise.all([this.show(), this.goLive()]);
  }

  private get manifest(): Manifest {
    return this.context.manifest!;
  }

  private async goLive(): Promise<void> {
    this.context.live = await findLive();
    if (!this.context.live) return;
    this.showLinks();
    if (/^#\/(live|latent|factor|words|paths)\b/.test(location.hash)) await this.show();
  }

  private showLinks(): void {
    const { texts, run_page, sweep_page } = this.manifest;
    const here = location.hash.split("/")[1] ?? "";
    const link = (href: string, words: string, current: boolean): Child => h("a", { href, "aria-current": current ? "page" : null }, words);
    const info = factorsInfo(this.context);
    const live = this.context.live !== null;
    const own = info
      ? [(live || info.words.length > 0) && link("#/words", "Words", here.startsWith("word")), (live || info.paths.length > 0) && link("#/paths", "Paths", here.startsWith("path"))]
      : [live && link("#/live", "Live", here === "live")];
    replace(this.links, link(this.indexAddress, info ? "Factors" : "Latents", here === "" || here.startsWith("?")), texts.length > 0 && link("#/texts", "Texts", here.startsWith("text")), own,
      [[run_page, "Run"], [sweep_page, "Sweep"]].map(([file, words]) => file && PAGE_BESIDE.test(file) && link(file, words!, false)));
  }

  private async show(): Promise<void> {
    const own = ++this.shows;
    hideTip();
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [page = "", number = ""] = path.split("/");
    try {
      const [title, element] = await this.view(page, number, query);
      if (own !== this.shows) return;
      document.title = `${title}: ${visible(this.manifest.title, 80)}`;
      replace(this.page, element);
      this.showLinks();
      window.scrollTo(0, 0);
      if (own > 1) this.main.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
    } catch (error) {
      if (own === this.shows) this.fail(error);
    }
  }

  private async view(page: string, number: string, query: string): Promise<[string, HTMLElement]> {
    const info = factorsInfo(this.context);
    const own = info && (await factorPage(this.context, info, page, number, query, (factor) => (this.around = this.neighbours(factor))));
    if (own) return own;
    if (!info && page === "latent") return this.latent(place(number, this.manifest.num_latents, "latent"));
    if (page === "texts") return ["Texts", this.texts()];
    if (page === "text") return this.text(place(number, this.manifest.texts.length, "text"));
    if (!info && page === "live") return ["Live", this.context.live ? liveView(this.context, this.context.live) : notLive()];
    if (page === "") return [info ? "Factors" : "Latents", await this.list(query)];
    throw new Error(`There is no page “${visible(page)}” here.`);
  }

  private async list(query: string): Promise<HTMLElement> {
    this.context.catalogue ??= await readCatalogue(this.manifest);
    if (this.index && this.indexAddress === `#/${query ? `?${query}` : ""}`) return this.index.element;
    this.indexAddress = `#/${query ? `?${query}` : ""}`;
    const keep = (words: string): void => {
      this.indexAddress = `#/${words ? `?${words}` : ""}`;
      history.replaceState(null, "", this.indexAddress);
    };
    this.index = indexView(this.context, this.manifest, this.context.catalogue, new URLSearchParams(query), keep);
    return this.index.element;
  }

  private async latent(latent: number): Promise<[string, HTMLElement]> {
    const shard = await latentsFile(Math.floor(latent / this.manifest.latents_size));
    const record = shard.latents[latent - shard.first];
    if (!record) throw new Error(`Latent ${latent} is missing from its file.`);
    this.context.catalogue ??= await readCatalogue(this.manifest);
    this.around = this.neighbours(latent);
    return [latentTitle(record), latentView(this.context, record, shard.strings, this.around)];
  }

  /** Before and after: in the list as it was last filtered and sorted if the latent is in it, else by number. */
  private neighbours(latent: number): Neighbours {
    const order = this.index?.order();
    const at = order ? order.indexOf(latent) : -1;
    if (order && at >= 0) {
      return { previous: order[at - 1] ?? null, next: order[at + 1] ?? null, words: `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")} listed` };
    }
    const last = this.manifest.num_latents - 1;
    return { previous: latent > 0 ? latent - 1 : null, next: latent < last ? latent + 1 : null, words: `0 to ${last.toLocaleString("en")}` };
  }

  private texts(): HTMLElement {
    return h("div", {}, h("h1", { tabindex: -1 }, "Texts"), h("ul", { class: "texts" }, this.manifest.texts.map((title, number) =>
      h("li", {}, h("a", { href: `#/text/${number}` }, h("bdi", {}, visible(title, 200)))))));
  }

  private async text(number: number): Promise<[string, HTMLElement]> {
    const page = await textFile(number);
    this.context.catalogue ??= await readCatalogue(this.manifest);
    return [visible(page.title, 80), h("div", {}, h("h1", { tabindex: -1 }, h("bdi", {}, visible(page.title, 200))), textView(this.context, page))];
  }

  private step(by: number): void {
    const [page = "", number = "", query] = location.hash.replace(/^#\/?/, "").split(/[/?]/);
    const info = factorsInfo(this.context);
    const lists: Record<string, number | undefined> = { text: this.manifest.texts.length, word: info?.words.length, path: info?.paths.length };
    if (page === noun(this.context)) {
      const to = by > 0 ? this.around?.next : this.around?.previous;
      if (to != null) location.hash = `#/${page}/${to}${query ? `?${query}` : ""}`;
    } else if (page === "") this.index?.step(by);
    else {
      const to = Number(number) + by;
      if (to >= 0 && to < (lists[page] ?? 0)) location.hash = `#/${page}/${to}`;
    }
  }

  /** Puts the keyboard into a field of the page, else of the index. */
  private search(field: string): void {
    const focus = (): void => {
      const input = this.page.querySelector<HTMLInputElement>(field);
      input?.focus();
      input?.select();
    };
    if (this.page.querySelector(field)) return focus();
    window.addEventListener("hashchange", () => requestAnimationFrame(focus), { once: true });
    location.hash = this.indexAddress;
  }

  private fail(error: unknown): void {
    const words = "This page cannot be shown";
    document.title = this.context.manifest ? `${words}: ${visible(this.manifest.title, 80)}` : words;
    replace(this.page, h("h1", { tabindex: -1 }, words), h("p", { role: "alert" }, (error as Error).message), h("p", {}, h("a", { href: "#/" }, "To the index")));
  }
}

function notLive(): HTMLElement {
  return h("div", {}, h("h1", { tabindex: -1 }, "Live"), h("p", {}, "This page needs the model: start it with “python scripts/dashboard.py from=PATH serve=true”, where PATH is the folder of the run or of the SAE."));
}
