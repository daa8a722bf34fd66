/** Search by token and by text: files are read at the first search, and looked through one after the other. */

import type { Catalogue } from "./catalogue";
import type { Manifest, SearchShard, TokenText } from "./schema";
import { searchFile } from "./store";

/** Says whether a token is meant: its text without regard to case and outer spaces, `*` at either end, or `#` and its number. */
export function tokenTest(wanted: string): (token: TokenText) => boolean {
  const text = wanted.trim().toLowerCase();
  if (/^#\d+$/.test(text)) return (token) => token.id === Number(text.slice(1));
  const [before, after] = [text.length > 1 && text.startsWith("*"), text.length > 1 && text.endsWith("*")];
  const core = text.slice(before ? 1 : 0, after ? -1 : undefined);
  return (token) => {
    const own = token.text.trim().toLowerCase();
    if (before && after) return own.includes(core);
    if (after) return own.startsWith(core);
    return before ? own.endsWith(core) : own === core;
  };
}

function look(shard: SearchShard, catalogue: Catalogue, token: string, text: string, found: Uint8Array): void {
  const test = tokenTest(token);
  const meant = new Set(shard.strings.flatMap((entry, place) => (test(entry) ? [place] : [])));
  const words = text.trim().toLowerCase();
  for (let i = 0; i < shard.snippets.length; i++) {
    const latent = shard.first + i;
    if (token && !shard.tokens[i]?.some((place) => meant.has(place))) continue;
    if (words && !shard.snippets[i]!.toLowerCase().includes(words) && !catalogue.explanation(latent)?.toLowerCase().includes(words)) continue;
    found[latent] = 1;
  }
}

/** Marks the latents that fire on a token and whose text holds some words; an empty one asks for nothing. */
export async function search(
  manifest: Manifest,
  catalogue: Catalogue,
  token: string,
  text: string,
  progress: (done: number, of: number) => void,
): Promise<Uint8Array | null> {
  if (!token.trim() && !text.trim()) return null;
  const found = new Uint8Array(manifest.num_latents);
  const files = Math.ceil(manifest.num_latents / manifest.search_size);
  for (let number = 0; number < files; number++) {
    progress(number, files);
    look(await searchFile(number), catalogue, token.trim(), text, found);
  }
  progress(files, files);
  return found;
}
