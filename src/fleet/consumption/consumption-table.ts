/**
 * Consumption in `fleet.db`: of each VM the last reading that was kept, sums by UTC hour and place, and the gaps.
 *
 * A reading and what it came to are one transaction: SIGKILL anywhere, and the next reading is compared with the one that the
 * sums hold. One source counts for a VM, the one whose word counts; others move their baselines along and add nothing.
 */
import type { Database } from '#store';
import type { SinceMs, VmPeriod, VmSample } from '../driver.ts';
import { requireLease } from '../inventory/leases.ts';
import {
  byHour,
  COUNTERS,
  type Counted,
  type Counter,
  countBetween,
  countPeriod,
  type Gap,
  type HourPiece,
  type KeptReading,
  keptAfter,
} from './counting.ts';

/** States in which a VM has no machine, and so no counters. */
const WITHOUT_MACHINE: ReadonlySet<string> = new Set(['off', 'crashed', 'suspended']);

interface VmPlace {
  readonly vm_id: number;
  readonly leading: number;
  readonly host_name: string;
  readonly counted_ms: number | null;
  readonly first_ms: number;
}

interface ReadingRow {
  readonly run: string | null;
  readonly at_ms: number;
  readonly ended_ms: number | null;
  readonly counters: string;
}

export interface Round {
  readonly sourceId: number;
  /** The collector that read: refused when another one has taken the source over. */
  readonly holder?: string | undefined;
  /** Our clock. */
  readonly nowMs: number;
  readonly everyMs: number;
}

