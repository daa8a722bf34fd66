/** One latent or one text inside another page, such as a notebook's cell: no address, no data files, everything is handed over. */

import type { Context } from "./context";
import { glossary } from "./definitions";
import { h, replace } from "./dom";
import { type Look, setLook } from "./look";
import type { LatentShard, Manifest, TextPage } from "./schema";
import { unpacked } from "./store";
import { startTips } from "./tip";
import { latentView } from "./views/latent";
import { textView } from "./views/text";
import { visible } from "./visible";

interface Shared {
  manifest?: Manifest;
  /** Address of a dashboard's index.html, for links to other latents; without it they are plain numbers. */
  base?: string;
  look?: Look;
}

export interface MountLatent extends Shared {
  view: "latent";
  latent: number;
  /** What `latents/N` holds: a LatentShard, or base64 of gzip of its JSON. One with this latent alone is enough. */
  data: LatentShard | string;
}

export interface MountText extends Shared {
  view: "text";
  /** What `texts/N` holds: a TextPage, or base64 of gzip of its JSON. */
  data: TextPage | string;
}

export async function mount(element: HTMLElement, options: MountLatent | MountText): Promise<void> {
  const context: Context = { manifest: options.manifest ?? null, catalogue: null, live: null, base: options.base ?? null };
  const view = options.view === "latent" ? await latent(context, options) : await text(context, options);
  element.classList.add("sae-dashboard", "mounted");
  setLook(document.documentElement, options.look ?? "system");
  replace(element, h("main", {}, view), glossary());
  startTips(element);
}

async function latent(context: Context, { data, latent: number }: MountLatent): Promise<HTMLElement> {
  const shard = await unpacked<LatentShard>(data);
  const record = shard.latents.find((one) => one.latent === number);
  if (!record) throw new Error(`dashboard.mount: the data holds no latent ${number}.`);
  return latentView(context, record, shard.strings, null);
}

async function text(context: Context, { data }: MountText): Promise<HTMLElement> {
  const page = await unpacked<TextPage>(data);
  return h("div", {}, h("h1", { tabindex: -1 }, h("bdi", {}, visible(page.title, 200))), textView(context, page));
}
