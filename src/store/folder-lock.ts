import { DatabaseSync } from 'node:sqlite';
import { BerthError, messageOf } from '#base';

/** A lock on a folder that the kernel drops when its holder dies, however it dies. */
export interface FolderLock {
  release(): void;
}

/**
 * Takes the one lock of `folder`, or says who should be stopped.
 *
 * The lock is an exclusive transaction on a small database file inside the folder: SQLite takes an fcntl lock, which
 * is the only kind Node can reach without a native addon.
 *
 * @throws store.locked (conflict) when another process holds it.
 */
export function lockFolder(folder: string): FolderLock {
  const path = `${folder}/lock.db`;
  const database = new DatabaseSync(path);
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;');
  } catch (error) {
    database.close();
    if (/locked|busy/i.test(messageOf(error))) {
      throw new BerthError('conflict', 'store.locked', `another berth daemon already uses the state folder ${folder}`, {
        hint: 'talk to that daemon, stop it with "berth daemon stop", or give this one another --state-dir',
        facts: { folder },
      });
    }
    throw error;
  }
  return { release: () => database.close() };
}
