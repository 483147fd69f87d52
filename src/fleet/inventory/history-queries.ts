/** Questions about what was: a VM's intervals, the estate at a time, moves, and what changed without berth. */
import type { Database, SqlValue } from '#store';
import { decodeCursor, encodeCursor } from './cursor.ts';
import type { Page } from './queries.ts';

export interface IntervalListing {
  readonly vm: string;
  readonly name: string;
  readonly source: string;
  readonly host: string | null;
  readonly powerState: string;
  readonly vcpus: number | null;
  readonly memoryBytes: number | null;
  readonly diskBytes: number | null;
  readonly addresses: number | null;
  readonly owner: string | null;
  readonly causes: readonly string[];
  readonly movedFrom: string | null;
  readonly opened: Instant;
  /** Null while it goes on. */
  readonly closed: Instant | null;
}

export interface Instant {
  readonly atMs: number;
  readonly observedMs: number;
  /** It had not happened yet then: how wide the doubt is. */
  readonly notBeforeMs: number;
  /** An event told it, looking found it, or the hypervisor remembered it from before berth looked. */
  readonly how: 'event' | 'poll' | 'told';
}

export interface ChangeListing {
  readonly vm: string;
  readonly name: string;
  readonly source: string;
  readonly atMs: number;
  readonly how: 'event' | 'poll';
  readonly field: string;
  readonly before: string | null;
  readonly after: string | null;
}

export interface Span {
  readonly fromMs?: number | undefined;
  readonly toMs?: number | undefined;
  readonly limit: number;
  readonly after?: string | undefined;
}

interface Row {
  readonly id: number;
  readonly vm_id: number;
  readonly name: string;
  readonly source: string;
  readonly host_name: string | null;
  readonly power_state: string;
  readonly vcpus: number | null;
  readonly memory_bytes: number | null;
  readonly disk_bytes: number | null;
  readonly addresses: number | null;
  readonly owner: string | null;
  readonly causes: string;
  readonly moved_from: string | null;
  readonly opened_ms: number;
  readonly opened_observed_ms: number;
  readonly opened_not_before_ms: number;
  readonly opened_how: 'event' | 'poll' | 'told';
  readonly closed_ms: number | null;
  readonly closed_observed_ms: number | null;
  readonly closed_not_before_ms: number | null;
  readonly closed_how: 'event' | 'poll' | 'told' | null;
}

const FROM = `SELECT i.*, vm.name, source.name AS source FROM interval i
  CROSS JOIN vm ON vm.id = i.vm_id CROSS JOIN source ON source.id = i.source_id`;

export class HistoryQueries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Oldest first. */
  ofVm(vmId: number, span: Span): Page<IntervalListing> {
    return this.#page('i.vm_id = ?', [vmId], span);
  }

  /** The whole estate as it stood: the interval of each VM that had begun and not ended. */
  at(timeMs: number, span: Pick<Span, 'limit' | 'after'>): Page<IntervalListing> {
    // One interval at most holds for a VM at a time; those of no length hold at no time.
    return this.#page('i.opened_ms <= ? AND (i.closed_ms > ? OR i.closed_ms IS NULL)', [timeMs, timeMs], span);
  }

  /** VMs that changed their host, oldest first. */
  moves(span: Span): Page<IntervalListing> {
    return this.#page('i.moved_from IS NOT NULL', [], span);
  }

  /** What changed without a verb of berth. */
  drift(span: Span): Page<ChangeListing> {
    const after = span.after === undefined ? 0 : decodeCursor(span.after).id;
    const rows = this.#database.all<ChangeRow>(
      `SELECT c.id, c.vm_id, vm.name, source.name AS source, c.at_ms, c.how, c.field, c.before, c.after
       FROM change c CROSS JOIN vm ON vm.id = c.vm_id CROSS JOIN source ON source.id = c.source_id
       WHERE c.by_berth = 0 AND source.driver <> 'berth' AND c.id > ? AND c.at_ms >= ? AND c.at_ms < ? ORDER BY c.id LIMIT ?`,
      after,
      span.fromMs ?? Number.MIN_SAFE_INTEGER,
      span.toMs ?? Number.MAX_SAFE_INTEGER,
      span.limit + 1,
    );
    const kept = rows.slice(0, span.limit);
    const items = kept.map(({ id: _id, vm_id, at_ms, ...rest }) => ({ ...rest, vm: `v${vm_id}`, atMs: at_ms }));
    const last = rows.length > span.limit ? kept.at(-1) : undefined;
    return { items, next: last === undefined ? null : encodeCursor({ value: '', id: last.id }) };
  }

  #page(condition: string, values: readonly SqlValue[], span: Span): Page<IntervalListing> {
    // In the order of time: what was told of earlier days is written later.
    const after = span.after === undefined ? undefined : decodeCursor(span.after);
    const rows = this.#database.all<Row>(
      `${FROM} WHERE ${condition} AND (i.opened_ms, i.id) > (?, ?) AND i.opened_ms < ?
       AND (i.closed_ms IS NULL OR i.closed_ms >= ?) ORDER BY i.opened_ms, i.id LIMIT ?`,
      ...values,
      after?.value ?? Number.MIN_SAFE_INTEGER,
      after?.id ?? 0,
      span.toMs ?? Number.MAX_SAFE_INTEGER,
      span.fromMs ?? Number.MIN_SAFE_INTEGER,
      span.limit + 1,
    );
    const kept = rows.slice(0, span.limit);
    const last = rows.length > span.limit ? kept.at(-1) : undefined;
    return {
      items: kept.map(listingOf),
      next: last === undefined ? null : encodeCursor({ value: last.opened_ms, id: last.id }),
    };
  }
}

interface ChangeRow {
  readonly id: number;
  readonly vm_id: number;
  readonly name: string;
  readonly source: string;
  readonly at_ms: number;
  readonly how: 'event' | 'poll';
  readonly field: string;
  readonly before: string | null;
  readonly after: string | null;
}

function listingOf(row: Row): IntervalListing {
  return {
    vm: `v${row.vm_id}`,
    name: row.name,
    source: row.source,
    host: row.host_name,
    powerState: row.power_state,
    vcpus: row.vcpus,
    memoryBytes: row.memory_bytes,
    diskBytes: row.disk_bytes,
    addresses: row.addresses,
    owner: row.owner,
    causes: row.causes.split(','),
    movedFrom: row.moved_from,
    opened: {
      atMs: row.opened_ms,
      observedMs: row.opened_observed_ms,
      notBeforeMs: row.opened_not_before_ms,
      how: row.opened_how,
    },
    closed:
      row.closed_ms === null
        ? null
        : {
            atMs: row.closed_ms,
            observedMs: row.closed_observed_ms ?? row.closed_ms,
            notBeforeMs: row.closed_not_before_ms ?? row.closed_ms,
            how: row.closed_how ?? 'poll',
          },
  };
}
