/** Questions about what was: a VM's intervals, the estate at a time, moves, and what changed without berth. */
import { nowMs } from '#platform';
import type { Database, SqlValue } from '#store';
import { decodeCursor, encodeCursor } from './cursor.ts';
import { NO_HOST, type Owned, type OwnedPiece, type OwnedSubject, OwnerBook } from './owner-rules.ts';
import type { Page } from './queries.ts';
import { tagRecord } from './vm-row.ts';

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
  /** As the rules said then, else its tags. */
  readonly owner: string | null;
  readonly project: string | null;
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
  /**
   * An event told it, looking found it, or the hypervisor remembered it from before berth looked. `rule`: nothing happened but that a
   * rule about owners began or ended.
   */
  readonly how: 'event' | 'poll' | 'told' | 'rule';
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
  readonly host_key: string | null;
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

interface Wanted {
  readonly condition: string;
  readonly values: readonly SqlValue[];
  /** What a row is shown as. */
  readonly listed: (row: Row) => readonly IntervalListing[];
}

export class HistoryQueries {
  readonly #database: Database;
  readonly #owners: OwnerBook;

  /** @param owners - whose VMs were when; without it as their tags say. */
  constructor(database: Database, owners = new OwnerBook()) {
    this.#database = database;
    this.#owners = owners;
  }

  /** Oldest first. One of several owners is as many, on one page. */
  ofVm(vmId: number, span: Span): Page<IntervalListing> {
    return this.#page(span, { condition: 'i.vm_id = ?', values: [vmId], listed: (row) => this.#cut(row, span) });
  }

  /** The whole estate as it stood: the interval of each VM that had begun and not ended. */
  at(timeMs: number, span: Pick<Span, 'limit' | 'after'>): Page<IntervalListing> {
    // One interval at most holds for a VM at a time; those of no length hold at no time.
    const condition = 'i.opened_ms <= ? AND (i.closed_ms > ? OR i.closed_ms IS NULL)';
    const listed = (row: Row): IntervalListing[] => [listingOf(row, this.#ownedAt(row, timeMs))];
    return this.#page(span, { condition, values: [timeMs, timeMs], listed });
  }

  /** VMs that changed their host, oldest first. */
  moves(span: Span): Page<IntervalListing> {
    const listed = (row: Row): IntervalListing[] => [listingOf(row, this.#ownedAt(row, row.opened_ms))];
    return this.#page(span, { condition: 'i.moved_from IS NOT NULL', values: [], listed });
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

  #ownedAt(row: Row, atMs: number): Owned {
    return this.#owners.rules.at(this.#subject(row), atMs);
  }

  /** As many as it had owners within the span. What rules will say later is not history yet. */
  #cut(row: Row, { fromMs, toMs }: Span): IntervalListing[] {
    const endMs = row.closed_ms ?? Math.max(row.opened_ms, nowMs());
    const pieces = this.#owners.pieces(this.#subject(row), { startMs: row.opened_ms, endMs });
    return pieces
      .map((piece) => pieceOf(listingOf(row, piece), piece, endMs))
      .filter((one) => one.opened.atMs < (toMs ?? Infinity) && (one.closed?.atMs ?? Infinity) >= (fromMs ?? -Infinity));
  }

  #subject(row: Row): OwnedSubject {
    const rows = this.#database.all<{ tag: string }>('SELECT tag FROM tag WHERE vm_id = ?', row.vm_id);
    const tags = tagRecord(rows.map(({ tag }) => tag));
    return {
      source: row.source,
      host: row.host_name || row.host_key || NO_HOST,
      name: row.name || `v${row.vm_id}`,
      tags,
      told: { owner: row.owner || null, project: tags['project'] || null },
    };
  }

  #page(span: Span, { condition, values, listed }: Wanted): Page<IntervalListing> {
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
      items: kept.flatMap(listed),
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

/** A part of an interval between two rules. */
function pieceOf(whole: IntervalListing, { startMs, endMs }: OwnedPiece, wholeEndMs: number): IntervalListing {
  const byRule = (atMs: number): Instant => ({ atMs, observedMs: atMs, notBeforeMs: atMs, how: 'rule' });
  const isFirst = startMs === whole.opened.atMs;
  return {
    ...whole,
    ...(isFirst ? {} : { opened: byRule(startMs), causes: ['owner'], movedFrom: null }),
    closed: endMs === wholeEndMs ? whole.closed : byRule(endMs),
  };
}

function listingOf(row: Row, { owner, project }: Owned): IntervalListing {
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
    owner,
    project,
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
