/**
 * Usage facts as a file of JSON lines, version 1. The first line says what it is; each other line is one fact. All
 * problems are collected with their line. An interval without an end is open and ends at the header's `asOf`.
 *
 *     {"berth":"usage","version":1,"asOf":"2026-12-01T00:00:00Z"}
 *     {"type":"interval","vm":"…","name":"web","source":"lab","host":"h1","power":"running","vcpus":2,
 *      "memoryBytes":4294967296,"disks":[{"class":"ssd","bytes":21474836480}],"start":"…Z","end":"…Z"}
 *     {"type":"host","source":"lab","host":"h1","vcpus":16,"memoryBytes":…,"start":"…Z"}
 *     {"type":"host","source":"lab","host":"h1","machine":"m1",…}    what "m1" is elsewhere is the same machine
 *     {"type":"sample","vm":"…","at":"…Z","counters":{"networkOutBytes":"123"}}
 *     {"type":"consumed","vm":"…","amounts":{"cpuNs":"123"},"start":"…Z","end":"…Z"}
 *     {"type":"overhead","source":"lab","host":"h1","cpuNs":"123","memoryByteMs":"456","start":"…Z","end":"…Z"}
 *     {"type":"gap","vm":"…","kind":"late","start":"…Z","end":"…Z"}
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import {
  type AllocationInterval,
  COUNTERS,
  type Consumption,
  type CounterSample,
  GAP_KINDS,
  type HostInterval,
  type HostOverhead,
  MEASURES,
  POWER_STATES,
  type UnseenTime,
  type UsageFacts,
} from './facts.ts';
import { withMeasuredOverhead } from './measured-overhead.ts';
import { windowStart } from './time-cuts.ts';

const VERSION = 1;
/** Names, ids and tag values of hypervisors are shorter. */
const MOST_TEXT = 1024;
/** Problems that are listed; a wrong file is wrong on every line. */
const MOST_PROBLEMS = 50;

/** Names come from hypervisors, and go to terminals and files: characters that control those are shown as U+FFFD. */
const harmless = (value: string): string => value.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd');
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(MOST_TEXT), v.transform(harmless));
const time = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/, 'a UTC time such as 2026-01-31T09:30:00Z is wanted'),
  v.transform((value) => Date.parse(value)),
  v.number('there is no such time'),
);
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const header = v.strictObject({ berth: v.literal('usage'), version: v.literal(VERSION), asOf: v.optional(time) });
const interval = v.strictObject({
  type: v.literal('interval'),
  vm: text,
  name: text,
  source: text,
  host: text,
  machine: v.optional(text),
  project: v.optional(text),
  owner: v.optional(text),
  tags: v.optional(v.record(text, v.pipe(v.string(), v.maxLength(MOST_TEXT), v.transform(harmless))), {}),
  power: v.picklist(POWER_STATES),
  vcpus: count,
  memoryBytes: count,
  sharedMemory: v.optional(v.strictObject({ group: text, bytes: count })),
  disks: v.optional(
    v.pipe(v.array(v.strictObject({ class: text, bytes: count, iops: v.optional(count) })), v.maxLength(1024)),
    [],
  ),
  addresses: v.optional(count, 0),
  start: time,
  end: v.optional(time),
});
const host = v.strictObject({
  type: v.literal('host'),
  source: text,
  host: text,
  machine: v.optional(text),
  also: v.optional(v.pipe(v.array(v.strictObject({ source: text, host: text })), v.maxLength(64))),
  vcpus: count,
  memoryBytes: count,
  overheadVcpus: v.optional(count, 0),
  overheadMemoryBytes: v.optional(count, 0),
  start: time,
  end: v.optional(time),
});
/** Counters beyond 2^53 come as text. */
const counter = v.pipe(
  v.union([count, v.pipe(v.string(), v.regex(/^\d{1,20}$/))]),
  v.transform((value) => BigInt(value)),
);
const sample = v.strictObject({
  type: v.literal('sample'),
  vm: text,
  at: time,
  counters: v.strictObject(v.entriesFromList(COUNTERS, v.optional(counter))),
  wrapBits: v.optional(v.picklist([32, 64])),
});
/** Counted already. It lies within one UTC hour; where it was counted, and the average rates, are for people. */
const consumed = v.strictObject({
  type: v.literal('consumed'),
  vm: text,
  source: v.optional(text),
  host: v.optional(text),
  amounts: v.strictObject(v.entriesFromList(MEASURES, v.optional(counter))),
  rates: v.optional(v.record(text, text)),
  start: time,
  end: time,
});
const gap = v.strictObject({ type: v.literal('gap'), vm: text, kind: v.picklist(GAP_KINDS), start: time, end: time });
/** What a host itself needed, measured. It lies within one UTC hour. */
const overhead = v.strictObject({
  type: v.literal('overhead'),
  source: text,
  host: text,
  machine: v.optional(text),
  cpuNs: counter,
  memoryByteMs: counter,
  start: time,
  end: time,
});
const fact = v.variant('type', [interval, host, sample, consumed, overhead, gap]);
type Fact = v.InferOutput<typeof fact>;

