/** What hosts could, what their VMs used of it, and what was left, out of the database. */
import type { Database } from '#store';
import { hourOf } from '../consumption/counting.ts';
import { monthAt } from '../consumption/months.ts';
import { prunedMonths } from '../consumption/prune-table.ts';
import { type HostHour, hostHours } from '../consumption/utilization.ts';

export interface HostUseListing {
  readonly source: string;
  readonly host: string;
  readonly start: string;
  readonly end: string;
  /** Nanoseconds of processor; whole numbers as text. */
  readonly cpuNs: ShareText;
  readonly memoryKibMs: ShareText;
}

interface ShareText {
  readonly capacity: string;
  readonly used: string;
  /** Idle, and what the hypervisor itself needed. */
  readonly rest: string;
  readonly beyond: string;
}

interface HostRow {
  readonly source_id: number;
  readonly source: string;
  readonly name: string;
  readonly facts: string;
  readonly first_ms: number;
  readonly end_ms: number;
}

export class HostUseQueries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Hours of hosts, each host from the first to the last time it was seen, but for months whose consumption was let go. */
  hours(span: { readonly fromMs: number; readonly toMs: number }): HostUseListing[] {
    const hosts = this.#database.all<HostRow>(
      `SELECT host.source_id, source.name AS source, host.name, host.facts, host.first_ms,
         COALESCE(host.gone_ms, source.removed_ms, MAX(source.ok_ms, COALESCE(source.sampled_ms, 0)), host.last_ms) AS end_ms
       FROM host CROSS JOIN source ON source.id = host.source_id ORDER BY source.name, host.name`,
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
      return hostHours(presence, this.#uses(row, span), span)
        .filter((hour) => !pruned.has(monthAt(hour.startMs).name))
        .map((hour) => listed(row, hour));
    });
  }

  #uses(host: HostRow, { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number }) {
    return this.#database
      .all<{ hour_ms: number; cpu: string; memory: string }>(
        `SELECT hour_ms, CAST(SUM(cpu_ns) AS TEXT) AS cpu, CAST(SUM(memory_kib_ms) AS TEXT) AS memory FROM consumed
         WHERE hour_ms >= ? AND hour_ms < ? AND source_id = ? AND host_name = ? GROUP BY hour_ms`,
        hourOf(fromMs),
        toMs,
        host.source_id,
        host.name,
      )
      .map((row) => ({ hourMs: row.hour_ms, cpuNanoseconds: BigInt(row.cpu), memoryKibMs: BigInt(row.memory) }));
  }
}

function listed({ source, name }: HostRow, hour: HostHour): HostUseListing {
  const text = (share: HostHour['cpuNanoseconds']): ShareText => ({
    capacity: String(share.capacity),
    used: String(share.used),
    rest: String(share.rest),
    beyond: String(share.beyond),
  });
  return {
    source,
    host: name,
    start: new Date(hour.startMs).toISOString(),
    end: new Date(hour.endMs).toISOString(),
    cpuNs: text(hour.cpuNanoseconds),
    memoryKibMs: text(hour.memoryKibMs),
  };
}
