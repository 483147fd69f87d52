/** What became of hosts as rows of a table: one of processors and one of memory for each host, or each hour of it. Pure. */
import type { HostUseListing } from '#fleet';
import { bytes } from './fleet-rows.ts';
import { instantText } from './instants.ts';
import type { Row } from './listing.ts';

type Share = Readonly<Record<keyof HostUseListing['cpuNs'], bigint>>;

const PARTS = ['capacity', 'used', 'overhead', 'idle', 'unknown', 'beyond'] as const;

/** A host in a time of one piece. */
export interface HostUseSum {
  readonly source: string;
  readonly host: string;
  /** Other sources that show the same machine, by name. */
  readonly alsoIn: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
  /** Of which something is told: a host may have been away in between. */
  readonly lengthMs: number;
  readonly cpuNs: Share;
  readonly memoryKibMs: Share;
}

/** @param isHourly - each hour by itself; otherwise all of a host's are added up. In the order they came in. */
export function hostUseSums(hours: readonly HostUseListing[], isHourly: boolean): HostUseSum[] {
  const sums = new Map<string, HostUseSum>();
  for (const hour of hours) {
    const one = sumOf(hour);
    const key = JSON.stringify([hour.source, hour.host, isHourly ? hour.start : '']);
    const before = sums.get(key);
    sums.set(key, before === undefined ? one : together(before, one));
  }
  return [...sums.values()];
}

function sumOf(hour: HostUseListing): HostUseSum {
  const { source, host } = hour;
  const alsoIn = hour.also.map((one) => one.source);
  const [startMs, endMs] = [Date.parse(hour.start), Date.parse(hour.end)];
  const share = (text: HostUseListing['cpuNs']): Share => shareOf((part) => BigInt(text[part]));
  const shares = { cpuNs: share(hour.cpuNs), memoryKibMs: share(hour.memoryKibMs) };
  return { source, host, alsoIn, startMs, endMs, lengthMs: endMs - startMs, ...shares };
}

function together(a: HostUseSum, b: HostUseSum): HostUseSum {
  return {
    ...a,
    alsoIn: [...new Set([...a.alsoIn, ...b.alsoIn])],
    startMs: Math.min(a.startMs, b.startMs),
    endMs: Math.max(a.endMs, b.endMs),
    lengthMs: a.lengthMs + b.lengthMs,
    cpuNs: shareOf((part) => a.cpuNs[part] + b.cpuNs[part]),
    memoryKibMs: shareOf((part) => a.memoryKibMs[part] + b.memoryKibMs[part]),
  };
}

function shareOf(amount: (part: (typeof PARTS)[number]) => bigint): Share {
  return Object.fromEntries(PARTS.map((part) => [part, amount(part)])) as Share;
}

export const HOST_USE_COLUMNS: readonly (readonly [string, string])[] = [
  ['Host', 'HOST'],
  ['Source', 'SOURCE'],
  ['From', 'FROM'],
  ['To', 'TO'],
  ['What', 'WHAT'],
  ['Capacity', 'CAPACITY'],
  ['VMs', 'VMS'],
  ['Overhead', 'OVERHEAD'],
  ['Idle', 'IDLE'],
  ['Unknown', 'UNKNOWN'],
];

export function hostUseRows(sum: HostUseSum): Row[] {
  const { source, host, alsoIn, startMs, endMs, lengthMs, cpuNs, memoryKibMs } = sum;
  const place = {
    Host: host,
    Source: [source, ...alsoIn].join(', '),
    From: instantText(startMs),
    To: instantText(endMs),
  };
  const perMs = (amount: bigint): number => (lengthMs > 0 ? Number(amount) / lengthMs : 0);
  return [
    { ...place, What: 'processors', Capacity: String(perMs(cpuNs.capacity) / 1e6), ...percentsOf(cpuNs) },
    { ...place, What: 'memory', Capacity: bytes(perMs(memoryKibMs.capacity) * 1024), ...percentsOf(memoryKibMs) },
  ];
}

function percentsOf({ capacity, used, overhead, idle, unknown }: Share): Row {
  const percent = (part: bigint): string =>
    capacity === 0n ? '-' : `${(Number((part * 10_000n) / capacity) / 100).toFixed(1)}%`;
  return { VMs: percent(used), Overhead: percent(overhead), Idle: percent(idle), Unknown: percent(unknown) };
}
