/**
 * The history as usage facts: who had what, when, in the words of berth's usage files (docs/cost.md). What is known ends
 * where its source was last seen: the time since then is counted once the source has confirmed it, and never before. What
 * hypervisors tell of the time before berth looked is history, not usage: nobody knows what shape a VM had.
 */
import * as v from 'valibot';
import { BerthError } from '#base';
import { type Database, openDatabase } from '#store';
import { type GapKind, hourOf } from '../consumption/counting.ts';
import { monthAt } from '../consumption/months.ts';
import { perSecond } from '../consumption/per-second.ts';
import { prunedMonths } from '../consumption/prune-table.ts';
import type { PowerState } from '../facts.ts';
import { decodeCursor, encodeCursor } from './cursor.ts';
import { HostBook } from './host-book.ts';
import { LAYOUT } from './layout.ts';
import { machineName, type OverheadFact, OverheadFacts } from './overhead-facts.ts';
import { NO_HOST, type OwnedSubject, OwnerBook } from './owner-rules.ts';
import type { Page } from './queries.ts';
import { tagRecord } from './vm-row.ts';

/** A line of a usage file, version 1; times are RFC 3339, UTC. */
export type UsageFact =
  | {
      readonly type: 'interval';
      readonly vm: string;
      readonly name: string;
      readonly source: string;
      readonly host: string;
      /** What two sources call differently may be one machine: it has one text. Absent for a host nobody described. */
      readonly machine?: string;
      readonly project?: string;
      readonly owner?: string;
      readonly tags: Readonly<Record<string, string>>;
      readonly power: 'running' | 'paused' | 'asleep' | 'off' | 'unknown';
      readonly vcpus: number;
      readonly memoryBytes: number;
      readonly disks: readonly { readonly class: string; readonly bytes: number }[];
      readonly addresses: number;
      readonly start: string;
      readonly end: string;
    }
  | {
      /** Of one machine never two at a time. */
      readonly type: 'host';
      readonly source: string;
      readonly host: string;
      readonly machine: string;
      /** What other sources call it. */
      readonly also?: readonly { readonly source: string; readonly host: string }[];
      readonly vcpus: number;
      readonly memoryBytes: number;
      readonly start: string;
      readonly end: string;
    }
  | {
      /** What counters came to, within one UTC hour. */
      readonly type: 'consumed';
      readonly vm: string;
      readonly source: string;
      readonly host: string;
      /** Whole numbers as text: they may be beyond 2^53. */
      readonly amounts: Readonly<Record<(typeof MEASURES)[number], string>>;
      /** Operations of disks in a second, on average from start to end; absent where none were counted. */
      readonly rates?: Readonly<Record<'diskReadsPerSecond' | 'diskWritesPerSecond', string>>;
      readonly start: string;
      readonly end: string;
    }
  | OverheadFact
  | {
      readonly type: 'gap';
      readonly vm: string;
      readonly kind: GapKind;
      readonly start: string;
      readonly end: string;
    };

const MEASURES = [
  'cpuNs',
  'networkInBytes',
  'networkOutBytes',
  'diskReadOperations',
  'diskWriteOperations',
  'diskReadBytes',
  'diskWrittenBytes',
  'memoryByteMs',
] as const;

export interface UsageSpan {
  readonly fromMs: number;
  readonly toMs: number;
  readonly limit: number;
  readonly after?: string | undefined;
}

/** What is allocated in each state. One that is on its way keeps what it had. */
const POWER: Readonly<Record<PowerState, 'running' | 'paused' | 'asleep' | 'off' | 'unknown'>> = {
  running: 'running',
  stopping: 'running',
  migrating: 'running',
  paused: 'paused',
  suspended: 'asleep',
  off: 'off',
  crashed: 'off',
  unknown: 'unknown',
};

interface IntervalRow {
  readonly id: number;
  readonly vm_id: number;
  readonly source_id: number;
  readonly name: string;
  readonly source: string;
  readonly host_name: string | null;
  readonly host_key: string | null;
  readonly power_state: PowerState;
  readonly vcpus: number | null;
  readonly memory_bytes: number | null;
  readonly disk_bytes: number | null;
  readonly addresses: number | null;
  readonly owner: string | null;
  readonly opened_ms: number;
  readonly end_ms: number;
}

