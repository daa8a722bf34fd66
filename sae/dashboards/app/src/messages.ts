/** What the server says and is asked, as `sae/dashboards/live/messages.py` defines it. A test compares the two. */

import type { TokenText } from "./schema";

export interface Limits {
  characters: number;
  tokens: number;
  new_tokens: number;
  clamps: number;
  ablations: number;
}

export interface Defaults {
  new_tokens: number;
  temperature: number;
  seed: number;
}

export interface HelloAnswer {
  version: string;
  model: string;
  hook_point: string;
  d_sae: number;
  steer: boolean;
  ablate: boolean;
  limits: Limits;
  defaults: Defaults;
}

export interface ErrorAnswer {
  error: string;
}

export interface TextRequest {
  text: string;
}

export interface Clamp {
  latent: number;
  value: number;
}

export interface SteerRequest {
  text?: string;
  clamps?: Clamp[];
  new_tokens?: number;
  temperature?: number;
  seed?: number;
}

export interface Continuation {
  text: string;
  tokens: TokenText[];
  ended: boolean;
}

export interface SteerAnswer {
  own: Continuation;
  clamped: Continuation;
}

export interface AblateRequest {
  text?: string;
  block?: number;
  position?: number;
  latents?: number[];
}

export interface AblateAnswer {
  effects: number[];
}
