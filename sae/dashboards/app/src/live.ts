/** What a running server answers; from disk there is none. */

import type { TextPage } from "./schema";

export interface Clamp {
  latent: number;
  value: number;
}

export interface Steering {
  text: string;
  clamps: Clamp[];
  tokens: number;
  temperature: number;
  seed: number;
}

export interface Continuation {
  text: string;
  plain: string;
}

export interface Place {
  block: number;
  position: number;
  latent: number;
}

async function ask<T>(name: string, body: unknown): Promise<T> {
  const response = await fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (response.ok) return (await response.json()) as T;
  const words = await response.text();
  let reason = words.slice(0, 500) || response.statusText;
  try {
    reason = String((JSON.parse(words) as { error?: unknown }).error ?? reason);
  } catch {
    // not JSON: the words themselves
  }
  throw new Error(`The server refused: ${reason}`);
}

export class Live {
  text(text: string): Promise<TextPage> {
    return ask("text", { text });
  }

  steer(steering: Steering): Promise<Continuation> {
    return ask("steer", steering);
  }

  async ablate(place: Place): Promise<number> {
    return (await ask<{ effect: number }>("ablate", place)).effect;
  }
}

/** The server behind this page, null where the page comes from disk or the server only hands out files. */
export async function findLive(): Promise<Live | null> {
  if (!location.protocol.startsWith("http")) return null;
  try {
    const response = await fetch("api/hello");
    return response.ok && ((await response.json()) as { live?: unknown }).live === true ? new Live() : null;
  } catch {
    return null;
  }
}
