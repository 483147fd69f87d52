/** Random numbers that are the same on every run, for property tests. */
export interface Numbers {
  /** A whole number from 0 to `limit` - 1. */
  upTo(limit: number): number;
  pick<T>(from: readonly [T, ...T[]]): T;
}

/** A mulberry32 generator: 32 bits of state, good enough to vary tests with. */
export function numbersFrom(seed: number): Numbers {
  let state = seed >>> 0;
  const upTo = (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
  return { upTo, pick: (from) => from[upTo(from.length)] ?? from[0] };
}
