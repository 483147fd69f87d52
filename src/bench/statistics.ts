/** What is said of a list of measured values. Pure; every function leaves its argument as it is. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? high) + high) / 2;
}

/** The smallest value that at least `share` of all values do not exceed (nearest rank); NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

export function p99(values: readonly number[]): number {
  return quantile(values, 0.99);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** Resamplings of a bootstrap: the ends of a 95 % interval then move by less than a percent from seed to seed. */
const RESAMPLES = 2000;

/**
 * The 95 % percentile bootstrap interval of `median(above) / median(below)`. Both lists are resampled alone: the pairs
 * are interleaved against drift, not matched. The same seed gives the same interval.
 */
export function medianRatioInterval(above: readonly number[], below: readonly number[], seed: number): Interval {
  const random = seededRandom(seed);
  const ratios: number[] = [];
  for (let round = 0; round < RESAMPLES; round += 1)
    ratios.push(median(resample(above, random)) / median(resample(below, random)));
  return { low: quantile(ratios, 0.025), high: quantile(ratios, 0.975) };
}

function resample(values: readonly number[], random: () => number): number[] {
  return values.map(() => values[Math.floor(random() * values.length)] ?? Number.NaN);
}

/** Numbers in [0, 1), the same ones for the same seed: a 32-bit counter, stirred. Good for resampling, for nothing secret. */
export function seededRandom(seed: number): () => number {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(counter ^ (counter >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
