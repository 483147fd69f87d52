/** Where values lie on an axis, and which values it names. Pure. */

export interface Axis {
  readonly isLogarithmic: boolean;
  readonly ticks: readonly number[];
  /** From 0 (the axis' start) to 1 (its end). */
  positionOf(value: number): number;
}

/** Beyond this the smallest values of a linear axis would lie on one another at its start. */
const LOGARITHMIC_FROM = 20;
const TICKS_WANTED = 6;

/**
 * From zero to a round number above all values; logarithmic, from a power of ten on, when the largest value is more than 20
 * times the smallest and all are above zero.
 */
export function axisFor(values: readonly number[]): Axis {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low > 0 && high / low > LOGARITHMIC_FROM ? logarithmic(low, high) : linear(high);
}

function linear(high: number): Axis {
  const step = roundStep((high > 0 ? high : 1) / TICKS_WANTED);
  const count = Math.max(1, Math.ceil((high > 0 ? high : 1) / step - 1e-9));
  const ticks = Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
  return { isLogarithmic: false, ticks, positionOf: (value) => value / (count * step) };
}

/** 1, 2 or 5 times a power of ten: the smallest that is not below `least`. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= least * (1 - 1e-9)) ?? 10);
}

function logarithmic(low: number, high: number): Axis {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const ticks: number[] = [];
  for (let power = first; power <= last; power += 1)
    for (const factor of power === last ? [1] : [1, 2, 5]) ticks.push(Number((factor * 10 ** power).toPrecision(12)));
  return { isLogarithmic: true, ticks, positionOf: (value) => (Math.log10(value) - first) / (last - first) };
}
