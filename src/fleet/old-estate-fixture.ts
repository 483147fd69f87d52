/** An estate with three years of consumption, for tests of what is let go and what is kept. */

import { someVm } from './fixture.ts';
import { Inventory } from './inventory/inventory.ts';
import { SourceTable } from './inventory/sources.ts';

/** It is the middle of November 2026. */
export const NOW_MS = Date.UTC(2026, 10, 15, 12);
const MONTHS = 35;
const VMS = 5;
const HOUR = 3_600_000;

/**
 * Each month of 2024-01 to 2026-11 has `hours` hours of each VM and of the host, at its beginning and at its end, and gaps of both; one gap spans
 * each turn.
 */
export function openOldEstate(path: string, hours = 4): Inventory {
  const inventory = Inventory.open(path);
  const { database } = inventory;
  const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
  const { id: sourceId } = new SourceTable(database).add(
    { ...fresh, name: 'a', everyMs: 1_000, sampleEveryMs: 60_000 },
    0,
  );
  const vms = Array.from({ length: VMS }, (_, n) => someVm({ nativeId: `id-${n}`, name: `vm-${n}` }));
  for (const atMs of [Date.UTC(2024, 0), NOW_MS]) {
    const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: atMs };
    inventory.apply({ sourceId, observation: { kind: 'snapshot', vms, unread: [], isComplete: true }, moment });
  }
  database.transaction(() => {
    for (let month = 0; month < MONTHS; month += 1) {
      const [startMs, endMs] = [Date.UTC(2024, month), Date.UTC(2024, month + 1)];
      const hourAt = (hour: number): number =>
        hour % 2 === 0 ? startMs + (hour / 2) * HOUR : endMs - ((hour + 1) / 2) * HOUR;
      for (let hour = 0; hour < hours; hour += 1)
        database.run(
          "INSERT INTO host_consumed VALUES (?, ?, 'h', 'h', ?, 3600000, 1, 8, 3600000)",
          hourAt(hour),
          sourceId,
          month * 1_000_000 + hour,
        );
      database.run(
        "INSERT INTO host_gap (source_id, native_id, kind, from_ms, to_ms) VALUES (?, 'h', 'late', ?, ?)",
        sourceId,
        startMs + 1,
        startMs + HOUR,
      );
      for (let vm = 1; vm <= VMS; vm += 1) {
        for (let hour = 0; hour < hours; hour += 1) {
          const hourMs = hourAt(hour);
          database.run(
            "INSERT INTO consumed VALUES (?, ?, ?, 'h', ?, ?, ?, 1, 2, 3, 4, 5, 6, 7)",
            hourMs,
            vm,
            sourceId,
            hourMs,
            hourMs + HOUR,
            month * 1_000_000 + hour,
          );
        }
        for (const [fromMs, toMs] of [
          [startMs + 1, startMs + HOUR],
          [endMs - HOUR, endMs - 1],
          [endMs - 1, endMs],
        ] as const)
          database.run(
            "INSERT INTO gap (vm_id, source_id, kind, from_ms, to_ms) VALUES (?, ?, 'late', ?, ?)",
            vm,
            sourceId,
            fromMs,
            toMs,
          );
      }
    }
  });
  return inventory;
}

/** Every row of every table but those that pruning is about, and what is left of these: of VMs and hosts, by time. */
export function contentsOf(inventory: Inventory): {
  others: string;
  hours: readonly string[];
  gaps: readonly string[];
} {
  const { database } = inventory;
  const rows = (sql: string): string[] => database.all<object>(sql).map((row) => JSON.stringify(row));
  const tables = ['source', 'host', 'vm', 'tag', 'sighting', 'interval', 'change', 'reading', 'host_reading', 'lease'];
  return {
    others: tables.map((table) => `${table}: ${rows(`SELECT * FROM ${table} ORDER BY 1, 2`).join('\n')}`).join('\n'),
    hours: [...rows('SELECT * FROM consumed'), ...rows('SELECT * FROM host_consumed')].sort(),
    gaps: [...rows('SELECT * FROM gap ORDER BY id'), ...rows('SELECT * FROM host_gap ORDER BY id')],
  };
}
