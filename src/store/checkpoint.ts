/** Carries a SQLite log into its file on a thread of its own: the disk is waited for there. */
import { Worker } from 'node:worker_threads';

/**
 * PASSIVE: it waits for nobody and nobody waits for it, and what a reader still needs stays in the log.
 *
 * @source https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
 */
const PROGRAM = `
const { DatabaseSync } = require('node:sqlite');
const database = new DatabaseSync(require('node:worker_threads').workerData);
database.exec('PRAGMA wal_checkpoint(PASSIVE)');
database.close();
`;

const THREAD_HEAP_MIB = 16;

/**
 * Never rejects: what could not be carried stays in the log, where it is as safe, and the next checkpoint tries again.
 *
 * @returns when it is over.
 */
export async function checkpointBeside(path: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const worker = new Worker(PROGRAM, {
      eval: true,
      workerData: path,
      resourceLimits: { maxOldGenerationSizeMb: THREAD_HEAP_MIB },
      // Nothing of the daemon's own: no secrets in its environment, no flags.
      env: {},
      execArgv: [],
      stdout: false,
      stderr: true,
    });
    worker.on('error', () => resolve());
    worker.on('exit', () => resolve());
    worker.unref();
  });
}
