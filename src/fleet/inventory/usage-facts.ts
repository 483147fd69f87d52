/**
 * The history as usage facts: who had what, when, in the words of berth's usage files (docs/cost.md). What is known ends
 * where its source was last seen: the time since then is counted once the source has confirmed it, and never before.
 */
import type { Database } from '#store';
import type { PowerState } from '../facts.ts';
import { decodeCursor, encodeCursor } from './cursor.ts';
import type { Page } from './queries.ts';

/** A line of a usage file, version 1; times are RFC 3339, UTC. */
export type UsageFact =
  | {
      readonly type: 'interval';
      readonly vm: string;
      readonly name: string;
      readonly source: string;
      readonly host: string;
      readonly owner?: string;
      readonly tags: Readonly<Record<string, string>>;
      readonly power: 'running' | 'paused' | 'asleep' | 'off' | 'unknown';
      readonly vcpus: number;
      readonly memoryBytes: number;
      readonly disks: readonly { readonly class: string; readonly bytes: number }[];
      readonly start: string;
      readonly end: string;
    }
  | {
      readonly type: 'host';
      readonly source: string;
      readonly host: string;
      readonly vcpus: number;
      readonly memoryBytes: number;
      readonly start: string;
      readonly end: string;
    };

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
  readonly name: string;
  readonly source: string;
  readonly host_name: string | null;
  readonly host_key: string | null;
  readonly power_state: PowerState;
  readonly vcpus: number | null;
  readonly memory_bytes: number | null;
  readonly disk_bytes: number | null;
  readonly owner: string | null;
  readonly opened_ms: number;
  readonly end_ms: number;
}

interface HostRow {
  readonly source: string;
  readonly name: string;
  readonly facts: string;
  readonly first_ms: number;
  readonly end_ms: number;
}

/** No host that is known: a VM that is off on many hypervisors belongs to none. */
const NO_HOST = 'none';

/** The last moment at which somebody saw that it is so. */
const KNOWN_UNTIL = 'MAX(i.opened_ms, COALESCE(i.closed_ms, source.removed_ms, source.ok_ms, i.opened_ms))';

export class UsageFacts {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Hosts first, with the first page; then intervals, as they were opened. */
  page(span: UsageSpan): Page<UsageFact> {
    const after = span.after === undefined ? 0 : decodeCursor(span.after).id;
    const rows = this.#database.all<IntervalRow>(
      `SELECT i.id, i.vm_id, vm.name, source.name AS source, i.host_name, i.host_key, i.power_state, i.vcpus,
         i.memory_bytes, i.disk_bytes, i.owner, i.opened_ms, ${KNOWN_UNTIL} AS end_ms
       FROM interval i CROSS JOIN vm ON vm.id = i.vm_id CROSS JOIN source ON source.id = i.source_id
       WHERE i.id > ? AND i.opened_ms < ? AND ${KNOWN_UNTIL} > MAX(i.opened_ms, ?) ORDER BY i.id LIMIT ?`,
      after,
      span.toMs,
      span.fromMs,
      span.limit + 1,
    );
    const kept = rows.slice(0, span.limit);
    const last = kept.at(-1);
    const items = [...(span.after === undefined ? this.#hosts(span) : []), ...kept.map((row) => this.#fact(row))];
    return {
      items,
      next: rows.length > span.limit && last !== undefined ? encodeCursor({ value: '', id: last.id }) : null,
    };
  }

  #fact(row: IntervalRow): UsageFact {
    return {
      type: 'interval',
      vm: `v${row.vm_id}`,
      name: row.name || `v${row.vm_id}`,
      source: row.source,
      host: row.host_name || row.host_key || NO_HOST,
      ...(row.owner === null || row.owner === '' ? {} : { owner: row.owner }),
      tags: this.#tags(row.vm_id),
      power: POWER[row.power_state],
      vcpus: row.vcpus ?? 0,
      memoryBytes: row.memory_bytes ?? 0,
      disks: row.disk_bytes === null || row.disk_bytes <= 0 ? [] : [{ class: 'standard', bytes: row.disk_bytes }],
      start: new Date(row.opened_ms).toISOString(),
      end: new Date(row.end_ms).toISOString(),
    };
  }

  /** `name=value` as it is, any other tag with an empty value. */
  #tags(vmId: number): Record<string, string> {
    const rows = this.#database.all<{ tag: string }>('SELECT tag FROM tag WHERE vm_id = ? ORDER BY tag', vmId);
    return Object.fromEntries(
      rows.map(({ tag }) => {
        const equals = tag.indexOf('=');
        return equals > 0 ? [tag.slice(0, equals), tag.slice(equals + 1)] : [tag, ''];
      }),
    );
  }

  #hosts({ fromMs, toMs }: UsageSpan): UsageFact[] {
    const rows = this.#database.all<HostRow>(
      `SELECT source.name AS source, host.name, host.facts, host.first_ms,
         COALESCE(host.gone_ms, source.removed_ms, source.ok_ms, host.last_ms) AS end_ms
       FROM host CROSS JOIN source ON source.id = host.source_id ORDER BY source.name, host.name`,
    );
    return rows
      .filter((row) => row.first_ms < toMs && row.end_ms > Math.max(row.first_ms, fromMs))
      .map((row) => {
        const facts = JSON.parse(row.facts) as { threads: number | null; memoryBytes: number | null };
        return {
          type: 'host',
          source: row.source,
          host: row.name,
          vcpus: facts.threads ?? 0,
          memoryBytes: facts.memoryBytes ?? 0,
          start: new Date(row.first_ms).toISOString(),
          end: new Date(row.end_ms).toISOString(),
        };
      });
  }
}
