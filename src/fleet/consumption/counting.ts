/**
 * From two readings of a VM's counters to what was consumed between them. Pure: no clock, no store.
 *
 *     reading ─(same run)─▶ reading            what the counters rose
 *     reading ─(new run)──▶ reading            all that the new run shows; what the old one did unseen is a gap
 *     nothing ────────────▶ first reading      nothing, unless the run began before berth's eyes
 *
 * Only differences between readings that were kept count. A process that dies between two readings changes nothing: the next
 * one is compared with the last that was kept. Time is never invented: what a gauge was while nobody looked is not known,
 * what a counter rose is known as a sum and spread over the time, and never over the moment at which it began anew.
 */
import type { VmPeriod, VmSample } from '../driver.ts';

/** What rises while a VM runs, until something begins anew. */
export const COUNTERS = [
  'cpuNanoseconds',
  'diskReadBytes',
  'diskWrittenBytes',
  'diskReads',
  'diskWrites',
  'receivedBytes',
  'sentBytes',
] as const;
export type Counter = (typeof COUNTERS)[number];

/** `memoryKibMs`: memory in use × time, from a gauge that is read now and then. */
export const AMOUNTS = [...COUNTERS, 'memoryKibMs'] as const;
export type AmountName = (typeof AMOUNTS)[number];
export type ConsumedAmounts = Readonly<Partial<Record<AmountName, bigint>>>;

/** A reading that was kept. */
export interface KeptReading {
  readonly run: string | null;
  readonly atMs: number;
  /** It ran no more when its source was read last: whatever comes is another run. */
  readonly hasEnded: boolean;
  readonly counters: Readonly<Partial<Record<Counter, bigint>>>;
}

export type GapKind =
  /** The next reading came late: what was counted is known as a sum, gauges not at all. */
  | 'late'
  /** The counters began anew: what the earlier run did after its last reading is lost. */
  | 'reset'
  /** It ended, and nobody read what it did since the last reading. */
  | 'ended'
  /** A device was taken away, and with it what it had counted since the last reading. */
  | 'device'
  /** More than can be. */
  | 'absurd';