/** Takes the lines one by one, so that a file need not fit into memory as a whole. */
export class UsageReader {
  readonly #path: string;
  readonly #problems: string[] = [];
  readonly #facts: { fact: Fact; line: number }[] = [];
  #asOfMs: number | undefined;
  #line = 0;

  constructor(path: string) {
    this.#path = path;
  }

  add(line: string): void {
    this.#line += 1;
    if (line.trim() === '') return;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      this.#problem(this.#line, 'is no JSON');
      return;
    }
    if (this.#line === 1) {
      const parsed = v.safeParse(header, value);
      if (parsed.success) this.#asOfMs = parsed.output.asOf;
      else this.#problem(1, `must be {"berth":"usage","version":${VERSION}}: ${issueText(parsed.issues)}`);
      return;
    }
    const parsed = v.safeParse(fact, value);
    if (parsed.success) this.#facts.push({ fact: parsed.output, line: this.#line });
    else this.#problem(this.#line, issueText(parsed.issues));
  }

  /** @throws usage.invalid (invalid) with the problems in the message, one a line. */
  finish(): UsageFacts {
    const [intervals, hosts, samples]: [AllocationInterval[], HostInterval[], CounterSample[]] = [[], [], []];
    const [consumed, overheads, gaps]: [Consumption[], HostOverhead[], UnseenTime[]] = [[], [], []];
    const lines = new Map<object, number>();
    if (this.#line === 0) this.#problem(1, 'is missing: the file is empty');
    for (const { fact: one, line } of this.#facts) {
      if (one.type === 'sample') {
        samples.push({ vm: one.vm, atMs: one.at, counters: presentOf(one.counters), wrapBits: one.wrapBits });
        continue;
      }
      if (one.type === 'overhead') {
        const { type: _type, start, end, ...rest } = one;
        const made = { ...rest, startMs: start, endMs: end };
        if (end < start) this.#problem(line, 'ends before it starts');
        else if (isOverHour(made)) this.#problem(line, 'lies in more than one hour');
        else overheads.push(made);
        lines.set(made, line);
        continue;
      }
      if (one.type === 'consumed' || one.type === 'gap') {
        const span = { vm: one.vm, startMs: one.start, endMs: one.end };
        if (one.end < one.start) this.#problem(line, 'ends before it starts');
        else if (one.type === 'gap') gaps.push({ ...span, kind: one.kind });
        else if (isOverHour(span)) this.#problem(line, 'lies in more than one hour');
        else
          for (const counter of MEASURES) {
            const amount = one.amounts[counter];
            if (amount !== undefined && amount > 0n) consumed.push({ ...span, counter, amount });
          }
        continue;
      }
      const endMs = one.end ?? this.#asOfMs;
      if (endMs === undefined) this.#problem(line, 'has no end, and the first line has no asOf');
      else if (endMs < one.start) this.#problem(line, 'ends before it starts');
      else if (one.type === 'host') {
        const { type: _type, start, end: _end, ...rest } = one;
        const made = { ...rest, startMs: start, endMs };
        hosts.push(made);
        lines.set(made, line);
      } else {
        const { type: _type, start, end: _end, project, owner, sharedMemory, disks, ...rest } = one;
        if ((sharedMemory?.bytes ?? 0) > one.memoryBytes) this.#problem(line, 'shares more memory than it has');
        const made: AllocationInterval = {
          ...rest,
          project,
          owner,
          sharedMemory,
          disks: disks.map((disk) => ({ ...disk, iops: disk.iops })),
          startMs: start,
          endMs,
        };
        intervals.push(made);
        lines.set(made, line);
      }
    }
    const lineOf = (one: object): number => lines.get(one) ?? 0;
    const onMachine = placer(hosts);
    const result = {
      intervals: this.#disjoint(intervals, (one) => `VM ${one.vm}`, lineOf).map(onMachine),
      hosts: withMeasuredOverhead(
        this.#disjoint(hosts, hostName, lineOf),
        this.#disjoint(overheads, (one) => `the overhead of ${hostName(one)}`, lineOf).map(onMachine),
      ),
      samples,
      consumed,
      gaps,
    };
    if (this.#problems.length === 0) return result;
    const shown = this.#problems.slice(0, MOST_PROBLEMS);
    const more = this.#problems.length - shown.length;
    throw new BerthError(
      'invalid',
      'usage.invalid',
      `usage file ${this.#path} cannot be used\n${shown.join('\n')}${more > 0 ? `\nand ${more} more` : ''}`,
      { facts: { path: this.#path, problems: this.#problems.length }, hint: 'docs/cost.md has the format' },
    );
  }

  /** The same fact twice is one fact; two that contradict one another are a problem. Sorted by time. */
  #disjoint<T extends { readonly startMs: number; readonly endMs: number }>(
    all: readonly T[],
    nameOf: (one: T) => string,
    lineOf: (one: T) => number,
  ): T[] {
    const sorted = [...all].sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs || lineOf(a) - lineOf(b));
    const last = new Map<string, T>();
    return sorted.filter((one) => {
      if (one.startMs === one.endMs) return false;
      const name = nameOf(one);
      const before = last.get(name);
      if (before !== undefined && before.endMs > one.startMs) {
        if (jsonOf(before) === jsonOf(one)) return false;
        this.#problem(lineOf(one), `overlaps line ${lineOf(before)}: ${name} is in two states at once`);
      }
      last.set(name, before !== undefined && before.endMs > one.endMs ? before : one);
      return true;
    });
  }

  #problem(line: number, message: string): void {
    this.#problems.push(`${this.#path}:${line}: ${message}`);
  }
}

