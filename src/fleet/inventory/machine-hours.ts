/** What became of a machine hour by hour, whichever sources show it, out of the database. */
import type { Database } from '#store';
import { hourOf } from '../consumption/counting.ts';
import type { HostGap } from '../consumption/host-counting.ts';
import {
  type HostHour,
  type HostMeasured,
  type HostUse,
  hostHours,
  type Measured,
} from '../consumption/utilization.ts';
import type { HostBook, HostId, HostSpan } from './host-book.ts';

const HOUR_MS = 3_600_000;

export interface MachineHour extends HostHour<HostSpan> {
  /** Somebody read the machine in this hour. */
  readonly isRead: boolean;
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

interface Reading extends HostMeasured {
  readonly host: HostId;
}

export class MachineHours {
  readonly #database: Database;
  readonly #book: HostBook;

  constructor(database: Database, book: HostBook) {
    this.#database = database;
    this.#book = book;
  }

  /** Hours that the span touches, whole, from the first to the last time the machine was seen. */
  of(machine: number, span: Span): MachineHour[] {
    const whole = { fromMs: hourOf(span.fromMs), toMs: hourOf(span.toMs + HOUR_MS - 1) };
    const presences = this.#book
      .presences(machine)
      .filter((one) => one.startMs < whole.toMs && one.endMs > whole.fromMs);
    if (presences.length === 0) return [];
    const measured = this.#measured(machine, { presences, whole });
    const readings = { uses: this.#uses(machine, whole), measured };
    const read = new Set(measured.map(({ hourMs }) => hourMs));
    return hostHours(presences, readings, whole).map((hour) => ({ ...hour, isRead: read.has(hour.hourMs) }));
  }

  gaps(machine: number, { fromMs, toMs }: Span): HostGap[] {
    return this.#book.hostsOf(machine).flatMap(({ sourceId, nativeId }) =>
      this.#database
        .all<{ kind: HostGap['kind']; from_ms: number; to_ms: number }>(
          `SELECT kind, from_ms, to_ms FROM host_gap
           WHERE source_id = ? AND native_id = ? AND to_ms > ? AND from_ms < ? ORDER BY id`,
          sourceId,
          nativeId,
          fromMs,
          toMs,
        )
        .filter((row) => this.#book.machineIn({ sourceId, nativeId }, hourOf(row.from_ms)) === machine)
        .map((row) => ({ kind: row.kind, fromMs: row.from_ms, toMs: row.to_ms })),
    );
  }

  /** Each VM is counted by one source: what all sources counted on the machine is what its VMs used. */
  #uses(machine: number, span: Span): HostUse[] {
    const sums = new Map<number, HostUse>();
    for (const host of this.#book.hostsOf(machine)) {
      for (const use of this.#usesOf(host, span)) {
        const { hourMs } = use;
        if (this.#book.machineIn(host, hourMs) !== machine) continue;
        const before = sums.get(hourMs);
        sums.set(hourMs, {
          hourMs,
          cpuNanoseconds: use.cpuNanoseconds + (before?.cpuNanoseconds ?? 0n),
          memoryKibMs: use.memoryKibMs + (before?.memoryKibMs ?? 0n),
        });
      }
    }
    return [...sums.values()];
  }

  /** Under the name that the host had in each hour; in hours that it was not read, under the one it has. */
  #usesOf(host: HostId, { fromMs, toMs }: Span): HostUse[] {
    return this.#database
      .all<{ hour_ms: number; cpu: string; memory: string }>(
        `SELECT c.hour_ms, CAST(SUM(c.cpu_ns) AS TEXT) AS cpu, CAST(SUM(c.memory_kib_ms) AS TEXT) AS memory
         FROM consumed c
         LEFT JOIN host_consumed m ON m.hour_ms = c.hour_ms AND m.source_id = c.source_id AND m.native_id = ?1
         WHERE c.source_id = ?2 AND c.hour_ms >= ?3 AND c.hour_ms < ?4
           AND c.host_name IN (SELECT ?5 UNION SELECT host_name FROM host_consumed
             WHERE source_id = ?2 AND native_id = ?1 AND hour_ms >= ?3 AND hour_ms < ?4)
           AND c.host_name = COALESCE(m.host_name, ?5)
         GROUP BY c.hour_ms`,
        host.nativeId,
        host.sourceId,
        fromMs,
        toMs,
        this.#book.nameOf(host),
      )
      .map((row) => ({ hourMs: row.hour_ms, cpuNanoseconds: BigInt(row.cpu), memoryKibMs: BigInt(row.memory) }));
  }

  /** All sources read the same machine: of each hour one is believed, the one that describes the machine before the one that saw most. */
  #measured(machine: number, { presences, whole }: { presences: readonly HostSpan[]; whole: Span }): HostMeasured[] {
    const byHour = new Map<number, Reading[]>();
    for (const host of this.#book.hostsOf(machine)) {
      for (const reading of this.#readingsOf(host, whole)) {
        if (this.#book.machineIn(host, reading.hourMs) !== machine) continue;
        byHour.set(reading.hourMs, [...(byHour.get(reading.hourMs) ?? []), reading]);
      }
    }
    return [...byHour].map(([hourMs, readings]) => {
      const describing = presences.find((one) => one.startMs < hourMs + HOUR_MS && one.endMs > hourMs);
      return {
        hourMs,
        cpu: believed(readings, describing, ({ cpu }) => cpu),
        memory: believed(readings, describing, ({ memory }) => memory),
      };
    });
  }

  #readingsOf(host: HostId, { fromMs, toMs }: Span): Reading[] {
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
        host.sourceId,
        host.nativeId,
      )
      .map((row) => ({
        host,
        hourMs: row.hour_ms,
        cpu: { amount: BigInt(row.cpu), seenMs: row.cpu_seen_ms, holdsVms: row.cpu_holds_vms === 1 },
        memory: { amount: BigInt(row.memory), seenMs: row.memory_seen_ms, holdsVms: true },
      }));
  }
}

function believed(
  readings: readonly Reading[],
  describing: HostSpan | undefined,
  partOf: (reading: Reading) => Measured,
): Measured {
  const own = readings.find(
    ({ host }) => host.sourceId === describing?.sourceId && host.nativeId === describing.nativeId,
  );
  const first = own === undefined ? undefined : partOf(own);
  if (first !== undefined && first.seenMs > 0) return first;
  const [most] = readings.map(partOf).sort((a, b) => b.seenMs - a.seenMs);
  return most ?? { amount: 0n, seenMs: 0, holdsVms: true };
}