export interface Gap {
  readonly kind: GapKind;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Counted {
  readonly span: { readonly startMs: number; readonly endMs: number };
  readonly amounts: ConsumedAmounts;
  readonly gaps: readonly Gap[];
}

export interface Circumstances {
  /** How often it is read. */
  readonly everyMs: number;
  /** The run that is read now began before berth's eyes, and not before this moment; undefined when it was there already. */
  readonly beganMs: number | undefined;
}

/** Readings further apart than so many paces are a gap. */
export const LATE_PACES = 3;
/** An increase beyond this is no use of anything: 104 days of a processor, 9 PB. */
const MOST = BigInt(Number.MAX_SAFE_INTEGER);

/** @returns undefined when there is nothing to count and the reading is not to be kept: it is not newer than the last one. */
export function countBetween(
  before: KeptReading | undefined,
  now: VmSample,
  { everyMs, beganMs }: Circumstances,
): Counted | undefined {
  const { atMs } = now;
  const nothing = { span: { startMs: atMs, endMs: atMs }, amounts: {}, gaps: [] };
  if (before === undefined) {
    if (beganMs === undefined) return nothing;
    return risen(now, undefined, { startMs: Math.min(beganMs, atMs), endMs: atMs }, { everyMs, gaps: [] });
  }
  if (atMs <= before.atMs) return undefined;
  const span = { startMs: before.atMs, endMs: atMs };
  if (isNewRun(before, now)) {
    const startMs = Math.min(Math.max(before.atMs, beganMs ?? 0), atMs);
    // What it did between its last reading and its end was said when it ended.
    const gaps: Gap[] = before.hasEnded ? [] : [{ kind: 'reset', fromMs: before.atMs, toMs: atMs }];
    return risen(now, undefined, { startMs, endMs: atMs }, { everyMs, gaps });
  }
  const isLate = atMs - before.atMs > LATE_PACES * everyMs;
  return risen(now, before.counters, span, {
    everyMs,
    gaps: isLate ? [{ kind: 'late', fromMs: span.startMs, toMs: span.endMs }] : [],
  });
}

/** Of one run processor time never falls, whatever its name says: names of runs begin anew with their host. */
function isNewRun(before: KeptReading, now: VmSample): boolean {
  if (before.run !== null && now.run !== null && before.run !== now.run) return true;
  const cpu = before.counters.cpuNanoseconds;
  if (cpu !== undefined && now.cpuNanoseconds !== null && now.cpuNanoseconds < cpu) return true;
  if (now.run !== null && before.run === now.run) return false;
  if (before.hasEnded) return true;
  return cpu === undefined && COUNTERS.some((name) => (now[name] ?? 0n) < (before.counters[name] ?? 0n));
}

/**
 * @param from - what the counters stood at when the span began; undefined when the run is new, and they stood at nothing. One that is
 *   absent was not told then, and is a baseline. One that fell within a run lost a device: what is left is where it goes on from.
 */
function risen(
  now: VmSample,
  from: KeptReading['counters'] | undefined,
  span: Counted['span'],
  { everyMs, gaps }: { readonly everyMs: number; readonly gaps: readonly Gap[] },
): Counted {
  const amounts: Partial<Record<AmountName, bigint>> = {};
  const found = [...gaps];
  const note = (kind: GapKind): void => {
    if (!found.some((gap) => gap.kind === kind)) found.push({ kind, fromMs: span.startMs, toMs: span.endMs });
  };
  for (const name of COUNTERS) {
    const [was, is] = [from === undefined ? 0n : from[name], now[name]];
    if (is === null || was === undefined) continue;
    const rise = overTop(was, is, now.counterBits);
    if (rise < 0n) note('device');
    else if (rise > MOST) note('absurd');
    else if (rise > 0n) amounts[name] = rise;
  }
  const lengthMs = span.endMs - span.startMs;
  if (now.memoryUsedBytes !== null && lengthMs <= LATE_PACES * everyMs) {
    const product = (now.memoryUsedBytes / 1024n) * BigInt(lengthMs);
    if (product > MOST) note('absurd');
    else if (product > 0n) amounts.memoryKibMs = product;
  }
  return { span, amounts, gaps: found };
}

/** A counter that fell has gone over its top when that is the shorter way; otherwise the result is negative. */
function overTop(was: bigint, is: bigint, bits: 32 | 64 | undefined): bigint {
  if (is >= was || bits === undefined) return is - was;
  const range = 1n << BigInt(bits);
  const over = range - was + is;
  return was < range && over < range / 2n ? over : is - was;
}

/** The counters to go on from. One that was not told this time goes on from where it stood. */
export function keptAfter(before: KeptReading | undefined, now: VmSample): KeptReading {
  const stood = before !== undefined && !isNewRun(before, now) ? before.counters : {};
  const told = Object.fromEntries(COUNTERS.flatMap((name) => (now[name] === null ? [] : [[name, now[name]]])));
  return { run: now.run, atMs: now.atMs, hasEnded: false, counters: { ...stood, ...told } };
}

/**
 * What a period of the hypervisor's own measuring adds to what was counted until `untilMs`. Clocks of sources run apart from ours and
 * back: a period that begins less than half of it before that moment is the next one, any other was counted.
 *
 * @param hasEnded - the VM was known not to run any more: nothing was missed meanwhile.
 */
export function countPeriod(
  period: VmPeriod,
  { untilMs, hasEnded }: { readonly untilMs: number; readonly hasEnded: boolean },
): Counted | undefined {
  const halfMs = (period.endMs - period.startMs) / 2;
  if (halfMs <= 0 || period.startMs < untilMs - halfMs) return undefined;
  const span = { startMs: Math.max(period.startMs, untilMs), endMs: Math.max(period.endMs, untilMs) };
  const amounts: Partial<Record<AmountName, bigint>> = {};
  for (const name of ['cpuNanoseconds', 'diskReadBytes', 'diskWrittenBytes', 'receivedBytes', 'sentBytes'] as const)
    if (period[name] !== null && period[name] > 0n && period[name] <= MOST) amounts[name] = period[name];
  const product = ((period.memoryUsedBytes ?? 0n) / 1024n) * BigInt(span.endMs - span.startMs);
  if (product > 0n && product <= MOST) amounts.memoryKibMs = product;
  const isMissed = !hasEnded && period.startMs > untilMs + halfMs;
  return { span, amounts, gaps: isMissed ? [{ kind: 'late', fromMs: untilMs, toMs: period.startMs }] : [] };
}

const HOUR_MS = 3_600_000;

export interface HourPiece {
  readonly hourMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly amounts: ConsumedAmounts;
}

/**
 * Divides what was counted among UTC hours by time, in whole units, nothing lost: each piece ends where the rounded-down
 * running total stands.
 *
 * @param sinceMs - what lies before was counted by another source: it is left out.
 */
export function byHour({ span, amounts }: Counted, sinceMs: number): HourPiece[] {
  const { startMs, endMs } = span;
  if (endMs <= sinceMs) return [];
  const names = AMOUNTS.filter((name) => amounts[name] !== undefined);
  const lengthMs = BigInt(endMs - startMs);
  const until = (name: AmountName, ms: number): bigint =>
    ms >= endMs ? (amounts[name] ?? 0n) : ((amounts[name] ?? 0n) * BigInt(ms - startMs)) / lengthMs;
  const pieces: HourPiece[] = [];
  let from = Math.max(startMs, sinceMs);
  // All that a run did in no time at all, by clocks that stand: it belongs to the hour it was read in.
  if (from === endMs) return [{ hourMs: hourOf(endMs), startMs: endMs, endMs, amounts }];
  while (from < endMs) {
    const to = Math.min(hourOf(from) + HOUR_MS, endMs);
    const part = names.flatMap((name) => {
      const amount = until(name, to) - until(name, from);
      return amount > 0n ? [[name, amount] as const] : [];
    });
    pieces.push({ hourMs: hourOf(from), startMs: from, endMs: to, amounts: Object.fromEntries(part) });
    from = to;
  }
  return pieces;
}

export function hourOf(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS;
}
