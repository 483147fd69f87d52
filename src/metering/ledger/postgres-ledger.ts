/** The ledger in PostgreSQL, for several collectors. The same tables, and the same rows, as the SQLite one. */
import { BerthError, messageOf } from '#base';
import { connectPostgres, type PostgresConnection } from '#store';
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

const LAYOUT = `
  CREATE TABLE IF NOT EXISTS berth_ledger_layout (version integer NOT NULL);
  INSERT INTO berth_ledger_layout SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM berth_ledger_layout);
  CREATE TABLE IF NOT EXISTS berth_period (name text PRIMARY KEY, closed_at_ms bigint);
  CREATE TABLE IF NOT EXISTS berth_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('charge', 'correction')),
    period text NOT NULL, scope text NOT NULL, booked_into text NOT NULL,
    key text NOT NULL, round integer NOT NULL, recorded_at_ms bigint NOT NULL, document text NOT NULL
  );
  CREATE INDEX IF NOT EXISTS berth_entry_period ON berth_entry (period, scope, id);
  CREATE UNIQUE INDEX IF NOT EXISTS berth_entry_once ON berth_entry (period, scope, md5(key), kind, round);
  CREATE INDEX IF NOT EXISTS berth_entry_booked ON berth_entry (booked_into, id);
  CREATE OR REPLACE FUNCTION berth_guard_entry() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP <> 'INSERT' AND OLD.kind = 'correction' THEN RAISE EXCEPTION 'corrections are not changed'; END IF;
    IF EXISTS (SELECT 1 FROM berth_period WHERE closed_at_ms IS NOT NULL
               AND name = CASE WHEN TG_OP = 'INSERT' THEN NEW.booked_into ELSE OLD.booked_into END)
      THEN RAISE EXCEPTION 'entries of a closed period are not changed'; END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
  END $$;
  CREATE OR REPLACE TRIGGER berth_entry_guard BEFORE INSERT OR UPDATE OR DELETE ON berth_entry
    FOR EACH ROW EXECUTE FUNCTION berth_guard_entry();
  CREATE OR REPLACE FUNCTION berth_guard_period() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'a closed period stays closed'; END $$;
  CREATE OR REPLACE TRIGGER berth_period_guard BEFORE UPDATE OR DELETE ON berth_period
    FOR EACH ROW EXECUTE FUNCTION berth_guard_period();
`;
/** Numbers of the advisory locks: any two that nothing else in the database uses ("brth"). */
const LOCK_LAYOUT = 0x62727468;
const LOCK_WRITE = 0x62727469;
/** Rows of one INSERT: enough that round trips do not matter, and far below the protocol's 65,535 parameters. */
const BATCH = 2000;

/** @param url - `postgres://user@host/database`; a password comes from PGPASSWORD or ~/.pgpass, never from argv. */
export async function openPostgresLedger(url: string): Promise<Ledger> {
  const connection = await connectPostgres(url);
  await inTransaction(connection, LOCK_LAYOUT, async () => {
    await connection.query(LAYOUT);
    const [found] = await connection.query<{ version: number }>('SELECT version FROM berth_ledger_layout');
    if ((found?.version ?? 0) > 1)
      throw new BerthError(
        'unsupported',
        'store.newer',
        `the ledger has layout ${found?.version}; this berth reads layout 1`,
        {
          hint: 'use the berth that wrote it, or a newer one',
        },
      );
  });
  return {
    record: (recording) => inTransaction(connection, LOCK_WRITE, () => record(connection, recording)),
    close: (period, atMs) =>
      inTransaction(connection, LOCK_WRITE, async () => {
        await connection.query('INSERT INTO berth_period VALUES ($1, $2) ON CONFLICT (name) DO NOTHING', [
          period,
          atMs,
        ]);
        return periodOf(connection, period);
      }),
    period: (period) => periodOf(connection, period),
    entries: (period) => entriesOf(connection, period),
    disconnect: () => connection.end(),
  };
}

