/**
 * What hosts used in `fleet.db`: of each host the last reading that was kept, sums by UTC hour with the time they are of, and the
 * gaps. As for VMs (consumption-table.ts) a reading and what it came to are one transaction.
 */
import type { Database } from '#store';
import type { HostPeriod, HostSample, SinceMs } from '../driver.ts';
import { requireLease } from '../inventory/leases.ts';
import type { Round } from './consumption-table.ts';
import { byHour } from './counting.ts';
import { countHost, countHostPeriod, type HostCounted, type KeptHostReading } from './host-counting.ts';

interface Counting {
  readonly sourceId: number;
  readonly nativeId: string;
  readonly name: string;
  readonly cpuHoldsVms: boolean;
}

export class HostConsumptionTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Hosts that no look has shown yet wait for it. @throws fleet.lease_lost (conflict): nothing is kept then. */
  take(round: Round, samples: readonly HostSample[]): void {
    this.#inTransaction(round, () => {
      for (const sample of samples) {
        const { nativeId, run, atMs, cpuNanoseconds, cpuHoldsVms } = sample;
        const host = this.#host(round.sourceId, nativeId);
        if (host === undefined) continue;
        const counting = { sourceId: round.sourceId, nativeId, name: host.name, cpuHoldsVms };
        const counted = countHost(this.#kept(counting), sample, round.everyMs);
        if (counted === undefined) continue;
        this.#keep(counting, { run, atMs, cpuNanoseconds });
        this.#add(counting, counted);
      }
    });
  }

  /** In their order; each is counted once, however often it is told. @throws fleet.lease_lost */
  takePeriods(round: Round, periods: readonly HostPeriod[]): void {
    this.#inTransaction(round, () => {
      for (const period of periods) {
        const { nativeId } = period;
        const host = this.#host(round.sourceId, nativeId);
        if (host === undefined) continue;
        const counting = { sourceId: round.sourceId, nativeId, name: host.name, cpuHoldsVms: true };
        const before = this.#kept(counting);
        const untilMs = before?.atMs ?? host.first_ms;
        const counted = countHostPeriod(period, { untilMs, isFirst: before === undefined });
        if (counted === undefined) continue;
        this.#keep(counting, { run: null, atMs: counted.span.endMs, cpuNanoseconds: null });
        this.#add(counting, counted);
      }
    });
  }

  /** Since when periods of a source's hosts count: what was counted of each lies before. Undefined of hosts that are not there. */
  periodsSince(sourceId: number): SinceMs {
    const rows = this.#database.all<{ native_id: string; ms: number }>(
      `SELECT h.native_id, COALESCE(r.at_ms, h.first_ms) AS ms FROM host h
       LEFT JOIN host_reading r ON r.source_id = h.source_id AND r.native_id = h.native_id
       WHERE h.source_id = ? AND h.gone_ms IS NULL`,
      sourceId,
    );
    const known = new Map(rows.map((row) => [row.native_id, row.ms]));
    return (nativeId) => known.get(nativeId);
  }

  #inTransaction({ sourceId, holder, nowMs }: Round, work: () => void): void {
    this.#database.transaction(() => {
      if (holder !== undefined) requireLease(this.#database, sourceId, { holder, nowMs });
      work();
    });
  }

  /** Undefined for one that is not known, or gone. */
  #host(sourceId: number, nativeId: string): { readonly name: string; readonly first_ms: number } | undefined {
    return this.#database.get(
      'SELECT name, first_ms FROM host WHERE source_id = ? AND native_id = ? AND gone_ms IS NULL',
      sourceId,
      nativeId,
    );
  }

  #kept({ sourceId, nativeId }: Counting): KeptHostReading | undefined {
    const row = this.#database.get<{ run: string | null; at_ms: number; cpu_ns: string | null }>(
      'SELECT run, at_ms, cpu_ns FROM host_reading WHERE source_id = ? AND native_id = ?',
      sourceId,
      nativeId,
    );
    if (row === undefined) return undefined;
    return { run: row.run, atMs: row.at_ms, cpuNanoseconds: row.cpu_ns === null ? null : BigInt(row.cpu_ns) };
  }

  #keep({ sourceId, nativeId }: Counting, { run, atMs, cpuNanoseconds }: KeptHostReading): void {
    this.#database.run(
      `INSERT INTO host_reading (source_id, native_id, run, at_ms, cpu_ns) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT DO UPDATE SET run = ?3, at_ms = ?4, cpu_ns = ?5`,
      sourceId,
      nativeId,
      run,
      atMs,
      cpuNanoseconds === null ? null : String(cpuNanoseconds),
    );
  }

  #add({ sourceId, nativeId, name, cpuHoldsVms }: Counting, { span, amounts, gaps }: HostCounted): void {
    const pieces = span.endMs > span.startMs ? byHour({ span, amounts, gaps: [] }, 0) : [];
    for (const { hourMs, startMs, endMs, amounts: part } of pieces) {
      const seenMs = endMs - startMs;
      this.#database.run(
        `INSERT INTO host_consumed (hour_ms, source_id, native_id, host_name, cpu_ns, cpu_seen_ms, cpu_holds_vms, memory_kib_ms,
           memory_seen_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET cpu_ns = cpu_ns + excluded.cpu_ns, cpu_seen_ms = cpu_seen_ms + excluded.cpu_seen_ms,
           memory_kib_ms = memory_kib_ms + excluded.memory_kib_ms, memory_seen_ms = memory_seen_ms + excluded.memory_seen_ms`,
        hourMs,
        sourceId,
        nativeId,
        name,
        part.cpuNanoseconds ?? 0n,
        amounts.cpuNanoseconds === undefined ? 0 : seenMs,
        cpuHoldsVms ? 1 : 0,
        part.memoryKibMs ?? 0n,
        amounts.memoryKibMs === undefined ? 0 : seenMs,
      );
    }
    for (const { kind, fromMs, toMs } of gaps)
      this.#database.run(
        'INSERT INTO host_gap (source_id, native_id, kind, from_ms, to_ms) VALUES (?, ?, ?, ?, ?)',
        sourceId,
        nativeId,
        kind,
        fromMs,
        toMs,
      );
  }
}
