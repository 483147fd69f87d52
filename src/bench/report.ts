/** What a benchmark has found: values of several sides, and what was promised of them. Plain data, as the JSON has it. */
import type { Interval } from './statistics.ts';

export const VERBS = ['start', 'burst', 'density', 'idle', 'fork', 'wake'] as const;
export type BenchVerb = (typeof VERBS)[number];

export type Unit = 'ms' | 's' | 'MB' | '%' | 'VMs';

/** All values of one side, in the order they were measured. */
export interface Series {
  readonly side: string;
  readonly values: readonly number[];
  /** What was looked at so that the values count: one phrase. */
  readonly check: string;
}

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly series: readonly Series[];
}

export interface MissingSide {
  readonly side: string;
  readonly why: string;
  /** The Debian package that brings it; absent when something else is in the way. */
  readonly package?: string;
}

export interface Verdict {
  readonly claim: string;
  /** Absent when a side or the measure was not there. */
  readonly value?: number;
  /** Of a ratio of medians, 95 %. */
  readonly interval?: Interval;
  readonly unit: Unit | 'ratio';
  readonly sense: 'at most' | 'at least';
  readonly must: number;
  readonly aim: number;
  readonly outcome: 'holds' | 'does not hold' | 'not measured';
  /** Why nothing was measured, with the package that is missing. */
  readonly why?: string;
}

export interface SideFacts {
  readonly side: string;
  /** Versions, storage driver and the like: one phrase each. */
  readonly facts: readonly string[];
}

export interface Report {
  readonly verb: BenchVerb;
  readonly at: string;
  readonly machine: {
    readonly cpus: number;
    readonly cpuModel: string;
    readonly memoryBytes: number;
    readonly kernel: string;
    readonly load: number;
  };
  readonly sides: readonly SideFacts[];
  readonly missing: readonly MissingSide[];
  readonly measures: readonly Measure[];
  readonly verdicts: readonly Verdict[];
}
