/** The data of the pages of factors, as `sae/dashboards/factor_schema.py` defines them: what each number means is said there. */

import type { Bars, LogitWeights, Manifest, NeighbourEntry, TokenEntry, TokenText } from "./schema";

export type Level = NonNullable<FactorRecord["level"]>;
export type SaliencyMethod = Saliency["method"];

export interface LayerInfo {
  name: string;
  number: number | null;
  rows: number;
  l0: number;
  fvu: number | null;
}

export interface Agreement {
  first: "leave_one_out_shortlist" | "leave_one_out" | "integrated_gradients" | "lime";
  second: "leave_one_out_shortlist" | "leave_one_out" | "integrated_gradients" | "lime";
  contexts: number;
  correlation: number | null;
  same_top: number | null;
}

export interface SaliencyShare {
  method: "leave_one_out_shortlist" | "leave_one_out" | "integrated_gradients" | "lime" | null;
  measured: number;
  shown: number;
}

export interface FactorsInfo {
  layers: LayerInfo[];
  importance_top: number;
  contexts: number;
  level_rule: string;
  size: number;
  words: string[];
  paths: string[];
  method: string;
  saliency: SaliencyShare;
  agreement: Agreement[];
}

export interface FactorManifest extends Manifest {
  factors: FactorsInfo;
}

export interface Saliency {
  method: "leave_one_out_shortlist" | "leave_one_out" | "integrated_gradients" | "lime";
  weights: number[];
}

export interface Context {
  document: number;
  block: number;
  start: number;
  peak: number;
  tokens: number[];
  places: number[];
  acts: number[];
  saliency: Saliency[];
}

export interface FactorLayer {
  fired: number;
  max: number | null;
  importance: number | null;
  contexts: Context[];
  tokens: TokenEntry[];
}

export interface FactorRecord {
  factor: number;
  level: "low" | "mid" | "high" | null;
  peak_layer: number | null;
  fired: number;
  density: number;
  max: number | null;
  decoder_norm: number;
  concentration: number | null;
  entropy: number | null;
  histogram: Bars;
  neighbours: NeighbourEntry[];
  logits: LogitWeights | null;
  layers: FactorLayer[];
}

export interface FactorShard {
  first: number;
  strings: TokenText[];
  factors: FactorRecord[];
}

export interface FactorActivation {
  factor: number;
  activation: number;
}

export interface WordOccurrence {
  document: number;
  block: number;
  start: number;
  peak: number;
  tokens: number[];
  layers: FactorActivation[][];
}

export interface SenseGroup {
  occurrences: number[];
  factors: FactorActivation[];
}

export interface WordPage {
  word: string;
  strings: TokenText[];
  total: number;
  occurrences: WordOccurrence[];
  groups: SenseGroup[][];
}

export interface PathToken {
  id: number;
  text: string;
  kept: boolean;
  layers: FactorActivation[][];
}

export interface PathPage {
  title: string;
  text: string;
  tokens: PathToken[];
}

export interface PathRequest {
  text: string;
}

export interface WordRequest {
  word: string;
}

export interface SaliencyRequest {
  factor: number;
  layer: number;
  block: number;
  position: number;
  method: "leave_one_out_shortlist" | "leave_one_out" | "integrated_gradients" | "lime";
}
