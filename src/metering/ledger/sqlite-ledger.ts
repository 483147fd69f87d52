/** The ledger in a SQLite file: one host, no server. */
import { openSqlFile, type SqlFile } from '#store';
import type { MonthName } from '../usage/time-cuts.ts';
import { readCharge, writeCharge } from './charge-document.ts';
import {
  checkBooking,
  type Ledger,
  type LedgerEntry,
  type Period,
  type Recording,
  type RecordingOutcome,
} from './ledger.ts';
import { planCorrections, planReplacement, type StoredRow } from './plan.ts';

const LAYOUT = {
  version: 1,
  // The triggers hold what the code promises, also against other programs: nothing of a closed month changes.
  sql: `
    CREATE TABLE IF NOT EXISTS period (name TEXT PRIMARY KEY, closed_at_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entry (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      kind TEXT NOT NULL CHECK (kind IN ('charge', 'correction')),
      period TEXT NOT NULL, scope TEXT NOT NULL, booked_into TEXT NOT NULL,
      key TEXT NOT NULL, round INTEGER NOT NULL, recorded_at_ms INTEGER NOT NULL, document TEXT NOT NULL,
      UNIQUE (period, scope, key, kind, round)
    );
    CREATE INDEX IF NOT EXISTS entry_booked ON entry (booked_into, id);
    CREATE TRIGGER IF NOT EXISTS entry_closed_delete BEFORE DELETE ON entry
      WHEN OLD.kind = 'correction' OR EXISTS (SELECT 1 FROM period WHERE name = OLD.booked_into AND closed_at_ms IS NOT NULL)
      BEGIN SELECT RAISE(ABORT, 'entries of a closed period are not removed'); END;
    CREATE TRIGGER IF NOT EXISTS entry_closed_update BEFORE UPDATE ON entry
      WHEN OLD.kind = 'correction' OR EXISTS (SELECT 1 FROM period WHERE name = OLD.booked_into AND closed_at_ms IS NOT NULL)
      BEGIN SELECT RAISE(ABORT, 'entries of a closed period are not changed'); END;
    CREATE TRIGGER IF NOT EXISTS entry_closed_insert BEFORE INSERT ON entry
      WHEN EXISTS (SELECT 1 FROM period WHERE name = NEW.booked_into AND closed_at_ms IS NOT NULL)
      BEGIN SELECT RAISE(ABORT, 'nothing is booked into a closed period'); END;
    CREATE TRIGGER IF NOT EXISTS period_reopened BEFORE UPDATE ON period WHEN OLD.closed_at_ms IS NOT NULL
      BEGIN SELECT RAISE(ABORT, 'a closed period stays closed'); END;
    CREATE TRIGGER IF NOT EXISTS period_removed BEFORE DELETE ON period
      BEGIN SELECT RAISE(ABORT, 'periods are not removed'); END`,
};

/** @throws store.newer (unsupported) */
export function openSqliteLedger(path: string): Ledger {
  const file = openSqlFile(path, LAYOUT);
  return {
    record: async (recording) => file.transaction(() => record(file, recording)),
    close: async (period, atMs) =>
      file.transaction(() => {
        file.database.prepare('INSERT INTO period VALUES (?, ?) ON CONFLICT (name) DO NOTHING').run(period, atMs);
        return periodOf(file, period);
      }),
    period: async (period) => periodOf(file, period),
    entries: async (period) => entriesOf(file, period),
    disconnect: async () => file.close(),
  };
}

function record({ database }: SqlFile, recording: Recording): RecordingOutcome {
  const { period, scope, charges, bookInto, atMs } = recording;
  const stored = database
    .prepare('SELECT kind, key, document FROM entry WHERE period = ? AND scope = ? ORDER BY id')
    .all(period, scope) as unknown as StoredRow[];
  const insert = database.prepare(
    'INSERT INTO entry (kind, period, scope, booked_into, key, round, recorded_at_ms, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
  );
  if (periodOf({ database }, period).state === 'open') {
    const { add, replace, remove } = planReplacement(stored, charges);
    const drop = database.prepare("DELETE FROM entry WHERE period = ? AND scope = ? AND key = ? AND kind = 'charge'");
    const change = database.prepare(
      "UPDATE entry SET document = ?, recorded_at_ms = ? WHERE period = ? AND scope = ? AND key = ? AND kind = 'charge'",
    );
    for (const key of remove) drop.run(period, scope, key);
    for (const { key, document } of replace) change.run(document, atMs, period, scope, key);
    for (const { key, document } of add) insert.run('charge', period, scope, period, key, 0, atMs, document);
    return { added: add.length, replaced: replace.length, removed: remove.length, corrections: 0 };
  }
  const corrections = planCorrections(stored, charges);
  if (corrections.length > 0) checkBooking(recording, periodOf({ database }, bookInto));
  const round = stored.length;
  for (const [index, charge] of corrections.entries())
    insert.run('correction', period, scope, bookInto, charge.key, round + index, atMs, writeCharge(charge));
  return { added: 0, replaced: 0, removed: 0, corrections: corrections.length };
}

function periodOf({ database }: Pick<SqlFile, 'database'>, period: MonthName): Period {
  const row = database.prepare('SELECT closed_at_ms FROM period WHERE name = ?').get(period) as
    | { closed_at_ms: number | null }
    | undefined;
  const closedAtMs = row?.closed_at_ms ?? undefined;
  return { period, state: closedAtMs === undefined ? 'open' : 'closed', closedAtMs };
}

function entriesOf({ database }: SqlFile, period: MonthName): LedgerEntry[] {
  const rows = database
    .prepare('SELECT kind, scope, recorded_at_ms, document FROM entry WHERE booked_into = ? ORDER BY id')
    .all(period) as { kind: 'charge' | 'correction'; scope: string; recorded_at_ms: number; document: string }[];
  return rows.map((row) => ({
    kind: row.kind,
    bookedInto: period,
    scope: row.scope,
    recordedAtMs: row.recorded_at_ms,
    charge: readCharge(row.document),
  }));
}
