import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { BerthError, messageOf } from '#base';

/** One stored record: a JSON document of `kind` with its own `version` inside. The owner parses it. */
export interface StoredRecord {
  readonly id: string;
  readonly document: unknown;
}

/**
 * Small records of the daemon in one SQLite file: every `put` is durable against the death of the daemon at once, and
 * against a power cut when the file system honours fsync (write-ahead log, synchronous = FULL).
 */
export interface RecordStore {
  put(kind: string, id: string, document: unknown): void;
  remove(kind: string, id: string): void;
  list(kind: string): StoredRecord[];
  close(): void;
}

/** Layout version of the file; a newer one is refused rather than guessed at. */
const LAYOUT_VERSION = 1;

export function openRecordStore(path: string): RecordStore {
  const database = new DatabaseSync(path);
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 2000;');
  const row = database.prepare('PRAGMA user_version').get() as { user_version: number };
  if (row.user_version > LAYOUT_VERSION) {
    database.close();
    throw new Error(`${path} has layout ${row.user_version}; this berth reads up to ${LAYOUT_VERSION}`);
  }
  database.exec(`
    CREATE TABLE IF NOT EXISTS record (
      kind TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    PRAGMA user_version = ${LAYOUT_VERSION};
  `);
  const put: StatementSync = database.prepare('INSERT OR REPLACE INTO record (kind, id, document) VALUES (?, ?, ?)');
  const remove: StatementSync = database.prepare('DELETE FROM record WHERE kind = ? AND id = ?');
  const list: StatementSync = database.prepare('SELECT id, document FROM record WHERE kind = ? ORDER BY id');
  return {
    put: (kind, id, document) => {
      try {
        put.run(kind, id, JSON.stringify(document));
      } catch (error) {
        if (!/disk is full|disk I\/O error/i.test(messageOf(error))) throw error;
        throw new BerthError('exhausted', 'store.full', `no space left on the host for ${path}`, {
          hint: 'free some space and try again',
          cause: error,
        });
      }
    },
    remove: (kind, id) => {
      remove.run(kind, id);
    },
    list: (kind) =>
      (list.all(kind) as { id: string; document: string }[]).map((found) => ({
        id: found.id,
        document: JSON.parse(found.document) as unknown,
      })),
    close: () => database.close(),
  };
}