interface ConsumedRow {
  readonly hour_ms: number;
  readonly vm_id: number;
  readonly source_id: number;
  readonly host_name: string;
  readonly source: string;
  readonly from_ms: number;
  readonly to_ms: number;
  readonly cpu: string;
  readonly memory: string;
  readonly disk_read: string;
  readonly disk_written: string;
  readonly disk_reads: string;
  readonly disk_writes: string;
  readonly received: string;
  readonly sent: string;
}

/** What a cursor says of gaps in place of a row of consumption. */
const GAPS = 'gaps';
/** The same of what hosts needed; their place follows. */
const OVERHEAD = 'overhead';
/** Rows of one reading: some megabytes. */
const HISTORY_PAGE = 10_000;
/** The last moment at which somebody saw that it is so: of several sources that show it, the one whose word counts now. */
const KNOWN_UNTIL = `MAX(i.opened_ms, COALESCE(i.closed_ms,
  MAX(COALESCE(source.removed_ms, source.ok_ms, i.opened_ms), COALESCE(lead.removed_ms, lead.ok_ms, i.opened_ms))))`;

export class UsageFacts {
  readonly #database: Database;
  readonly #overhead: OverheadFacts;
  readonly #owners: OwnerBook;

  /** @param owners - whose VMs were when; without it as their tags say. */
  constructor(database: Database, owners = new OwnerBook()) {
    this.#database = database;
    this.#overhead = new OverheadFacts(database);
    this.#owners = owners;
  }

  /**
   * Hosts first, with the first page; intervals, as they were opened; what was consumed, by hour; what hosts needed, by host; gaps
   * in counters. An interval of several owners is as many facts, on one page.
   */
  page(span: UsageSpan): Page<UsageFact> {
    const after = span.after === undefined ? undefined : decodeCursor(span.after);
    if (after?.value === GAPS) return this.#gaps(span, after.id);
    if (typeof after?.value === 'string' && after.value.startsWith(OVERHEAD))
      return this.#overheads(span, after.value.slice(OVERHEAD.length) || undefined);
    if (after !== undefined && after.value !== '') return this.#consumed(span, String(after.value));
    const rows = this.#database.all<IntervalRow>(
      `SELECT i.id, i.vm_id, i.source_id, vm.name, source.name AS source, i.host_name, i.host_key, i.power_state, i.vcpus,
         i.memory_bytes, i.disk_bytes, i.addresses, i.owner, i.opened_ms, ${KNOWN_UNTIL} AS end_ms
       FROM interval i CROSS JOIN vm ON vm.id = i.vm_id CROSS JOIN source ON source.id = i.source_id
         CROSS JOIN source lead ON lead.id = vm.source_id
       WHERE i.id > ? AND i.opened_how <> 'told' AND i.opened_ms < ? AND ${KNOWN_UNTIL} > MAX(i.opened_ms, ?) ORDER BY i.id LIMIT ?`,
      after?.id ?? 0,
      span.toMs,
      span.fromMs,
      span.limit + 1,
    );
    const kept = rows.slice(0, span.limit);
    const last = kept.at(-1);
    const book = HostBook.read(this.#database, 'look');
    const first = after === undefined ? hostFacts(book, span) : [];
    const items = [...first, ...kept.flatMap((row) => this.#facts(row, book))];
    if (rows.length > span.limit && last !== undefined)
      return { items, next: encodeCursor({ value: '', id: last.id }) };
    const hasMore = this.#database.get(
      'SELECT 1 FROM consumed WHERE from_ms < ? AND to_ms > ? LIMIT 1',
      span.toMs,
      span.fromMs,
    );
    return {
      items,
      next: hasMore === undefined ? this.#firstOverhead(span) : encodeCursor({ value: '[0,0,0,""]', id: 0 }),
    };
  }

  /** Where gaps begin, when there are any. */
  #firstGap({ fromMs, toMs }: UsageSpan): string | null {
    const found = this.#database.get('SELECT 1 FROM gap WHERE to_ms > ? AND from_ms < ? LIMIT 1', fromMs, toMs);
    return found === undefined ? null : encodeCursor({ value: GAPS, id: 0 });
  }

