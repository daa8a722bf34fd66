/** Axes of a chart: where a value stands, and where the ticks are. */

export interface Axis {
  low: number;
  high: number;
  ticks: number[];
  /** Pixel of a value. */
  at: (value: number) => number;
  /** Value of a pixel. */
  of: (pixel: number) => number;
}

const PIXELS_PER_TICK = 45;

function axis(low: number, high: number, start: number, end: number, ticks: number[], log: boolean): Axis {
  const to = log ? Math.log10 : (v: number) => v;
  const from = log ? (v: number) => 10 ** v : (v: number) => v;
  const [a, b] = [to(low), to(high)];
  return {
    low, high, ticks,
    at: (value) => start + ((to(value) - a) / (b - a)) * (end - start),
    of: (pixel) => from(a + ((pixel - start) / (end - start)) * (b - a)),
  };
}

/** About `count` ticks at multiples of 1, 2 or 5 times a power of ten. */
export function linearAxis(low: number, high: number, start: number, end: number, count = 5): Axis {
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return axis(low, high, start, end, ticks, false);
}

/** Ticks at powers of ten, thinned out where they are many. */
export function logAxis(low: number, high: number, start: number, end: number): Axis {
  if (!(high > low)) [low, high] = [low / 2, low * 2];
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const every = Math.ceil((last - first + 1) / Math.max(2, Math.abs(end - start) / PIXELS_PER_TICK)) || 1;
  const ticks: number[] = [];
  for (let power = first; power <= last; power += every) ticks.push(10 ** power);
  return axis(low, high, start, end, ticks.length ? ticks : [low, high], true);
}