function hostName(one: Placed): string {
  return one.machine === undefined ? `host ${one.source}/${one.host}` : `machine ${one.machine}`;
}

interface Placed {
  readonly source: string;
  readonly host: string;
  readonly machine?: string | undefined;
  readonly startMs: number;
}

/** What says nothing of its machine is on the one that its host was then, or at the nearest time that is told. */
function placer(hosts: readonly HostInterval[]): <T extends Placed>(one: T) => T {
  const byName = new Map<string, HostInterval[]>();
  const nameOf = (one: Placed): string => JSON.stringify([one.source, one.host]);
  for (const one of [...hosts].sort((a, b) => a.startMs - b.startMs))
    byName.set(nameOf(one), [...(byName.get(nameOf(one)) ?? []), one]);
  return (one) => {
    if (one.machine !== undefined) return one;
    const known = byName.get(nameOf(one)) ?? [];
    const host = known.findLast(({ startMs }) => startMs <= one.startMs) ?? known[0];
    return host?.machine === undefined ? one : { ...one, machine: host.machine };
  };
}

function isOverHour({ startMs, endMs }: { readonly startMs: number; readonly endMs: number }): boolean {
  return windowStart(startMs, 'hour') !== windowStart(Math.max(startMs, endMs - 1), 'hour');
}

function jsonOf(value: object): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? String(one) : one));
}

function presentOf(counters: Readonly<Record<string, bigint | undefined>>): CounterSample['counters'] {
  return Object.fromEntries(Object.entries(counters).filter(([, value]) => value !== undefined));
}

function issueText(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues
    .slice(0, 5)
    .map((issue) => `${v.getDotPath(issue) ?? 'the line'}: ${issue.message}`)
    .join('; ');
}