  /** @param place - the last row's key, as JSON. */
  #consumed(span: UsageSpan, place: string): Page<UsageFact> {
    const key = placeOf(place);
    const rows = this.#database.all<ConsumedRow>(
      `SELECT c.hour_ms, c.vm_id, c.source_id, c.host_name, source.name AS source, c.from_ms, c.to_ms,
         CAST(c.memory_kib_ms AS TEXT) AS memory, CAST(c.disk_read_bytes AS TEXT) AS disk_read,
         CAST(c.disk_written_bytes AS TEXT) AS disk_written, CAST(c.disk_reads AS TEXT) AS disk_reads,
         CAST(c.disk_writes AS TEXT) AS disk_writes,
         CAST(c.cpu_ns AS TEXT) AS cpu, CAST(c.received_bytes AS TEXT) AS received, CAST(c.sent_bytes AS TEXT) AS sent
       FROM consumed c CROSS JOIN source ON source.id = c.source_id
       WHERE (c.hour_ms, c.vm_id, c.source_id, c.host_name) > (?, ?, ?, ?) AND c.from_ms < ? AND c.to_ms > ?
         AND c.hour_ms >= ? ORDER BY c.hour_ms, c.vm_id, c.source_id, c.host_name LIMIT ?`,
      ...key,
      span.toMs,
      span.fromMs,
      hourOf(span.fromMs),
      span.limit + 1,
    );
    const kept = rows.slice(0, span.limit);
    const last = kept.at(-1);
    const next =
      rows.length > span.limit && last !== undefined
        ? encodeCursor({ value: JSON.stringify([last.hour_ms, last.vm_id, last.source_id, last.host_name]), id: 0 })
        : this.#firstOverhead(span);
    return { items: kept.map(consumedFact), next };
  }

  /** Where what hosts needed begins, else gaps, when there are any. */
  #firstOverhead(span: UsageSpan): string | null {
    return this.#overhead.has(span) ? encodeCursor({ value: OVERHEAD, id: 0 }) : this.#firstGap(span);
  }

  #overheads(span: UsageSpan, after: string | undefined): Page<UsageFact> {
    const book = HostBook.read(this.#database, 'look');
    const { items, next } = this.#overhead.page({ ...span, book }, after);
    return { items, next: next === undefined ? this.#firstGap(span) : encodeCursor({ value: OVERHEAD + next, id: 0 }) };
  }

  /** An estate whose daemon was down has one for each VM. */
  #gaps({ fromMs, toMs, limit }: UsageSpan, afterId: number): Page<UsageFact> {
    const rows = this.#database.all<{ id: number; vm_id: number; kind: GapKind; from_ms: number; to_ms: number }>(
      'SELECT id, vm_id, kind, from_ms, to_ms FROM gap WHERE id > ? AND to_ms > ? AND from_ms < ? ORDER BY id LIMIT ?',
      afterId,
      fromMs,
      toMs,
      limit + 1,
    );
    const items = rows.slice(0, limit).map((row) => ({
      type: 'gap' as const,
      vm: `v${row.vm_id}`,
      kind: row.kind,
      start: new Date(row.from_ms).toISOString(),
      end: new Date(row.to_ms).toISOString(),
    }));
    const last = rows[limit - 1];
    const hasMore = rows.length > limit && last !== undefined;
    return { items, next: hasMore ? encodeCursor({ value: GAPS, id: last.id }) : null };
  }

  #facts(row: IntervalRow, book: HostBook): UsageFact[] {
    const tags = this.#tags(row.vm_id);
    const subject: OwnedSubject = {
      source: row.source,
      host: row.host_name || row.host_key || NO_HOST,
      name: row.name || `v${row.vm_id}`,
      tags,
      told: { owner: row.owner || null, project: tags['project'] || null },
    };
    const { source, host, name } = subject;
    const place = { sourceId: row.source_id, hostKey: row.host_key, hostName: row.host_name };
    const pieces = this.#owners
      .pieces(subject, { startMs: row.opened_ms, endMs: row.end_ms })
      .flatMap((owned) => book.placed(place, owned).map((placed) => ({ ...owned, ...placed })));
    return pieces.map((piece) => ({
      type: 'interval',
      vm: `v${row.vm_id}`,
      name,
      source,
      host,
      ...(piece.machine === undefined ? {} : { machine: machineName(piece.machine) }),
      ...(piece.project === null ? {} : { project: piece.project }),
      ...(piece.owner === null ? {} : { owner: piece.owner }),
      tags,
      power: POWER[row.power_state],
      vcpus: row.vcpus ?? 0,
      memoryBytes: row.memory_bytes ?? 0,
      disks: row.disk_bytes === null || row.disk_bytes <= 0 ? [] : [{ class: 'standard', bytes: row.disk_bytes }],
      addresses: row.addresses ?? 0,
      start: new Date(piece.startMs).toISOString(),
      end: new Date(piece.endMs).toISOString(),
    }));
  }

  /** Months of the span whose consumption is not kept any more, in order: as it is after what was read of it. */
  prunedMonths({ fromMs, toMs }: Pick<UsageSpan, 'fromMs' | 'toMs'>): string[] {
    return [...prunedMonths(this.#database)]
      .filter((name) => {
        const { startMs, endMs } = monthAt(Date.parse(name));
        return startMs < toMs && endMs > fromMs;
      })
      .sort();
  }

  #tags(vmId: number): Record<string, string> {
    const rows = this.#database.all<{ tag: string }>('SELECT tag FROM tag WHERE vm_id = ?', vmId);
    return tagRecord(rows.map(({ tag }) => tag));
  }
}

