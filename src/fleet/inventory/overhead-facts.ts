/** What hosts themselves needed as usage facts, host by host and hour by hour: only of hours in which they were read. */
import * as v from 'valibot';
import { BerthError } from '#base';
import type { Database } from '#store';
import { hourOf } from '../consumption/counting.ts';
import { overheadOf } from '../consumption/utilization.ts';

export interface OverheadFact {
  readonly type: 'overhead';
  readonly source: string;
  readonly host: string;
  /** Whole numbers as text: they may be beyond 2^53. */
  readonly cpuNs: string;
  readonly memoryByteMs: string;
  readonly start: string;
  readonly end: string;
}

interface Row {
  readonly hour_ms: number;
  readonly source_id: number;
  readonly native_id: string;
  readonly source: string;
  readonly name: string;
  readonly start_ms: number;
  readonly end_ms: number;
  readonly cpu: string;
  readonly memory: string;
  readonly cpu_seen_ms: number;
  readonly memory_seen_ms: number;
  readonly cpu_holds_vms: number;
  readonly vm_cpu: string;
  readonly vm_memory: string;
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** As far as the host's source has confirmed it: the same end as the host's own fact has. */
const START = 'MAX(m.hour_ms, h.first_ms)';
const END = `MIN(m.hour_ms + 3600000,
  COALESCE(h.gone_ms, (SELECT COALESCE(removed_ms, ok_ms) FROM source WHERE id = h.source_id), h.last_ms))`;
const FROM = `FROM host_consumed m JOIN host h ON h.source_id = m.source_id AND h.native_id = m.native_id
  WHERE m.hour_ms >= ? AND m.hour_ms < ? AND ${START} < ${END}`;

const PlaceSchema = v.tuple([v.number(), v.string(), v.number()]);

export class OverheadFacts {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  has({ fromMs, toMs }: Span): boolean {
    return this.#database.get(`SELECT 1 ${FROM} LIMIT 1`, hourOf(fromMs), toMs) !== undefined;
  }

  /**
   * @param after - what `next` said; undefined for the first page.
   * @throws fleet.cursor (invalid)
   */
  page(
    span: Span & { readonly limit: number },
    after: string | undefined,
  ): { readonly items: readonly OverheadFact[]; readonly next: string | undefined } {
    const rows = this.#database.all<Row>(
      `SELECT m.hour_ms, m.source_id, m.native_id, h.name, ${START} AS start_ms, ${END} AS end_ms,
         (SELECT name FROM source WHERE id = m.source_id) AS source,
         CAST(m.cpu_ns AS TEXT) AS cpu, CAST(m.memory_kib_ms AS TEXT) AS memory, m.cpu_seen_ms, m.memory_seen_ms, m.cpu_holds_vms,
         (SELECT CAST(COALESCE(SUM(c.cpu_ns), 0) AS TEXT) FROM consumed c
          WHERE c.source_id = m.source_id AND c.host_name = m.host_name AND c.hour_ms = m.hour_ms) AS vm_cpu,
         (SELECT CAST(COALESCE(SUM(c.memory_kib_ms), 0) AS TEXT) FROM consumed c
          WHERE c.source_id = m.source_id AND c.host_name = m.host_name AND c.hour_ms = m.hour_ms) AS vm_memory
       ${FROM} AND (m.source_id, m.native_id, m.hour_ms) > (?, ?, ?)
       ORDER BY m.source_id, m.native_id, m.hour_ms LIMIT ?`,
      hourOf(span.fromMs),
      span.toMs,
      ...(after === undefined ? ([0, '', 0] as const) : placeOf(after)),
      span.limit + 1,
    );
    const last = rows[span.limit - 1];
    const hasMore = rows.length > span.limit && last !== undefined;
    return {
      items: rows.slice(0, span.limit).map(factOf),
      next: hasMore ? JSON.stringify([last.source_id, last.native_id, last.hour_ms]) : undefined,
    };
  }
}

function factOf(row: Row): OverheadFact {
  const holdsVms = row.cpu_holds_vms === 1;
  const cpu = overheadOf(BigInt(row.vm_cpu), { amount: BigInt(row.cpu), seenMs: row.cpu_seen_ms, holdsVms });
  const memory = { amount: BigInt(row.memory), seenMs: row.memory_seen_ms, holdsVms: true };
  return {
    type: 'overhead',
    source: row.source,
    host: row.name,
    cpuNs: String(cpu),
    memoryByteMs: String(overheadOf(BigInt(row.vm_memory), memory) * 1024n),
    start: new Date(row.start_ms).toISOString(),
    end: new Date(row.end_ms).toISOString(),
  };
}

function placeOf(text: string): [number, string, number] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), PlaceSchema), text);
  if (parsed.success) return parsed.output;
  throw new BerthError('invalid', 'fleet.cursor', 'that is no place in the usage facts', {
    hint: 'give what "next" said, to the same question',
  });
}
