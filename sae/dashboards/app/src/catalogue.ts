/** The table of all latents in memory: one typed array a column. */

import type { IndexShard, Manifest, TokenText } from "./schema";
import { bytes, indexFile } from "./store";

const ARRAYS = { f32: Float32Array, i32: Int32Array, u8: Uint8Array };

/** Columns that are put together from all shards; a number that a shard lacks is NaN. */
export class Catalogue {
  readonly size: number;
  private readonly columns = new Map<string, Float32Array>();
  private readonly shards: IndexShard[] = [];

  constructor(private readonly manifest: Manifest) {
    this.size = manifest.num_latents;
    for (const name of manifest.columns) this.columns.set(name, new Float32Array(this.size).fill(NaN));
  }

  /** Takes in a shard. */
  add(shard: IndexShard): void {
    this.shards[Math.floor(shard.first / this.manifest.index_size)] = shard;
    for (const [name, { type, data }] of Object.entries(shard.columns)) {
      this.columns.get(name)?.set(new ARRAYS[type](bytes(data).buffer), shard.first);
    }
  }

  has(name: string): boolean {
    return this.columns.has(name);
  }

  /** A whole column. */
  column(name: string): Float32Array {
    return this.columns.get(name) ?? new Float32Array(this.size).fill(NaN);
  }

  /** One number; NaN where there is none. */
  value(name: string, latent: number): number {
    return this.columns.get(name)?.[latent] ?? NaN;
  }

  /** The token on which it fires most often. */
  topToken(latent: number): TokenText | null {
    const place = this.value("top_token", latent);
    return this.shard(latent)?.strings[place] ?? null;
  }

  explanation(latent: number): string | null {
    return this.shard(latent)?.explanations[latent] ?? null;
  }

  get explained(): boolean {
    return this.shards.some((shard) => Object.keys(shard.explanations).length > 0);
  }

  private shard(latent: number): IndexShard | undefined {
    return this.shards[Math.floor(latent / this.manifest.index_size)];
  }
}

/** Reads every shard, several at a time. */
export async function readCatalogue(manifest: Manifest): Promise<Catalogue> {
  const catalogue = new Catalogue(manifest);
  const shards = Math.ceil(manifest.num_latents / manifest.index_size);
  await Promise.all(Array.from({ length: shards }, async (_, number) => catalogue.add(await indexFile(number))));
  return catalogue;
}
