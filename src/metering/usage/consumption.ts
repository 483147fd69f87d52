/** From samples of rising counters to what was consumed in each UTC hour; resets, wraps and gaps are seen and said. Pure. */
import { COUNTERS, type Consumption, type CounterSample, type UnseenTime } from './facts.ts';
import { cutsWithin } from './time-cuts.ts';

/** Two samples further apart than this are a gap: three missed samples at the usual five minutes. */
const USUAL_DISTANCE_MS = 15 * 60_000;

/** @param cutsMs - further moments to cut at, sorted. Samples in any order; the same sample twice counts once. */
export function consumptionOf(
  samples: readonly CounterSample[],
  cutsMs: readonly number[] = [],
): { readonly consumed: readonly Consumption[]; readonly gaps: readonly UnseenTime[] } {
  const consumed: Consumption[] = [];
  const gaps: UnseenTime[] = [];
  const sorted = [...samples].sort((a, b) => (a.vm < b.vm ? -1 : a.vm > b.vm ? 1 : a.atMs - b.atMs));
  const last = new Map<string, { atMs: number; value: bigint }>();
  for (const sample of sorted) {
    for (const counter of COUNTERS) {
      const value = sample.counters[counter];
      if (value === undefined) continue;
      const key = JSON.stringify([sample.vm, counter]);
      const before = last.get(key);
      last.set(key, { atMs: sample.atMs, value });
      if (before === undefined || before.atMs === sample.atMs) continue;
      const { amount, isReset } = increase(before.value, value, sample.wrapBits);
      const span = { vm: sample.vm, counter, startMs: before.atMs, endMs: sample.atMs };
      const kind = isReset ? 'reset' : sample.atMs - before.atMs > USUAL_DISTANCE_MS ? 'late' : undefined;
      if (kind !== undefined) gaps.push({ vm: sample.vm, kind, startMs: span.startMs, endMs: span.endMs });
      if (amount > 0n) consumed.push(...spread(span, amount, cutsMs));
    }
  }
  return { consumed, gaps };
}

/** Divides pieces that a cut lies in by time: a store knows hours, a price may change in the middle of one. */
export function cutConsumption(pieces: readonly Consumption[], cutsMs: readonly number[]): Consumption[] {
  return pieces.flatMap((piece) => {
    const { amount, ...span } = piece;
    return cutsMs.some((at) => at > span.startMs && at < span.endMs) ? spread(span, amount, cutsMs) : [piece];
  });
}

/**
 * A counter that fell has wrapped when the way over its top is shorter than half its range; otherwise it was reset
 * (the VM or its host restarted), and what it shows now is what has been used since.
 */
export function increase(
  before: bigint,
  now: bigint,
  wrapBits: 32 | 64 | undefined,
): { readonly amount: bigint; readonly isReset: boolean } {
  if (now >= before) return { amount: now - before, isReset: false };
  if (wrapBits !== undefined) {
    const range = 1n << BigInt(wrapBits);
    const overTop = range - before + now;
    if (before < range && overTop < range / 2n) return { amount: overTop, isReset: false };
  }
  return { amount: now, isReset: true };
}

/** Evenly over time, in whole units, nothing lost: each piece ends where the rounded-down running total stands. */
function spread(span: Omit<Consumption, 'amount'>, amount: bigint, cutsMs: readonly number[]): Consumption[] {
  const ends = [...cutsWithin(span, { extra: cutsMs, window: 'hour' }), span.endMs];
  const lengthMs = BigInt(span.endMs - span.startMs);
  const pieces: Consumption[] = [];
  let [startMs, given] = [span.startMs, 0n];
  for (const endMs of ends) {
    const until = (amount * BigInt(endMs - span.startMs)) / lengthMs;
    if (until > given) pieces.push({ ...span, startMs, endMs, amount: until - given });
    [startMs, given] = [endMs, until];
  }
  return pieces;
}
