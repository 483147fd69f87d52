/**
 * Old rows of consumption, taken away a month at a time and some milliseconds at once.
 *
 *     there ─▶ marked as let go, first rows gone ─▶ … ─▶ all gone
 *
 * The mark is written with the first row that goes, and stays: whoever reads a month and finds no mark afterwards has read all
 * of it. Killed anywhere, it goes on with the next row. History intervals are nothing of this.
 */
import { monotonicMs } from '#platform';
import type { Database } from '#store';
import { type Month, monthAt } from './months.ts';

export type PrunedKind = 'hours' | 'gaps';

/** Rows taken at once, and for how long in one step; writing them out takes twice that. The daemon answers in between. */
const STEP_ROWS = 100;
const STEP_MS = 4;

export class PruneTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Months that lie before and still have rows, oldest first. A gap belongs to the month in which it ends. */
  monthsBefore(kind: PrunedKind, cutMs: number): Month[] {
    const months: Month[] = [];
    const [vms, hosts] =
      kind === 'hours'
        ? ['MIN(hour_ms) AS ms FROM consumed WHERE hour_ms', 'MIN(hour_ms) AS ms FROM host_consumed WHERE hour_ms']
        : ['MIN(to_ms) AS ms FROM gap WHERE to_ms', 'MIN(to_ms) AS ms FROM host_gap WHERE to_ms'];
    const sql = `SELECT MIN(ms) AS ms FROM (SELECT ${vms} >= ?1 UNION ALL SELECT ${hosts} >= ?1)`;
    for (let fromMs = 0; ; ) {
      const ms = this.#database.get<{ ms: number | null }>(sql, fromMs)?.ms ?? null;
      if (ms === null || monthAt(ms).endMs > cutMs) return months;
      const month = monthAt(ms);
      months.push(month);
      fromMs = month.endMs;
    }
  }

  /**
   * Takes some rows of a month away.
   *
   * @param sinceMs - gaps that begin before stay: they reach into a month that is needed.
   * @returns how many it took; 0 when none is left that may go.
   */
  step(
    kind: PrunedKind,
    month: Month,
    { sinceMs, nowMs }: { readonly sinceMs: number; readonly nowMs: number },
  ): number {
    return this.#database.transaction(() => {
      const until = monotonicMs() + STEP_MS;
      let taken = 0;
      for (let some = -1; some !== 0 && monotonicMs() < until; taken += some)
        some = kind === 'hours' ? this.#takeHours(month) : this.#takeGaps(month, sinceMs);
      if (taken > 0)
        this.#database.run(
          'INSERT INTO pruned (month, what, at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
          month.name,
          kind,
          nowMs,
        );
      return taken;
    });
  }

  /** Of hosts first: what they needed themselves is what is left of theirs when their VMs' is taken off. */
  #takeHours({ startMs, endMs }: Month): number {
    const ofHosts = this.#database.run(
      `DELETE FROM host_consumed WHERE (source_id, native_id, hour_ms) IN
         (SELECT source_id, native_id, hour_ms FROM host_consumed WHERE hour_ms >= ? AND hour_ms < ? LIMIT ?)`,
      startMs,
      endMs,
      STEP_ROWS,
    ).changes;
    if (ofHosts > 0) return ofHosts;
    return this.#database.run(
      `DELETE FROM consumed WHERE (hour_ms, vm_id, source_id, host_name) IN
         (SELECT hour_ms, vm_id, source_id, host_name FROM consumed WHERE hour_ms >= ? AND hour_ms < ?
          ORDER BY hour_ms, vm_id, source_id, host_name LIMIT ?)`,
      startMs,
      endMs,
      STEP_ROWS,
    ).changes;
  }

  #takeGaps({ startMs, endMs }: Month, sinceMs: number): number {
    const take = (table: 'gap' | 'host_gap'): number =>
      this.#database.run(
        `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE to_ms >= ? AND to_ms < ? AND from_ms >= ? LIMIT ?)`,
        startMs,
        endMs,
        sinceMs,
        STEP_ROWS,
      ).changes;
    return take('gap') || take('host_gap');
  }
}

/** Months of which hours of consumption, or some of them, are not there any more. */
export function prunedMonths(database: Database): ReadonlySet<string> {
  const rows = database.all<{ month: string }>("SELECT month FROM pruned WHERE what = 'hours'");
  return new Set(rows.map((row) => row.month));
}
