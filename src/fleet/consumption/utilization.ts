/**
 * What became of a host, hour by hour, so that the parts are the whole: capacity + beyond = used + overhead + idle + unknown, in
 * whole nanoseconds of processor and KiB·ms of memory. Pure.
 *
 *     capacity  ├── used by VMs ──┼── overhead ──┼────── idle ──────┼─ unknown ─┤
 *               └── what the host says it used ──┘                  └ not read ─┘
 *
 * `overhead` is what the host used and no VM of it did. Where VMs used more than their host says it did altogether, the readings
 * disagree: there is no overhead then, and what is too much is taken off the time that was not read, then off the idle time. In an
 * hour that was read in part its VMs' use is taken to lie in that part. `beyond`: more was used than the host has by its own
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

/** What VMs used of a host. */
export interface HostUse {
  readonly hourMs: number;
  readonly cpuNanoseconds: bigint;
  readonly memoryKibMs: bigint;
}

/** What a host said that it used. */
export interface HostMeasured {
  readonly hourMs: number;
  readonly cpu: Measured;
  readonly memory: Measured;
}

export interface Measured {
  readonly amount: bigint;
  /** Of how much of the hour something is known. */
  readonly seenMs: number;
  /** What its VMs used is part of the amount. */
  readonly holdsVms: boolean;
}

export interface Share {
  readonly capacity: bigint;
  readonly used: bigint;
  readonly overhead: bigint;
  readonly idle: bigint;
  readonly unknown: bigint;
  readonly beyond: bigint;
}

export interface HostHour<P extends HostPresence = HostPresence> {
  /** The first of the hour. */
  readonly presence: P;
  readonly hourMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly cpuNanoseconds: Share;
  readonly memoryKibMs: Share;
}

export interface HostReadings {
  /** Each hour at most once. */
  readonly uses: readonly HostUse[];
  /** Each hour at most once; an hour that is not among them was not read. */
  readonly measured: readonly HostMeasured[];
}

const NOT_READ: Measured = { amount: 0n, seenMs: 0, holdsVms: true };

/**
 * One hour after another of the time the host was there, within the span.
 *
 * @param presences - in order, never two at a time: its capacity may change, and it may have been away.
 */
export function hostHours<P extends HostPresence>(
  presences: readonly P[],
  { uses, measured }: HostReadings,
  span: { readonly fromMs: number; readonly toMs: number },
): HostHour<P>[] {
  const useIn = new Map(uses.map((use) => [use.hourMs, use]));
  const measuredIn = new Map(measured.map((one) => [one.hourMs, one]));
  return [...wholeHours(presences, span)].map(([hourMs, { first, startMs, endMs, ms, cpu, memory }]) => {
    const [use, told] = [useIn.get(hourMs), measuredIn.get(hourMs)];
    return {
      presence: first,
      hourMs,
      startMs,
      endMs,
      cpuNanoseconds: shareOf({ capacity: cpu, ms }, use?.cpuNanoseconds ?? 0n, told?.cpu ?? NOT_READ),
      memoryKibMs: shareOf({ capacity: memory, ms }, use?.memoryKibMs ?? 0n, told?.memory ?? NOT_READ),
    };
  });
}

interface WholeHour<P> {
  readonly first: P;
  readonly startMs: number;
  readonly endMs: number;
  /** Of it the host was there. */
  readonly ms: number;
  readonly cpu: bigint;
  readonly memory: bigint;
}

function wholeHours<P extends HostPresence>(
  presences: readonly P[],
  span: { readonly fromMs: number; readonly toMs: number },
): Map<number, WholeHour<P>> {
  const hours = new Map<number, WholeHour<P>>();
  for (const presence of presences) {
    const toMs = Math.min(presence.endMs, span.toMs);
    for (let startMs = Math.max(presence.startMs, span.fromMs); startMs < toMs; ) {
      const hourMs = hourOf(startMs);
      const endMs = Math.min(hourMs + HOUR_MS, toMs);
      const ms = endMs - startMs;
      const before = hours.get(hourMs) ?? { first: presence, startMs, ms: 0, cpu: 0n, memory: 0n };
      hours.set(hourMs, {
        first: before.first,
        startMs: before.startMs,
        endMs,
        ms: before.ms + ms,
        cpu: before.cpu + BigInt(presence.threads) * 1_000_000n * BigInt(ms),
        memory: before.memory + BigInt(Math.floor(presence.memoryBytes / 1024)) * BigInt(ms),
      });
      startMs = endMs;
    }
  }
  return hours;
}

/** What the host itself needed; none where VMs used more than it says of all. */
export function overheadOf(used: bigint, { amount, holdsVms }: Measured): bigint {
  return holdsVms ? larger(amount - used, 0n) : amount;
}

function shareOf(whole: { readonly capacity: bigint; readonly ms: number }, used: bigint, measured: Measured): Share {
  const { capacity, ms } = whole;
  const overhead = overheadOf(used, measured);
  const busy = measured.holdsVms ? measured.amount : measured.amount + used;
  const seen = (capacity * BigInt(Math.min(measured.seenMs, ms))) / BigInt(ms);
  const left = capacity - used - overhead;
  const free = larger(left, 0n);
  const idle = smaller(larger(seen - busy, 0n), free);
  return { capacity, used, overhead, idle, unknown: free - idle, beyond: larger(-left, 0n) };
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