function hostFacts(book: HostBook, { fromMs, toMs }: UsageSpan): UsageFact[] {
  return book
    .machines()
    .flatMap((machine) => book.presences(machine))
    .filter((one) => one.startMs < toMs && one.endMs > Math.max(one.startMs, fromMs))
    .sort((a, b) => compare(a.source, b.source) || compare(a.name, b.name) || a.startMs - b.startMs)
    .map((one) => ({
      type: 'host',
      source: one.source,
      host: one.name,
      machine: machineName(one.machine),
      ...(one.also.length === 0 ? {} : { also: one.also }),
      vcpus: one.threads,
      memoryBytes: one.memoryBytes,
      start: new Date(one.startMs).toISOString(),
      end: new Date(one.endMs).toISOString(),
    }));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The facts of a fleet's database, for a program of its own: read only while somebody else writes. */
export function openUsageHistory(path: string): {
  facts(span: { readonly fromMs: number; readonly toMs: number }): Generator<UsageFact>;
  /** Months whose consumption was let go. One that is not among them after its facts were read was read whole. */
  prunedMonths(): ReadonlySet<string>;
  close(): void;
} {
  const database = openDatabase(path, LAYOUT);
  const facts = new UsageFacts(database);
  return {
    *facts(span) {
      let after: string | undefined;
      do {
        const page = facts.page({ ...span, limit: HISTORY_PAGE, after });
        yield* page.items;
        after = page.next ?? undefined;
      } while (after !== undefined);
    },
    prunedMonths: () => prunedMonths(database),
    close: () => database.close(),
  };
}

function consumedFact(row: ConsumedRow): UsageFact {
  return {
    type: 'consumed',
    vm: `v${row.vm_id}`,
    source: row.source,
    host: row.host_name || NO_HOST,
    amounts: {
      cpuNs: row.cpu,
      networkInBytes: row.received,
      networkOutBytes: row.sent,
      diskReadOperations: row.disk_reads,
      diskWriteOperations: row.disk_writes,
      diskReadBytes: row.disk_read,
      diskWrittenBytes: row.disk_written,
      memoryByteMs: String(BigInt(row.memory) * 1024n),
    },
    ...ratesOf(row),
    start: new Date(row.from_ms).toISOString(),
    end: new Date(row.to_ms).toISOString(),
  };
}

/** A hypervisor that does not count operations has counted none: that is no rate of zero. */
function ratesOf(row: ConsumedRow): { rates?: { diskReadsPerSecond: string; diskWritesPerSecond: string } } {
  const [reads, writes, lengthMs] = [BigInt(row.disk_reads), BigInt(row.disk_writes), row.to_ms - row.from_ms];
  if (lengthMs <= 0 || reads + writes === 0n) return {};
  return {
    rates: { diskReadsPerSecond: perSecond(reads, lengthMs), diskWritesPerSecond: perSecond(writes, lengthMs) },
  };
}

const PlaceSchema = v.tuple([v.number(), v.number(), v.number(), v.string()]);

/** @throws fleet.cursor (invalid) */
function placeOf(text: string): [number, number, number, string] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), PlaceSchema), text);
  if (parsed.success) return parsed.output;
  throw new BerthError('invalid', 'fleet.cursor', 'that is no place in the usage facts', {
    hint: 'give what "next" said, to the same question',
  });
}