/** One writer at a time: a recording is a difference from what is there, and nobody may change that meanwhile. */
async function inTransaction<T>(connection: PostgresConnection, lock: number, work: () => Promise<T>): Promise<T> {
  await connection.query('BEGIN');
  try {
    await connection.query('SELECT pg_advisory_xact_lock($1)', [lock]);
    const result = await work();
    await connection.query('COMMIT');
    return result;
  } catch (error) {
    // A connection that broke has rolled back by itself.
    await connection.query('ROLLBACK').catch((second: unknown) => messageOf(second));
    throw error;
  }
}

async function record(connection: PostgresConnection, recording: Recording): Promise<RecordingOutcome> {
  const { period, scope, charges, bookInto, atMs } = recording;
  const stored = await connection.query<StoredRow>(
    'SELECT kind, key, document FROM berth_entry WHERE period = $1 AND scope = $2 ORDER BY id',
    [period, scope],
  );
  if ((await periodOf(connection, period)).state === 'open') {
    const { add, replace, remove } = planReplacement(stored, charges);
    await connection.query(
      "DELETE FROM berth_entry WHERE period = $1 AND scope = $2 AND kind = 'charge' AND key = ANY ($3)",
      [period, scope, remove],
    );
    await connection.query(
      `UPDATE berth_entry SET document = fresh.document, recorded_at_ms = $3
       FROM unnest($4::text[], $5::text[]) AS fresh (key, document)
       WHERE period = $1 AND scope = $2 AND kind = 'charge' AND berth_entry.key = fresh.key`,
      [period, scope, atMs, replace.map((row) => row.key), replace.map((row) => row.document)],
    );
    await insert(
      connection,
      add.map((row) => ({ ...row, kind: 'charge', round: 0 })),
      { ...recording, bookInto: period },
    );
    return { added: add.length, replaced: replace.length, removed: remove.length, corrections: 0 };
  }
  const corrections = planCorrections(stored, charges);
  if (corrections.length > 0) checkBooking(recording, await periodOf(connection, bookInto));
  const rows = corrections.map((charge, index) => ({
    kind: 'correction',
    key: charge.key,
    document: writeCharge(charge),
    round: stored.length + index,
  }));
  await insert(connection, rows, recording);
  return { added: 0, replaced: 0, removed: 0, corrections: corrections.length };
}

async function insert(
  connection: PostgresConnection,
  rows: readonly { kind: string; key: string; document: string; round: number }[],
  { period, scope, bookInto, atMs }: Recording,
): Promise<void> {
  for (let at = 0; at < rows.length; at += BATCH) {
    const batch = rows.slice(at, at + BATCH);
    await connection.query(
      `INSERT INTO berth_entry (kind, period, scope, booked_into, key, round, recorded_at_ms, document)
       SELECT fresh.kind, $1, $2, $3, fresh.key, fresh.round, $4, fresh.document
       FROM unnest($5::text[], $6::text[], $7::integer[], $8::text[]) WITH ORDINALITY
         AS fresh (kind, key, round, document, place) ORDER BY fresh.place`,
      [
        period,
        scope,
        bookInto,
        atMs,
        batch.map((row) => row.kind),
        batch.map((row) => row.key),
        batch.map((row) => row.round),
        batch.map((row) => row.document),
      ],
    );
  }
}

async function periodOf(connection: PostgresConnection, period: MonthName): Promise<Period> {
  const [row] = await connection.query<{ closed_at_ms: string | null }>(
    'SELECT closed_at_ms FROM berth_period WHERE name = $1',
    [period],
  );
  const closedAtMs = row?.closed_at_ms == null ? undefined : Number(row.closed_at_ms);
  return { period, state: closedAtMs === undefined ? 'open' : 'closed', closedAtMs };
}

async function entriesOf(connection: PostgresConnection, period: MonthName): Promise<LedgerEntry[]> {
  const rows = await connection.query<{
    kind: 'charge' | 'correction';
    scope: string;
    recorded_at_ms: string;
    document: string;
  }>('SELECT kind, scope, recorded_at_ms, document FROM berth_entry WHERE booked_into = $1 ORDER BY id', [period]);
  return rows.map((row) => ({
    kind: row.kind,
    bookedInto: period,
    scope: row.scope,
    recordedAtMs: Number(row.recorded_at_ms),
    charge: readCharge(row.document),
  }));
}
