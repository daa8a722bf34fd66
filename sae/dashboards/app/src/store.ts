/** Brings the data files in: each is a script of one call, `dashboard.put(key, payload)`, loaded when it is first needed. */

import type { FactorShard, PathPage, WordPage } from "./factor_schema";
import type { IndexShard, LatentShard, Manifest, SearchShard, TextPage } from "./schema";

interface Waiting {
  take: (payload: unknown) => void;
  fail: (reason: Error) => void;
}

const waiting = new Map<string, Waiting>();
const kept = new Map<string, Promise<unknown>>();
const KEPT_FILES_OF_PAGES = 24;

/** What every data file calls. */
export function put(key: string, payload: unknown): void {
  waiting.get(key)?.take(payload);
  waiting.delete(key);
}

/** Payloads of `latents/N`, `search/N` and of all files of factors: base64 of gzip of JSON. Anything else is the data itself. */
export async function unpacked<T>(payload: unknown): Promise<T> {
  if (typeof payload !== "string") return payload as T;
  const stream = new Blob([bytes(payload)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text()) as T;
}

/** Bytes of a base64 string. */
export function bytes(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

function load(key: string): Promise<unknown> {
  return new Promise((take, fail) => {
    waiting.set(key, { take, fail });
    const script = document.createElement("script");
    script.src = `data/${key}.js`;
    const ended = (reason: string) => () => {
      script.remove();
      waiting.get(key)?.fail(new Error(`data/${key}.js ${reason}. Is the folder whole? Build the dashboard again to mend it.`));
      waiting.delete(key);
    };
    script.addEventListener("load", ended("holds something else"));
    script.addEventListener("error", ended("could not be read"));
    document.head.append(script);
  });
}

function file<T>(key: string): Promise<T> {
  let found = kept.get(key);
  if (!found) {
    found = load(key).then((payload) => unpacked<T>(payload));
    found.catch(() => kept.delete(key));
  } else kept.delete(key);
  kept.set(key, found); // at the end: the oldest stand first
  forgetOldPages();
  return found as Promise<T>;
}

function forgetOldPages(): void {
  const pages = [...kept.keys()].filter((key) => /^(latents|factors)\//.test(key));
  for (const key of pages.slice(0, -KEPT_FILES_OF_PAGES)) kept.delete(key);
}

export const manifestFile = (): Promise<Manifest> => file("manifest");
export const indexFile = (number: number): Promise<IndexShard> => file(`index/${number}`);
export const latentsFile = (number: number): Promise<LatentShard> => file(`latents/${number}`);
export const searchFile = (number: number): Promise<SearchShard> => file(`search/${number}`);
export const textFile = (number: number): Promise<TextPage> => file(`texts/${number}`);
export const factorsFile = (number: number): Promise<FactorShard> => file(`factors/${number}`);
export const wordFile = (number: number): Promise<WordPage> => file(`words/${number}`);
export const pathFile = (number: number): Promise<PathPage> => file(`paths/${number}`);
