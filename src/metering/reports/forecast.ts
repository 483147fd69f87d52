/**
 * What a month will cost when everything goes on as it is: what is there now stays until the month's end, counters rise
 * as they did in their last seven days, and the whole month is rated anew, so that price changes to come, tiers and
 * fixed items count as they will. Pure.
 */
import type { RateCard } from '../rate-card/card.ts';
import { type Rating, rate } from '../rating/rate.ts';
import { increase } from '../usage/consumption.ts';
import { COUNTERS, type Consumption, type CounterSample, machineOf, type UsageFacts } from '../usage/facts.ts';
import { HOUR_MS, type MonthName, monthSpan } from '../usage/time-cuts.ts';

const LOOK_BACK_MS = 7 * 86_400_000;
/** Sources with events are looked at every five minutes; one that was last confirmed longer ago does not go on. */
const CONFIRMED_WITHIN_MS = 10 * 60_000;

/** @param atMs - now: facts after it are not known yet, intervals that reach it go on. */
export function forecast(card: RateCard, period: MonthName, facts: UsageFacts & { readonly atMs: number }): Rating {
  return rate(card, period, goneOn(facts, monthSpan(period).endMs));
}

/** The facts up to `atMs`. */
export function knownAt(facts: UsageFacts, atMs: number): UsageFacts {
  const until = <T extends { readonly startMs: number; readonly endMs: number }>(all: readonly T[]): T[] =>
    all.filter((one) => one.startMs < atMs).map((one) => ({ ...one, endMs: Math.min(one.endMs, atMs) }));
  return {
    intervals: until(facts.intervals),
    hosts: until(facts.hosts),
    samples: facts.samples.filter((one) => one.atMs <= atMs),
    consumed: (facts.consumed ?? []).filter((one) => one.startMs < atMs),
    gaps: facts.gaps ?? [],
  };
}

function goneOn(facts: UsageFacts & { readonly atMs: number }, endMs: number): UsageFacts {
  const { atMs } = facts;
  if (atMs >= endMs) return facts;
  const known = knownAt(facts, atMs);
  const intervals = extended(known.intervals, (one) => one.vm, { atMs, endMs });
  const living = new Set(
    intervals.filter((one) => one.endMs === endMs && one.power === 'running').map((one) => one.vm),
  );
  return {
    intervals,
    hosts: extended(known.hosts, machineOf, { atMs, endMs }),
    samples: [...known.samples, ...extrapolated(known.samples, { atMs, endMs, living })],
    gaps: known.gaps ?? [],
    consumed: [...(known.consumed ?? []), ...goingOn(known.consumed ?? [], { atMs, endMs, living })],
  };
}

/** The last of each that is known up to now goes on; sources confirm what they show at different times. */
function extended<T extends { readonly startMs: number; readonly endMs: number }>(
  all: readonly T[],
  nameOf: (one: T) => string,
  { atMs, endMs }: { readonly atMs: number; readonly endMs: number },
): T[] {
  const last = new Map<string, T>();
  for (const one of all) if ((last.get(nameOf(one))?.endMs ?? 0) <= one.endMs) last.set(nameOf(one), one);
  return all.map((one) =>
    one === last.get(nameOf(one)) && one.endMs >= atMs - CONFIRMED_WITHIN_MS ? { ...one, endMs } : one,
  );
}

/** What each VM consumed in the last seven days, spread over the hours that are left at the same pace. */
function goingOn(
  consumed: readonly Consumption[],
  { atMs, endMs, living }: { readonly atMs: number; readonly endMs: number; readonly living: ReadonlySet<string> },
): Consumption[] {
  const sums = new Map<string, Consumption>();
  for (const one of consumed) {
    if (one.startMs < atMs - LOOK_BACK_MS || !living.has(one.vm)) continue;
    const key = JSON.stringify([one.vm, one.counter]);
    const before = sums.get(key);
    sums.set(key, { ...one, startMs: before?.startMs ?? one.startMs, amount: (before?.amount ?? 0n) + one.amount });
  }
  return [...sums.values()].flatMap((one) => {
    const lengthMs = BigInt(Math.max(1, atMs - one.startMs));
    const hours: Consumption[] = [];
    let given = 0n;
    for (let startMs = atMs; startMs < endMs; startMs += HOUR_MS) {
      const until = (one.amount * BigInt(Math.min(startMs + HOUR_MS, endMs) - atMs)) / lengthMs;
      hours.push({ ...one, startMs, endMs: Math.min(startMs + HOUR_MS, endMs), amount: until - given });
      given = until;
    }
    return hours;
  });
}

function extrapolated(
  samples: readonly CounterSample[],
  { atMs, endMs, living }: { readonly atMs: number; readonly endMs: number; readonly living: ReadonlySet<string> },
): CounterSample[] {
  const byVm = new Map<string, CounterSample[]>();
  for (const one of [...samples].sort((a, b) => a.atMs - b.atMs)) {
    if (one.atMs < atMs - LOOK_BACK_MS || !living.has(one.vm)) continue;
    const list = byVm.get(one.vm) ?? [];
    list.push(one);
    byVm.set(one.vm, list);
  }
  return [...byVm].flatMap(([vm, list]): CounterSample[] => {
    const [first, last] = [list[0], list.at(-1)];
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return [];
    const counters: Record<string, bigint> = {};
    for (const counter of COUNTERS) {
      const now = last.counters[counter];
      if (now === undefined) continue;
      let [before, risen] = [first.counters[counter], 0n];
      for (const sample of list) {
        const value = sample.counters[counter];
        if (value === undefined) continue;
        if (before !== undefined) risen += increase(before, value, sample.wrapBits).amount;
        before = value;
      }
      counters[counter] = now + (risen * BigInt(endMs - last.atMs)) / BigInt(last.atMs - first.atMs);
    }
    return [{ vm, atMs: endMs, counters, wrapBits: undefined }];
  });
}
