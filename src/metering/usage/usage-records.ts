/**
 * From allocation intervals to usage records: one per VM, UTC hour (or day, or month) and unchanged facts. Pure.
 *
 * Each machine is swept once over time. Between two changes on it nothing changes, so that memory shared by clones can be
 * counted once and split among those that share it just then; and capacity = allocated + overhead + idle − overcommitted
 * holds for every host and every hour, to the byte·ms.
 */
import { Exact } from '../exact.ts';
import { type AllocationInterval, type HostInterval, type HostName, machineOf } from './facts.ts';
import { cutsWithin, type Window, windowStart } from './time-cuts.ts';

/** Base units (see rate-card/units.ts) by resource: `vcpu` in vCPU·ms, `memory` and `disk:ssd` in byte·ms, … */
export type Amounts = ReadonlyMap<string, Exact>;

export interface UsageRecord {
  readonly interval: AllocationInterval;
  /** Within one window, and on one side of every cut. */
  readonly startMs: number;
  readonly endMs: number;
  readonly amounts: Amounts;
}

/** One host in one window (cut as usage records are). Each pair of figures is vCPU·ms and byte·ms. */
export interface HostRecord {
  /** Of the source that describes the machine just then. */
  readonly source: string;
  readonly host: string;
  /** See `machineOf`. */
  readonly machine: string;
  readonly also: readonly HostName[];
  readonly startMs: number;
  readonly endMs: number;
  readonly capacity: HostShare;
  readonly allocated: HostShare;
  readonly overhead: HostShare;
  readonly idle: HostShare;
  /** What was given out beyond the capacity. */
  readonly overcommitted: HostShare;
}

export interface HostShare {
  readonly vcpu: Exact;
  readonly memory: Exact;
}

export interface AllocationUsage {
  readonly records: readonly UsageRecord[];
  readonly hosts: readonly HostRecord[];
}

/** States in which processors and memory are taken. */
const HOLDS_MEMORY: ReadonlySet<string> = new Set(['running', 'paused']);

/** What no record may span. */
export interface Cutting {
  /** Further moments, sorted: price changes, changes of attribution. */
  readonly atMs: readonly number[];
  /** Usually the hour; larger estates keep fewer records. */
  readonly window: Window;
}

export const HOURLY: Cutting = { atMs: [], window: 'hour' };

export function usageOf(
  intervals: readonly AllocationInterval[],
  hosts: readonly HostInterval[],
  cutting: Cutting = HOURLY,
): AllocationUsage {
  const machines = new Map<string, { intervals: AllocationInterval[]; hosts: HostInterval[] }>();
  const onMachine = (one: AllocationInterval | HostInterval) => {
    const key = machineOf(one);
    const machine = machines.get(key) ?? { intervals: [], hosts: [] };
    machines.set(key, machine);
    return machine;
  };
  for (const one of intervals) if (one.power !== 'unknown') onMachine(one).intervals.push(one);
  for (const one of hosts) onMachine(one).hosts.push(one);
  const records: UsageRecord[] = [];
  const hostRecords: HostRecord[] = [];
  for (const machine of machines.values()) {
    const swept = sweepMachine(machine.intervals, machine.hosts, cutting);
    records.push(...swept.records);
    hostRecords.push(...swept.hosts);
  }
  return { records, hosts: hostRecords };
}

interface OpenRecord {
  readonly interval: AllocationInterval;
  readonly startMs: number;
  endMs: number;
  memory: Exact;
}

interface OpenHost {
  readonly host: HostInterval;
  readonly startMs: number;
  endMs: number;
  allocatedVcpu: bigint;
  allocatedMemory: bigint;
  /** What the host itself needs, at any time. */
  readonly overhead: HostShare;
  idleVcpu: Exact;
  idleMemory: Exact;
  overVcpu: Exact;
  overMemory: Exact;
}

function sweepMachine(
  intervals: readonly AllocationInterval[],
  hosts: readonly HostInterval[],
  cutting: Cutting,
): { records: UsageRecord[]; hosts: HostRecord[] } {
  const starting = [...intervals].sort((a, b) => a.startMs - b.startMs);
  const startingHosts = [...hosts].sort((a, b) => a.startMs - b.startMs);
  const moments = momentsOf([...intervals, ...hosts], cutting);
  const cuts = new Set(cutting.atMs);
  const records: UsageRecord[] = [];
  const hostRecords: HostRecord[] = [];
  let [next, nextHost] = [0, 0];
  let active: OpenRecord[] = [];
  let host: OpenHost | undefined;
  for (const [index, fromMs] of moments.entries()) {
    const toMs = moments[index + 1];
    const isCut = fromMs === windowStart(fromMs, cutting.window) || cuts.has(fromMs);
    const going: OpenRecord[] = [];
    for (const open of active) {
      const isOver = open.interval.endMs <= fromMs;
      if (isOver || isCut) records.push(closed(open));
      if (!isOver) going.push(isCut ? opened(open.interval, fromMs) : open);
    }
    for (let one = starting[next]; one !== undefined && one.startMs <= fromMs; one = starting[next]) {
      if (one.endMs > fromMs) going.push(opened(one, fromMs));
      next += 1;
    }
    active = going;
    if (host !== undefined && (host.host.endMs <= fromMs || isCut)) {
      hostRecords.push(closedHost(host));
      host = host.host.endMs <= fromMs ? undefined : openedHost(host.host, fromMs);
    }
    for (let one = startingHosts[nextHost]; one !== undefined && one.startMs <= fromMs; one = startingHosts[nextHost]) {
      if (one.endMs > fromMs) host = openedHost(one, fromMs);
      nextHost += 1;
    }
    if (toMs !== undefined) addSlice(active, host, { fromMs, toMs });
  }
  return { records, hosts: hostRecords };
}

