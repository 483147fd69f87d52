/** What hosts could, what their VMs and they themselves used of it, and what was left, out of the database. */
import type { Database } from '#store';
import { hourOf } from '../consumption/counting.ts';
import type { HostGap } from '../consumption/host-counting.ts';
import { monthAt } from '../consumption/months.ts';
import { prunedMonths } from '../consumption/prune-table.ts';
import { type HostHour, type HostMeasured, type HostUse, hostHours } from '../consumption/utilization.ts';

const HOUR_MS = 3_600_000;

export interface HostUseListing {
  readonly source: string;
  readonly host: string;
  readonly start: string;
  readonly end: string;
  /** Nanoseconds of processor; whole numbers as text. */
  readonly cpuNs: ShareText;
  readonly memoryKibMs: ShareText;
  /** Time of which readings tell less than happened. */
  readonly gaps: readonly { readonly kind: HostGap['kind']; readonly start: string; readonly end: string }[];
}

/** capacity + beyond = used + overhead + idle + unknown */
export type ShareText = Readonly<Record<keyof HostHour['cpuNanoseconds'], string>>;

interface HostRow {
  readonly source_id: number;
  readonly native_id: string;
  readonly source: string;
  readonly name: string;
  readonly facts: string;
  readonly first_ms: number;
  readonly end_ms: number;
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export class HostUseQueries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Hours that the span touches, whole, of hosts, each from the first to the last time it was seen, but for
   * months whose consumption was let go.
   *
   * @param span - `host`: of hosts with this name only.
   */
  hours(span: Span & { readonly host?: string | undefined }): HostUseListing[] {
    const whole = { fromMs: hourOf(span.fromMs), toMs: hourOf(span.toMs + HOUR_MS - 1) };
    const hosts = this.#database.all<HostRow>(
      `SELECT host.source_id, host.native_id, source.name AS source, host.name, host.facts, host.first_ms,
         COALESCE(host.gone_ms, source.removed_ms, MAX(source.ok_ms, COALESCE(source.sampled_ms, 0)), host.last_ms) AS end_ms
       FROM host CROSS JOIN source ON source.id = host.source_id
       WHERE ?1 IS NULL OR host.name = ?1 ORDER BY source.name, host.name`,
      span.host ?? null,
    );
    const pruned = prunedMonths(this.#database);
    return hosts.flatMap((row) => {
      const facts = JSON.parse(row.facts) as { threads: number | null; memoryBytes: number | null };
      const presence = {
        threads: Math.trunc(facts.threads ?? 0),
        memoryBytes: facts.memoryBytes ?? 0,
        startMs: row.first_ms,
        endMs: row.end_ms,
      };
      if (presence.startMs >= whole.toMs || presence.endMs <= whole.fromMs) return [];
      const readings = { uses: this.#uses(row, whole), measured: this.#measured(row, whole) };
      const gaps = this.#gaps(row, whole);
      return hostHours(presence, readings, whole)
        .filter((hour) => !pruned.has(monthAt(hour.startMs).name))
        .map((hour) => listed(row, hour, gaps));
    });
  }

  /** Under the name that the host had in each hour; in hours that it was not read, under the one it has. */
  #uses(host: HostRow, { fromMs, toMs }: Span): HostUse[] {
    return this.#database
      .all<{ hour_ms: number; cpu: string; memory: string }>(
        `SELECT c.hour_ms, CAST(SUM(c.cpu_ns) AS TEXT) AS cpu, CAST(SUM(c.memory_kib_ms) AS TEXT) AS memory FROM consumed c
         LEFT JOIN host_consumed m ON m.hour_ms = c.hour_ms AND m.source_id = c.source_id AND m.native_id = ?1
         WHERE c.source_id = ?2 AND c.hour_ms >= ?3 AND c.hour_ms < ?4
           AND c.host_name IN (SELECT ?5 UNION SELECT host_name FROM host_consumed
             WHERE source_id = ?2 AND native_id = ?1 AND hour_ms >= ?3 AND hour_ms < ?4)
           AND c.host_name = COALESCE(m.host_name, ?5)
         GROUP BY c.hour_ms`,
        host.native_id,
        host.source_id,
        fromMs,
        toMs,
        host.name,
      )
      .map((row) => ({ hourMs: row.hour_ms, cpuNanoseconds: BigInt(row.cpu), memoryKibMs: BigInt(row.memory) }));
  }

  #measured(host: HostRow, { fromMs, toMs }: Span): HostMeasured[] {
    return this.#database
      .all<{
        hour_ms: number;
        cpu: string;
        memory: string;
        cpu_seen_ms: number;
        memory_seen_ms: number;
        cpu_holds_vms: number;
      }>(
        `SELECT hour_ms, CAST(cpu_ns AS TEXT) AS cpu, CAST(memory_kib_ms AS TEXT) AS memory, cpu_seen_ms, memory_seen_ms,
           cpu_holds_vms FROM host_consumed WHERE hour_ms >= ? AND hour_ms < ? AND source_id = ? AND native_id = ?`,
        fromMs,
        toMs,
        host.source_id,
        host.native_id,
      )
      .map((row) => ({
        hourMs: row.hour_ms,
        cpu: { amount: BigInt(row.cpu), seenMs: row.cpu_seen_ms, holdsVms: row.cpu_holds_vms === 1 },
        memory: { amount: BigInt(row.memory), seenMs: row.memory_seen_ms, holdsVms: true },
      }));
  }

  #gaps(host: HostRow, { fromMs, toMs }: Span): HostGap[] {
    return this.#database
      .all<{ kind: HostGap['kind']; from_ms: number; to_ms: number }>(
        `SELECT kind, from_ms, to_ms FROM host_gap
         WHERE source_id = ? AND native_id = ? AND to_ms > ? AND from_ms < ? ORDER BY id`,
        host.source_id,
        host.native_id,
        fromMs,
        toMs,
      )
      .map((row) => ({ kind: row.kind, fromMs: row.from_ms, toMs: row.to_ms }));
  }
}

function listed({ source, name }: HostRow, hour: HostHour, gaps: readonly HostGap[]): HostUseListing {
  return {
    source,
    host: name,
    start: new Date(hour.startMs).toISOString(),
    end: new Date(hour.endMs).toISOString(),
    cpuNs: textOf(hour.cpuNanoseconds),
    memoryKibMs: textOf(hour.memoryKibMs),
    gaps: gaps
      .filter((gap) => gap.toMs > hour.startMs && gap.fromMs < hour.endMs)
      .map(({ kind, fromMs, toMs }) => ({
        kind,
        start: new Date(fromMs).toISOString(),
        end: new Date(toMs).toISOString(),
      })),
  };
}

function textOf(share: HostHour['cpuNanoseconds']): ShareText {
  const { capacity, used, overhead, idle, unknown, beyond } = share;
  return {
    capacity: String(capacity),
    used: String(used),
    overhead: String(overhead),
    idle: String(idle),
    unknown: String(unknown),
    beyond: String(beyond),
  };
}
