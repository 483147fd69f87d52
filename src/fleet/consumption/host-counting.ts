/**
 * From two readings of a host's counters to what it used between them: as VMs' are counted (counting.ts), and with the time of
 * which something is known, since what a host did not say is not its idle time. Pure.
 */
import type { HostPeriod, HostSample } from '../driver.ts';
import { type ConsumedAmounts, countPeriod, LATE_PACES } from './counting.ts';

/** A reading that was kept. */
export interface KeptHostReading {
  readonly run: string | null;
  readonly atMs: number;
  readonly cpuNanoseconds: bigint | null;
}

export interface HostGap {
  /** `late`: memory is not known of that time. `reset`: it began anew unseen. `absurd`: more than can be. */
  readonly kind: 'late' | 'reset' | 'absurd';
  readonly fromMs: number;
  readonly toMs: number;
}

export interface HostCounted {
  readonly span: { readonly startMs: number; readonly endMs: number };
  /** Of the whole span; absent where it is not known. Nothing used is 0. */
  readonly amounts: Pick<ConsumedAmounts, 'cpuNanoseconds' | 'memoryKibMs'>;
  readonly gaps: readonly HostGap[];
}

/** No machine has more processors, nor more memory: beyond that it is no measurement, and sums stay within 63 bits. */
const MOST_THREADS = 16_384n;
const MOST_MEMORY_BYTES = 1n << 50n;

/** @returns undefined when the reading is not newer than the last one: it is not to be kept. */
export function countHost(
  before: KeptHostReading | undefined,
  now: HostSample,
  everyMs: number,
): HostCounted | undefined {
  const { atMs } = now;
  if (before === undefined) return { span: { startMs: atMs, endMs: atMs }, amounts: {}, gaps: [] };
  if (atMs <= before.atMs) return undefined;
  const isNew = isNewRun(before, now);
  const startMs = isNew ? Math.min(Math.max(before.atMs, now.beganMs ?? 0), atMs) : before.atMs;
  const gaps: HostGap[] = isNew ? [{ kind: 'reset', fromMs: before.atMs, toMs: atMs }] : [];
  const lengthMs = atMs - startMs;
  if (!isNew && lengthMs > LATE_PACES * everyMs) gaps.push({ kind: 'late', fromMs: startMs, toMs: atMs });
  const amounts: { cpuNanoseconds?: bigint; memoryKibMs?: bigint } = {};
  const cpu = cpuRisen(before, now, isNew);
  if (cpu === 'absurd' || (cpu !== undefined && cpu > BigInt(lengthMs) * 1_000_000n * MOST_THREADS))
    gaps.push({ kind: 'absurd', fromMs: startMs, toMs: atMs });
  else if (cpu !== undefined) amounts.cpuNanoseconds = cpu;
  const { memoryUsedBytes } = now;
  const isGaugeKnown = memoryUsedBytes !== null && memoryUsedBytes >= 0n && memoryUsedBytes <= MOST_MEMORY_BYTES;
  if (isGaugeKnown && lengthMs <= LATE_PACES * everyMs)
    amounts.memoryKibMs = (memoryUsedBytes / 1024n) * BigInt(lengthMs);
  return { span: { startMs, endMs: atMs }, amounts, gaps };
}

/** Without a name for it a boot shows in counters that fell, or that by their own account began after the last reading. */
function isNewRun(before: KeptHostReading, now: HostSample): boolean {
  if (before.run !== null && now.run !== null) return before.run !== now.run;
  const hasFallen =
    before.cpuNanoseconds !== null && now.cpuNanoseconds !== null && now.cpuNanoseconds < before.cpuNanoseconds;
  return hasFallen || (now.beganMs !== null && now.beganMs > before.atMs);
}

function cpuRisen(before: KeptHostReading, now: HostSample, isNew: boolean): bigint | 'absurd' | undefined {
  if (now.cpuNanoseconds === null) return undefined;
  if (isNew) return now.cpuNanoseconds;
  if (before.cpuNanoseconds === null) return undefined;
  // Of one boot it never falls.
  return now.cpuNanoseconds < before.cpuNanoseconds ? 'absurd' : now.cpuNanoseconds - before.cpuNanoseconds;
}

/** What a period adds to what was counted until `untilMs`; undefined when that held it already. See `countPeriod`. */
export function countHostPeriod(
  period: HostPeriod,
  { untilMs, isFirst }: { readonly untilMs: number; readonly isFirst: boolean },
): HostCounted | undefined {
  const others = { diskReadBytes: null, diskWrittenBytes: null, receivedBytes: null, sentBytes: null };
  const counted = countPeriod({ ...period, ...others }, { untilMs, hasEnded: isFirst });
  if (counted === undefined) return undefined;
  const { cpuNanoseconds, memoryUsedBytes, endMs, startMs } = period;
  const isCpuKnown =
    cpuNanoseconds !== null &&
    cpuNanoseconds >= 0n &&
    cpuNanoseconds <= BigInt(endMs - startMs) * 1_000_000n * MOST_THREADS;
  const isMemoryKnown = memoryUsedBytes !== null && memoryUsedBytes >= 0n && memoryUsedBytes <= MOST_MEMORY_BYTES;
  const lengthMs = BigInt(counted.span.endMs - counted.span.startMs);
  return {
    span: counted.span,
    amounts: {
      ...(isCpuKnown ? { cpuNanoseconds } : {}),
      ...(isMemoryKnown ? { memoryKibMs: (memoryUsedBytes / 1024n) * lengthMs } : {}),
    },
    gaps: counted.gaps.map(({ fromMs, toMs }) => ({ kind: 'late' as const, fromMs, toMs })),
  };
}