export class ConsumptionTable {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Some of a round's readings; each VM's is counted by itself. @throws fleet.lease_lost (conflict): nothing is kept then. */
  take(round: Round, samples: readonly VmSample[]): void {
    this.#database.transaction(() => {
      if (round.holder !== undefined)
        requireLease(this.#database, round.sourceId, { holder: round.holder, nowMs: round.nowMs });
      for (const sample of samples) this.#takeOne(round, sample);
    });
  }

  /** Some of a round's periods, in their order; each is counted once, however often it is told. @throws fleet.lease_lost */
  takePeriods(round: Round, periods: readonly VmPeriod[]): void {
    this.#database.transaction(() => {
      if (round.holder !== undefined)
        requireLease(this.#database, round.sourceId, { holder: round.holder, nowMs: round.nowMs });
      for (const period of periods) this.#takePeriod(round, period);
    });
  }

  /** Since when periods of a source's VMs count: what was counted of each lies before. Undefined of VMs that no look has shown. */
  periodsSince(sourceId: number): SinceMs {
    const firstOk = this.#firstOk(sourceId);
    const rows = this.#database.all<{ native_id: string; vm_id: number; first_ms: number; at_ms: number | null }>(
      `SELECT s.native_id, s.vm_id, s.first_ms, r.at_ms FROM sighting s
       LEFT JOIN reading r ON r.source_id = s.source_id AND r.vm_id = s.vm_id
       WHERE s.source_id = ? AND s.gone_ms IS NULL`,
      sourceId,
    );
    const known = new Map(rows.map((row) => [row.native_id, row]));
    return (nativeId) => {
      const row = known.get(nativeId);
      if (row === undefined || firstOk === undefined) return undefined;
      if (row.at_ms !== null) return row.at_ms;
      // What one that was there all along used until then is nobody's.
      return row.first_ms <= firstOk ? firstOk : (this.#runBegan(sourceId, row) ?? firstOk);
    };
  }

  /** The round is whole: VMs that were read before and not in it have ended. @param present - native ids that were read. */
  finish(round: Round, present: ReadonlySet<string>): void {
    this.#database.transaction(() => {
      if (round.holder !== undefined)
        requireLease(this.#database, round.sourceId, { holder: round.holder, nowMs: round.nowMs });
      const live = this.#database.all<{ vm_id: number; at_ms: number; native_id: string | null }>(
        `SELECT r.vm_id, r.at_ms, s.native_id FROM reading r
         LEFT JOIN sighting s ON s.source_id = r.source_id AND s.vm_id = r.vm_id AND s.gone_ms IS NULL
         WHERE r.source_id = ? AND r.ended_ms IS NULL`,
        round.sourceId,
      );
      for (const { vm_id, at_ms, native_id } of live) {
        if (native_id !== null && present.has(native_id)) continue;
        this.#database.run(
          'UPDATE reading SET ended_ms = ? WHERE source_id = ? AND vm_id = ?',
          round.nowMs,
          round.sourceId,
          vm_id,
        );
        if (round.nowMs > at_ms)
          this.#addGap({ sourceId: round.sourceId, vmId: vm_id }, { kind: 'ended', fromMs: at_ms, toMs: round.nowMs });
      }
      this.#database.run('UPDATE source SET sampled_ms = ? WHERE id = ?', round.nowMs, round.sourceId);
    });
  }

  #takePeriod({ sourceId }: Round, period: VmPeriod): void {
    const place = this.#place(sourceId, period.nativeId);
    if (place === undefined) return;
    const before = this.#kept(sourceId, place.vm_id);
    // Of one that was there all along only what it does from the source's first look on is anybody's.
    const beganMs = this.#runBegan(sourceId, place) ?? this.#firstOk(sourceId);
    if (beganMs === undefined) return;
    const counted = countPeriod(period, { untilMs: before?.atMs ?? beganMs, hasEnded: before?.hasEnded ?? true });
    if (counted === undefined) return;
    this.#keep(sourceId, place.vm_id, { run: null, atMs: counted.span.endMs, hasEnded: false, counters: {} });
    if (place.leading === sourceId) this.#add(sourceId, place, counted);
  }

  #place(sourceId: number, nativeId: string): VmPlace | undefined {
    return this.#database.get<VmPlace>(
      `SELECT s.vm_id, vm.source_id AS leading, vm.host_name, vm.counted_ms, s.first_ms
       FROM sighting s JOIN vm ON vm.id = s.vm_id WHERE s.source_id = ? AND s.native_id = ? AND s.gone_ms IS NULL`,
      sourceId,
      nativeId,
    );
  }

  #firstOk(sourceId: number): number | undefined {
    const row = this.#database.get<{ ms: number | null }>(
      'SELECT first_ok_ms AS ms FROM source WHERE id = ?',
      sourceId,
    );
    return row?.ms ?? undefined;
  }

  #takeOne({ sourceId, everyMs }: Round, sample: VmSample): void {
    const place = this.#place(sourceId, sample.nativeId);
    // The next look shows who it is; its counters lose nothing by waiting.
    if (place === undefined) return;
    const before = this.#kept(sourceId, place.vm_id);
    const counted = countBetween(before, sample, { everyMs, beganMs: this.#runBegan(sourceId, place) });
    if (counted === undefined) return;
    this.#keep(sourceId, place.vm_id, keptAfter(before, sample));
    if (place.leading === sourceId) this.#add(sourceId, place, counted);
  }

  #add(sourceId: number, place: VmPlace, counted: Counted): void {
    for (const piece of byHour(counted, place.counted_ms ?? 0)) this.#addPiece(sourceId, place, piece);
    for (const gap of counted.gaps) this.#addGap({ sourceId, vmId: place.vm_id }, gap);
    this.#database.run(
      'UPDATE vm SET counted_ms = MAX(COALESCE(counted_ms, 0), ?) WHERE id = ?',
      counted.span.endMs,
      place.vm_id,
    );
  }

  #addPiece(sourceId: number, place: VmPlace, { hourMs, startMs, endMs, amounts }: HourPiece): void {
    this.#database.run(
      `INSERT INTO consumed (hour_ms, vm_id, source_id, host_name, from_ms, to_ms, cpu_ns, memory_kib_ms, disk_read_bytes,
         disk_written_bytes, disk_reads, disk_writes, received_bytes, sent_bytes)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET from_ms = MIN(from_ms, excluded.from_ms), to_ms = MAX(to_ms, excluded.to_ms),
         cpu_ns = cpu_ns + excluded.cpu_ns, memory_kib_ms = memory_kib_ms + excluded.memory_kib_ms,
         disk_read_bytes = disk_read_bytes + excluded.disk_read_bytes,
         disk_written_bytes = disk_written_bytes + excluded.disk_written_bytes,
         disk_reads = disk_reads + excluded.disk_reads, disk_writes = disk_writes + excluded.disk_writes,
         received_bytes = received_bytes + excluded.received_bytes, sent_bytes = sent_bytes + excluded.sent_bytes`,
      hourMs,
      place.vm_id,
      sourceId,
      place.host_name,
      startMs,
      endMs,
      amounts.cpuNanoseconds ?? 0n,
      amounts.memoryKibMs ?? 0n,
      amounts.diskReadBytes ?? 0n,
      amounts.diskWrittenBytes ?? 0n,
      amounts.diskReads ?? 0n,
      amounts.diskWrites ?? 0n,
      amounts.receivedBytes ?? 0n,
      amounts.sentBytes ?? 0n,
    );
  }

  #addGap({ sourceId, vmId }: { readonly sourceId: number; readonly vmId: number }, gap: Gap): void {
    this.#database.run(
      'INSERT INTO gap (vm_id, source_id, kind, from_ms, to_ms) VALUES (?, ?, ?, ?, ?)',
      vmId,
      sourceId,
      gap.kind,
      gap.fromMs,
      gap.toMs,
    );
  }

  #kept(sourceId: number, vmId: number): KeptReading | undefined {
    const row = this.#database.get<ReadingRow>(
      'SELECT run, at_ms, ended_ms, counters FROM reading WHERE source_id = ? AND vm_id = ?',
      sourceId,
      vmId,
    );
    if (row === undefined) return undefined;
    const stored = JSON.parse(row.counters) as Partial<Record<Counter, string>>;
    const counters = Object.fromEntries(
      COUNTERS.flatMap((name) => (stored[name] === undefined ? [] : [[name, BigInt(stored[name])]])),
    );
    return { run: row.run, atMs: row.at_ms, hasEnded: row.ended_ms !== null, counters };
  }

  /** Counters go up to 2^64, beyond what a column holds: as text. */
  #keep(sourceId: number, vmId: number, { run, atMs, counters }: KeptReading): void {
    const stored = Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, String(value)]));
    this.#database.run(
      `INSERT INTO reading (source_id, vm_id, run, at_ms, counters) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT DO UPDATE SET run = ?3, at_ms = ?4, ended_ms = NULL, counters = ?5`,
      sourceId,
      vmId,
      run,
      atMs,
      JSON.stringify(stored),
    );
  }

  /**
   * Not before when the VM's run began: the last time it was seen without a machine, or that it was not there. Undefined when
   * it was there and running at the source's first look: what it used until then is nobody's.
   */
  #runBegan(sourceId: number, { vm_id, first_ms }: Pick<VmPlace, 'vm_id' | 'first_ms'>): number | undefined {
    const rows = this.#database.all<{ power_state: string; opened_not_before_ms: number; causes: string }>(
      `SELECT power_state, opened_not_before_ms, causes FROM interval WHERE vm_id = ? AND opened_how <> 'told'
       ORDER BY opened_ms DESC, id DESC LIMIT 20`,
      vm_id,
    );
    const off = rows.findIndex((row) => WITHOUT_MACHINE.has(row.power_state));
    const began = off > 0 ? rows[off - 1] : undefined;
    if (began !== undefined) return began.opened_not_before_ms;
    const appeared = rows.find((row) => row.causes.split(',').includes('appeared'));
    const firstOk = this.#firstOk(sourceId);
    const wasThere = firstOk === undefined || first_ms <= firstOk;
    return wasThere || appeared === undefined ? undefined : appeared.opened_not_before_ms;
  }
}
