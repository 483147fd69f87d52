import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { BerthError, messageOf } from '#base';
import { checkpointBeside } from './checkpoint.ts';

export type SqlValue = SQLInputValue;

/** A SQLite file with a layout of its own. Statements are prepared once for each text. */
export interface Database {
  readonly path: string;
  /** @returns how many rows it changed, and the row id of the last one it made. */
  run(sql: string, ...values: SqlValue[]): { readonly changes: number; readonly lastId: number };
  get<Row>(sql: string, ...values: SqlValue[]): Row | undefined;
  all<Row>(sql: string, ...values: SqlValue[]): Row[];
  /** Rows as they are read, none kept. The database may not be changed meanwhile. */
  each<Row>(sql: string, ...values: SqlValue[]): Iterable<Row>;
  /** All of it or nothing. Not to be nested. */
  transaction<T>(work: () => T): T;
  /**
   * Much will be written: until it ends, what was written is carried from the log into the file by a thread beside this one, and
   * waits for no disk. May be nested.
   *
   * @returns what ends it, once.
   */
  writeMuch(): () => void;
  /** Resolves when no thread has the file open beside this: whoever wants to take it away waits for that. */
  settled(): Promise<void>;
  close(): void;
}

/** How long a writer waits for another process that writes. */
const BUSY_MS = 5_000;
/** Pages that the log may have before a commit carries them into the file: SQLite's own default. */
const LOG_PAGES = 1_000;
/** The same while much is written: 128 MiB, if the thread beside does not keep up. */
const MOST_LOG_PAGES = 32_000;
/** Transactions after which that thread is set to work. */
const CARRIED_TRANSACTIONS = 32;
const KEPT_LOG_BYTES = 4 * 1024 * 1024;
/** Of pages in memory: SQLite's own default. */
const CACHE_KIB = 2_000;
/** The same while much is written: indexes of 10,000 VMs, whose pages are met in no order and would be read again and again. */
const MOST_CACHE_KIB = 16_000;
const USUAL = `PRAGMA wal_autocheckpoint = ${LOG_PAGES}; PRAGMA cache_size = -${CACHE_KIB};`;
const WHILE_MUCH_IS_WRITTEN = `PRAGMA wal_autocheckpoint = ${MOST_LOG_PAGES}; PRAGMA cache_size = -${MOST_CACHE_KIB};`;

/**
 * Opens the file, makes it when it is not there, and brings its layout up to date.
 *
 * Every change survives the death of the process at once. A power cut may take the last moments' changes, never a part of
 * one (write-ahead log, synchronous = NORMAL): for what can be looked at again, unlike the records of records.ts.
 *
 * @param steps - the layout's history: step n takes version n to n + 1. Only ever appended to.
 * @throws store.newer (unsupported) when a newer berth wrote it; store.full (exhausted) from any change.
 */
export function openDatabase(path: string, steps: readonly string[]): Database {
  const sqlite = new DatabaseSync(path);
  sqlite.exec(
    `PRAGMA busy_timeout = ${BUSY_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
     PRAGMA journal_size_limit = ${KEPT_LOG_BYTES}; ${USUAL}`,
  );
  const prepared = new Map<string, StatementSync>();
  const statement = (sql: string): StatementSync => {
    const found = prepared.get(sql) ?? sqlite.prepare(sql);
    prepared.set(sql, found);
    return found;
  };
  const guarded = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw translate(error, path);
    }
  };
  // How much is being written, and how many transactions the log has of it.
  let [writers, written] = [0, 0];
  let isCarrying = false;
  let carried: Promise<void> = Promise.resolve();
  const carry = async (): Promise<void> => {
    written = 0;
    isCarrying = true;
    await checkpointBeside(path);
    isCarrying = false;
    if (writers === 0 && sqlite.isOpen) sqlite.exec(USUAL);
  };
  const database: Database = {
    path,
    run: (sql, ...values) =>
      guarded(() => {
        const { changes, lastInsertRowid } = statement(sql).run(...values);
        return { changes: Number(changes), lastId: Number(lastInsertRowid) };
      }),
    get: <Row>(sql: string, ...values: SqlValue[]) => guarded(() => statement(sql).get(...values) as Row | undefined),
    all: <Row>(sql: string, ...values: SqlValue[]) => guarded(() => statement(sql).all(...values) as Row[]),
    // A statement of its own: two readings of the same text may be under way at once.
    each: <Row>(sql: string, ...values: SqlValue[]) => sqlite.prepare(sql).iterate(...values) as Iterable<Row>,
    transaction: (work) => {
      guarded(() => sqlite.exec('BEGIN IMMEDIATE'));
      try {
        const result = work();
        guarded(() => sqlite.exec('COMMIT'));
        if (writers > 0 && ++written >= CARRIED_TRANSACTIONS && !isCarrying) carried = carry();
        return result;
      } catch (error) {
        if (sqlite.isTransaction) sqlite.exec('ROLLBACK');
        throw error;
      }
    },
    writeMuch: () => {
      if (writers++ === 0) sqlite.exec(WHILE_MUCH_IS_WRITTEN);
      let isOver = false;
      return () => {
        if (isOver) return;
        isOver = true;
        writers -= 1;
        if (writers === 0 && sqlite.isOpen && !isCarrying) carried = carry();
      };
    },
    settled: () => carried,
    close: () => sqlite.close(),
  };
  migrate(sqlite, database, steps);
  return database;
}

function migrate(sqlite: DatabaseSync, database: Database, steps: readonly string[]): void {
  const version = (): number => database.get<{ user_version: number }>('PRAGMA user_version')?.user_version ?? 0;
  if (version() > steps.length) {
    const found = version();
    sqlite.close();
    const text = `${database.path} has layout ${found}; this berth reads up to ${steps.length}`;
    throw new BerthError('unsupported', 'store.newer', text, { hint: 'start the newer berth that wrote it' });
  }
  for (let at = version(); at < steps.length; at += 1) {
    database.transaction(() => {
      // Another process may have done it while this one waited.
      if (version() !== at) return;
      sqlite.exec(steps[at] ?? '');
      sqlite.exec(`PRAGMA user_version = ${at + 1}`);
    });
  }
}

function translate(error: unknown, path: string): unknown {
  if (!/disk is full|disk I\/O error/i.test(messageOf(error))) return error;
  return new BerthError('exhausted', 'store.full', `no space left on the host for ${path}`, {
    hint: 'free some space and try again',
    cause: error,
  });
}
