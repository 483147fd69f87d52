/** A SQLite file of an area's own tables, opened the way every file of berth is: durable, refused when it is newer. */
import { DatabaseSync } from 'node:sqlite';
import { BerthError, messageOf } from '#base';

export interface SqlFile {
  readonly database: DatabaseSync;
  /** All of `work` or nothing, against any end of the process. @throws store.full (exhausted), store.busy (unavailable) */
  transaction<T>(work: () => T): T;
  close(): void;
}

/** How long another writer of the file is waited for: a month's rating is recorded in one transaction. */
const BUSY_MS = 30_000;

/**
 * @param layout - SQL that makes the tables when they are not there, and its version.
 * @throws store.newer (unsupported) when a newer berth wrote the file.
 */
export function openSqlFile(path: string, layout: { readonly version: number; readonly sql: string }): SqlFile {
  const database = new DatabaseSync(path);
  database.exec(`PRAGMA busy_timeout = ${BUSY_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;`);
  const { user_version: found } = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (found > layout.version) {
    database.close();
    throw new BerthError(
      'unsupported',
      'store.newer',
      `${path} has layout ${found}; this berth reads up to ${layout.version}`,
      { hint: 'use the berth that wrote it, or a newer one' },
    );
  }
  const transaction = <T>(work: () => T): T => {
    try {
      database.exec('BEGIN IMMEDIATE');
      const result = work();
      database.exec('COMMIT');
      return result;
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      throw translated(error, path);
    }
  };
  transaction(() => database.exec(`${layout.sql}; PRAGMA user_version = ${layout.version};`));
  return { database, transaction, close: () => database.close() };
}

function translated(error: unknown, path: string): unknown {
  if (error instanceof BerthError) return error;
  const message = messageOf(error);
  if (/disk is full|disk I\/O error/i.test(message))
    return new BerthError('exhausted', 'store.full', `no space left on the host for ${path}`, {
      hint: 'free some space and try again',
      cause: error,
    });
  if (/database is locked|busy/i.test(message))
    return new BerthError('unavailable', 'store.busy', `${path} was in use by another process for ${BUSY_MS} ms`, {
      hint: 'try again when the other process is done',
      cause: error,
    });
  return error;
}
