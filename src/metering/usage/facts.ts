/** What metering is told: who had what, when. Times are UTC milliseconds, intervals `[startMs, endMs)`. */
import type { Exact } from '../exact.ts';

/** Power states that differ in what is allocated. `unknown`: nobody could see; such time is a gap, not usage. */
export const POWER_STATES = ['running', 'paused', 'asleep', 'off', 'unknown'] as const;
export type PowerState = (typeof POWER_STATES)[number];

/** A VM with one shape, state, place and owner for a time. Of one VM they never overlap. */
export interface AllocationInterval {
  readonly vm: string;
  readonly name: string;
  readonly source: string;
  readonly host: string;
  /** See `machineOf`. */
  readonly machine?: string | undefined;
  readonly project: string | undefined;
  readonly owner: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly power: PowerState;
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** Memory it shares, unwritten, with all others of the group on the same host: counted once, split evenly. */
  readonly sharedMemory: { readonly group: string; readonly bytes: number } | undefined;
  readonly disks: readonly DiskAllocation[];
  readonly addresses: number;
  readonly startMs: number;
  readonly endMs: number;
}

export interface DiskAllocation {
  readonly class: string;
  readonly bytes: number;
  readonly iops: number | undefined;
}

export interface HostName {
  readonly source: string;
  readonly host: string;
}

/** A host's capacity for a time, and what of it the hypervisor itself needs. Of one machine they never overlap. */
export interface HostInterval extends HostName {
  readonly machine?: string | undefined;
  /** What other sources call the machine meanwhile: prices that select one of these names hold as well. */
  readonly also?: readonly HostName[] | undefined;
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly overheadVcpus: number;
  readonly overheadMemoryBytes: number;
  /** What it needed as it was measured, on average over the interval: in place of the two above. */
  readonly measured?: { readonly vcpus: Exact; readonly memoryBytes: Exact };
  readonly startMs: number;
  readonly endMs: number;
}

/** What a host itself needed in a piece of a UTC hour, as it was measured. Of one machine they never overlap. */
export interface HostOverhead extends HostName {
  readonly machine?: string | undefined;
  readonly cpuNs: bigint;
  readonly memoryByteMs: bigint;
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * What tells a machine from others: hosts of several sources may be one, whose capacity is there once. A host of which nothing
 * else is said is a machine by itself.
 */
export function machineOf(one: HostName & { readonly machine?: string | undefined }): string {
  return JSON.stringify(one.machine === undefined ? [one.source, one.host] : [one.machine]);
}

/** Counters that only rise, until something restarts. */
export const COUNTERS = [
  'cpuNs',
  'networkInBytes',
  'networkOutBytes',
  'diskOperations',
  'diskReadBytes',
  'diskWrittenBytes',
] as const;
export type Counter = (typeof COUNTERS)[number];

/** What can be consumed: what counters count, operations apart as far as that is known, and memory in use × time. */
export const MEASURES = [...COUNTERS, 'diskReadOperations', 'diskWriteOperations', 'memoryByteMs'] as const;
export type Measure = (typeof MEASURES)[number];

export interface CounterSample {
  readonly vm: string;
  readonly atMs: number;
  readonly counters: Readonly<Partial<Record<Counter, bigint>>>;
  /** Where a counter wraps, 32 or 64 bits; absent where it does not. */
  readonly wrapBits: 32 | 64 | undefined;
}

/** What was consumed in a piece of an hour. Pieces between the same two samples add up to what was counted. */
export interface Consumption {
  readonly vm: string;
  readonly counter: Measure;
  readonly startMs: number;
  readonly endMs: number;
  readonly amount: bigint;
}

/** A time of which the counters of a VM tell less than happened. */
export interface UnseenTime {
  readonly vm: string;
  readonly kind: (typeof GAP_KINDS)[number];
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * `late`: the next reading came late, its count is spread evenly. `reset`: counters began anew, what they had counted unseen is
 * lost; `ended`, `device`: with the VM, or with a device of it. `absurd`: more than can be, and not counted.
 */
export const GAP_KINDS = ['late', 'reset', 'ended', 'device', 'absurd'] as const;

export interface UsageFacts {
  readonly intervals: readonly AllocationInterval[];
  readonly hosts: readonly HostInterval[];
  readonly samples: readonly CounterSample[];
  /** Counted already, by a sample store or the fleet. */
  readonly consumed?: readonly Consumption[];
  /** When whoever counted did not see everything. */
  readonly gaps?: readonly UnseenTime[];
}
