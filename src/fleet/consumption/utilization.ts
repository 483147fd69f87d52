/**
 * How much of a host its VMs used, hour by hour, so that the parts are the whole: capacity + beyond = used + rest, in whole
 * nanoseconds of processor and KiB·ms of memory. Pure.
 *
 * `rest` is what no VM used: idle, and what the hypervisor itself needed. `beyond`: VMs used more than the host has by its own
 * word; readings that came late do that, and memory that is swapped.
 */
import { hourOf } from './counting.ts';

const HOUR_MS = 3_600_000;

export interface HostPresence {
  readonly threads: number;
  readonly memoryBytes: number;
  readonly startMs: number;
  readonly endMs: number;
}

export interface HostUse {
  readonly hourMs: number;
  readonly cpuNanoseconds: bigint;
  readonly memoryKibMs: bigint;
}

export interface Share {
  readonly capacity: bigint;
  readonly used: bigint;
  readonly rest: bigint;
  readonly beyond: bigint;
}

export interface HostHour {
  readonly hourMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly cpuNanoseconds: Share;
  readonly memoryKibMs: Share;
}

/** One hour after another of the time the host was there, within the span. @param uses - each hour at most once. */
export function hostHours(
  host: HostPresence,
  uses: readonly HostUse[],
  span: { readonly fromMs: number; readonly toMs: number },
): HostHour[] {
  const byHour = new Map(uses.map((use) => [use.hourMs, use]));
  const [fromMs, toMs] = [Math.max(host.startMs, span.fromMs), Math.min(host.endMs, span.toMs)];
  const hours: HostHour[] = [];
  for (let startMs = fromMs; startMs < toMs; ) {
    const hourMs = hourOf(startMs);
    const endMs = Math.min(hourMs + HOUR_MS, toMs);
    const ms = BigInt(endMs - startMs);
    const use = byHour.get(hourMs);
    hours.push({
      hourMs,
      startMs,
      endMs,
      cpuNanoseconds: shareOf(BigInt(host.threads) * ms * 1_000_000n, use?.cpuNanoseconds ?? 0n),
      memoryKibMs: shareOf(BigInt(Math.floor(host.memoryBytes / 1024)) * ms, use?.memoryKibMs ?? 0n),
    });
    startMs = endMs;
  }
  return hours;
}

function shareOf(capacity: bigint, used: bigint): Share {
  const left = capacity - used;
  return { capacity, used, rest: left > 0n ? left : 0n, beyond: left < 0n ? -left : 0n };
}
