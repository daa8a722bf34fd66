/** What a running server answers; from disk there is none. */

import type { PathPage, PathRequest, Saliency, SaliencyRequest, WordPage, WordRequest } from "./factor_schema";
import type { AblateAnswer, AblateRequest, ErrorAnswer, HelloAnswer, SteerAnswer, SteerRequest, TextRequest } from "./messages";
import type { TextPage } from "./schema";

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
    reason = (JSON.parse(words) as ErrorAnswer).error ?? reason;
  } catch {
    // not JSON: the words themselves
  }
  throw new Error(reason);
}

/** A server that has said what it can do. */
export class Live {
  constructor(readonly hello: HelloAnswer) {}

  text(request: TextRequest): Promise<TextPage> {
    return ask("text", request);
  }

  steer(request: SteerRequest): Promise<SteerAnswer> {
    return ask("steer", request);
  }

  async ablate(request: AblateRequest): Promise<number[]> {
    return (await ask<AblateAnswer>("ablate", request)).effects;
  }

  word(request: WordRequest): Promise<WordPage> {
    return ask("word", request);
  }

  path(request: PathRequest): Promise<PathPage> {
    return ask("path", request);
  }

  saliency(request: SaliencyRequest): Promise<Saliency> {
    return ask("saliency", request);
  }
}

/** The server behind this page, null where the page comes from disk or the server only hands out files. */
export async function findLive(): Promise<Live | null> {
  if (!location.protocol.startsWith("http")) return null;
  try {
    const response = await fetch("api/hello");
    return response.ok ? new Live((await response.json()) as HelloAnswer) : null;
  } catch {
    return null;
  }
}
