/** The databases of berth's own files, on a real disk. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDatabase } from '../../src/store/index.ts';
import { eventually } from '../harness/vm-client.ts';

const MIB = 1024 * 1024;
const folder = await mkdtemp(join(tmpdir(), 'berth-database-'));
after(() => rm(folder, { recursive: true, force: true }));
const bytesOf = async (path: string): Promise<number> => (await stat(path)).size;

test('much that is written is carried into the file beside, and the log is small again', async () => {
  const path = join(folder, 'much.db');
  const database = openDatabase(path, ['CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT NOT NULL)']);
  const write = (): void => {
    database.transaction(() => {
      for (let at = 0; at < 64; at += 1) database.run('INSERT INTO page (text) VALUES (?)', 'x'.repeat(16 * 1024));
    });
  };
  const end = database.writeMuch();
  const endInner = database.writeMuch();
  for (let at = 0; at < 20; at += 1) write();
  // No commit has waited for the disk: all of it is in the log, which by itself is carried at 4 MB.
  assert.ok((await bytesOf(`${path}-wal`)) > 20 * MIB, `the log has ${await bytesOf(`${path}-wal`)} bytes`);
  assert.ok((await bytesOf(path)) < MIB, `the file has ${await bytesOf(path)} bytes`);
  endInner();
  endInner();
  write();
  assert.ok((await bytesOf(path)) < MIB, 'one of two who write much has not ended');
  end();
  await eventually('the file has it', 10_000, async () => (await bytesOf(path)) > 20 * MIB);
  await eventually('the log begins anew', 10_000, async () => {
    database.run('UPDATE page SET text = hex(randomblob(8192)) WHERE id = 1');
    return (await bytesOf(`${path}-wal`)) < 5 * MIB;
  });
  // From here on commits carry it themselves.
  for (let at = 0; at < 10; at += 1) write();
  assert.ok((await bytesOf(`${path}-wal`)) < 8 * MIB, `the log has ${await bytesOf(`${path}-wal`)} bytes`);
  assert.equal(database.get<{ n: number }>('SELECT count(*) AS n FROM page')?.n, 31 * 64);
  database.close();
});

test('more than is carried at the end is carried meanwhile, and what is closed in the middle of it is whole', async () => {
  const path = join(folder, 'more.db');
  const layout = ['CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT NOT NULL)'];
  const database = openDatabase(path, layout);
  database.writeMuch();
  for (let at = 0; at < 70; at += 1)
    database.transaction(() => database.run('INSERT INTO page (text) VALUES (?)', 'x'.repeat(MIB / 4)));
  await eventually('the file has some of it', 10_000, async () => (await bytesOf(path)) > MIB);
  database.close();
  const again = openDatabase(path, layout);
  assert.equal(again.get<{ n: number }>('SELECT count(*) AS n FROM page WHERE length(text) = 262144')?.n, 70);
  again.close();
});

test('while much is written more of it stays in memory: pages are not written and read again before their transaction ends', async () => {
  const path = join(folder, 'kept.db');
  const database = openDatabase(path, ['CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT NOT NULL)']);
  /** What the log has of a transaction of 8 MB before it ends. */
  const early = (): number =>
    database.transaction(() => {
      const before = statSync(`${path}-wal`).size;
      for (let at = 0; at < 512; at += 1) database.run('INSERT INTO page (text) VALUES (?)', 'x'.repeat(16 * 1024));
      return statSync(`${path}-wal`).size - before;
    });
  const end = database.writeMuch();
  assert.equal(early(), 0);
  end();
  await eventually('memory is given back', 10_000, async () => {
    database.run('DELETE FROM page');
    return early() > MIB;
  });
  database.close();
});