/** Adds what is taken between two moments in which nothing changes. */
function addSlice(
  active: readonly OpenRecord[],
  host: OpenHost | undefined,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): void {
  const ms = BigInt(toMs - fromMs);
  const sharing = new Map<string, { members: number; largestBytes: number }>();
  for (const { interval } of active) {
    if (interval.sharedMemory === undefined || !HOLDS_MEMORY.has(interval.power)) continue;
    const { group, bytes } = interval.sharedMemory;
    const found = sharing.get(group);
    sharing.set(group, {
      members: (found?.members ?? 0) + 1,
      largestBytes: Math.max(found?.largestBytes ?? 0, bytes),
    });
  }
  let [vcpus, memoryBytes] = [0n, 0n];
  for (const { largestBytes } of sharing.values()) memoryBytes += BigInt(largestBytes);
  for (const open of active) {
    open.endMs = toMs;
    const { interval } = open;
    if (!HOLDS_MEMORY.has(interval.power)) continue;
    vcpus += BigInt(interval.vcpus);
    const own = BigInt(interval.memoryBytes - (interval.sharedMemory?.bytes ?? 0));
    memoryBytes += own;
    let taken = Exact.of(own * ms);
    if (interval.sharedMemory !== undefined) {
      const group = sharing.get(interval.sharedMemory.group);
      taken = taken.plus(Exact.of(BigInt(group?.largestBytes ?? 0) * ms, BigInt(group?.members ?? 1)));
    }
    open.memory = open.memory.plus(taken);
  }
  if (host === undefined) return;
  host.endMs = toMs;
  host.allocatedVcpu += vcpus * ms;
  host.allocatedMemory += memoryBytes * ms;
  const length = Exact.of(ms);
  const free = (capacity: number, given: bigint, overhead: Exact): Exact =>
    Exact.of(BigInt(capacity) - given)
      .minus(overhead)
      .times(length);
  const freeVcpu = free(host.host.vcpus, vcpus, host.overhead.vcpu);
  const freeMemory = free(host.host.memoryBytes, memoryBytes, host.overhead.memory);
  if (freeVcpu.isNegative) host.overVcpu = host.overVcpu.minus(freeVcpu);
  else host.idleVcpu = host.idleVcpu.plus(freeVcpu);
  if (freeMemory.isNegative) host.overMemory = host.overMemory.minus(freeMemory);
  else host.idleMemory = host.idleMemory.plus(freeMemory);
}

function momentsOf(
  spans: readonly { readonly startMs: number; readonly endMs: number }[],
  { atMs, window }: Cutting,
): number[] {
  const moments = new Set<number>();
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { startMs, endMs } of spans) {
    moments.add(startMs);
    moments.add(endMs);
    first = Math.min(first, startMs);
    last = Math.max(last, endMs);
  }
  if (first < last)
    for (const cut of cutsWithin({ startMs: first, endMs: last }, { extra: atMs, window })) moments.add(cut);
  return [...moments].sort((a, b) => a - b);
}

function opened(interval: AllocationInterval, startMs: number): OpenRecord {
  return { interval, startMs, endMs: startMs, memory: Exact.zero };
}

function closed(open: OpenRecord): UsageRecord {
  const { interval, startMs, endMs } = open;
  const ms = BigInt(endMs - startMs);
  const amounts = new Map<string, Exact>();
  const add = (resource: string, amount: Exact): void => {
    if (!amount.isZero) amounts.set(resource, (amounts.get(resource) ?? Exact.zero).plus(amount));
  };
  if (HOLDS_MEMORY.has(interval.power)) {
    add('vcpu', Exact.of(BigInt(interval.vcpus) * ms));
    add('memory', open.memory);
  }
  for (const disk of interval.disks) {
    add(`disk:${disk.class}`, Exact.of(BigInt(disk.bytes) * ms));
    add('provisioned-iops', Exact.of(BigInt(disk.iops ?? 0) * ms));
  }
  add('address', Exact.of(BigInt(interval.addresses) * ms));
  return { interval, startMs, endMs, amounts };
}

function openedHost(host: HostInterval, startMs: number): OpenHost {
  const { measured } = host;
  const overhead = {
    vcpu: measured?.vcpus ?? Exact.of(BigInt(host.overheadVcpus)),
    memory: measured?.memoryBytes ?? Exact.of(BigInt(host.overheadMemoryBytes)),
  };
  return {
    host,
    startMs,
    endMs: startMs,
    allocatedVcpu: 0n,
    allocatedMemory: 0n,
    overhead,
    idleVcpu: Exact.zero,
    idleMemory: Exact.zero,
    overVcpu: Exact.zero,
    overMemory: Exact.zero,
  };
}

function closedHost(open: OpenHost): HostRecord {
  const { host, startMs, endMs, overhead } = open;
  const length = Exact.of(BigInt(endMs - startMs));
  return {
    source: host.source,
    host: host.host,
    machine: machineOf(host),
    also: host.also ?? [],
    startMs,
    endMs,
    capacity: {
      vcpu: Exact.of(BigInt(host.vcpus)).times(length),
      memory: Exact.of(BigInt(host.memoryBytes)).times(length),
    },
    allocated: { vcpu: Exact.of(open.allocatedVcpu), memory: Exact.of(open.allocatedMemory) },
    overhead: { vcpu: overhead.vcpu.times(length), memory: overhead.memory.times(length) },
    idle: { vcpu: open.idleVcpu, memory: open.idleMemory },
    overcommitted: { vcpu: open.overVcpu, memory: open.overMemory },
  };
}
