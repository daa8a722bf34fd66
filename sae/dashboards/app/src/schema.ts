/** The data files, as `sae/dashboards/schema.py` defines them: what each number means is said there. A test compares the two. */

export interface Column {
  type: "f32" | "i32" | "u8";
  data: string;
}

export interface Bars {
  edges: number[];
  counts: number[];
}

export interface TokenText {
  id: number;
  text: string;
}

export interface ExactEffects {
  firings: number;
  agreement: number | null;
}

export interface Manifest {
  version: number;
  title: string;
  sae: Record<string, string | number | null>;
  model: string;
  hook_point: string;
  source: string;
  rows: number;
  documents: number;
  blocks: number;
  context: number;
  window: number[];
  effects: "gradient" | null;
  exact_effects: ExactEffects | null;
  index_size: number;
  latents_size: number;
  search_size: number;
  num_latents: number;
  columns: string[];
  coactive_rows: number;
  dead: number;
  ultra_low: number;
  texts: string[];
  layout: "umap" | "pca" | null;
  has_scores: boolean;
  run_page: string | null;
  sweep_page: string | null;
  made_with: string;
}

export interface IndexShard {
  first: number;
  columns: Record<string, Column>;
  strings: TokenText[];
  explanations: Record<string, string>;
}

export interface SearchShard {
  first: number;
  strings: TokenText[];
  tokens: number[][];
  snippets: string[];
}

export interface TokenEntry {
  token: number;
  count: number;
  share: number;
  mean: number;
}

export interface LogitWeights {
  raised: [number, number][];
  lowered: [number, number][];
  histogram: Bars;
}

export interface NeighbourEntry {
  latent: number;
  value: number;
}

export interface NeuronEntry {
  dimension: number;
  weight: number;
  share: number;
}

export interface ExplanationEntry {
  text: string;
  source: string;
  score: number | null;
}

export interface ScoreEntry {
  name: string;
  value: number;
}

export interface Example {
  document: number;
  block: number;
  start: number;
  peak: number;
  tokens: number[];
  places: number[];
  acts: number[];
  effects: number[] | null;
  exact: Record<string, number>;
}

export interface ExampleGroup {
  kind: "top" | "interval" | "random";
  low: number | null;
  high: number | null;
  count: number;
  examples: Example[];
}

export interface LatentRecord {
  latent: number;
  fired: number;
  density: number;
  max: number | null;
  mean: number | null;
  std: number | null;
  skewness: number | null;
  kurtosis: number | null;
  decoder_norm: number;
  concentration: number | null;
  entropy: number | null;
  histogram: Bars;
  tokens: TokenEntry[];
  logits: LogitWeights | null;
  decoder_neighbours: NeighbourEntry[];
  coactive_neighbours: NeighbourEntry[];
  neurons: NeuronEntry[];
  groups: ExampleGroup[];
  explanations: ExplanationEntry[];
  scores: ScoreEntry[];
}

export interface LatentShard {
  first: number;
  strings: TokenText[];
  latents: LatentRecord[];
}

export interface TextLatent {
  latent: number;
  activation: number;
  quantile: number | null;
  effect: number | null;
  logit_effect: number | null;
}

export interface TextToken {
  id: number;
  text: string;
  kept: boolean;
  loss: number | null;
  latents: TextLatent[];
}

export interface TextPage {
  title: string;
  text: string;
  tokens: TextToken[];
  effects: "gradient" | null;
}
