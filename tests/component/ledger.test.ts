/** The ledgers against the real things: SQLite files, PostgreSQL, full disks, and SIGKILL at any moment. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openLedger } from '#metering';
import { chargeOf } from '../../src/metering/ledger/charge-fixture.ts';
import { ledgerConformance } from '../../src/metering/ledger/ledger.conformance.ts';
import { chargesOf, WRITER_ROWS } from '../harness/ledger-writer.ts';
import { type RunningPostgres, startPostgres } from '../harness/postgres.ts';

const WRITER = new URL('../harness/ledger-writer.ts', import.meta.url).pathname;
let folder = '';
let postgres: RunningPostgres;
let fileCount = 0;
const newFile = (): string => {
  fileCount += 1;
  return join(folder, `ledger-${fileCount}.db`);
};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-ledger-'));
  postgres = await startPostgres();
});
after(async () => {
  await postgres?.stop();
  await rm(folder, { recursive: true, force: true });
});

const openAt = async (place: string) => ({ ledger: await openLedger(place), again: () => openLedger(place) });

describe('conformance', () => {
  ledgerConformance({ name: 'SQLite', open: () => openAt(newFile()) });
  ledgerConformance({ name: 'PostgreSQL', open: () => openAt(postgres.newDatabase()) });
});

for (const [name, newPlace] of [
  ['SQLite', newFile],
  ['PostgreSQL', () => postgres.newDatabase()],
] as const)
  test(`${name}: killed anywhere and run again, no row is double and none is lost`, async () => {
    const place = newPlace();
    let killed = 0;
    for (let round = 0; round < 14; round += 1) {
      const child = spawn(process.execPath, [WRITER, place], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = once(child, 'exit');
      await once(child.stdout, 'data');
      // From "opened" on, a little later each time, so that opening, recording, closing and correcting are all hit.
      await delay(round * 25);
      if (child.exitCode === null && child.kill('SIGKILL')) killed += 1;
      await exited;
    }
    assert.ok(killed >= 4, `only ${killed} writers were killed before they were done`);
    execFileSync(process.execPath, [WRITER, place], { stdio: 'ignore' });
    const ledger = await openLedger(place);
    try {
      const [closed, booked] = [await ledger.entries('2026-10'), await ledger.entries('2026-11')];
      assert.equal(closed.length, WRITER_ROWS);
      assert.equal(booked.length, WRITER_ROWS / 3);
      const quantities = new Map<string | undefined, number>();
      for (const { charge } of [...closed, ...booked])
        quantities.set(charge.subject.vm, (quantities.get(charge.subject.vm) ?? 0) + Number(charge.quantity));
      for (const charge of chargesOf('late'))
        assert.equal(quantities.get(charge.subject.vm), Number(charge.quantity), charge.subject.vm);
    } finally {
      await ledger.disconnect();
    }
  });

test('a closed month is guarded by the database itself, whoever writes to it', async () => {
  const path = newFile();
  const ledger = await openLedger(path);
  const recording = { period: '2026-10', scope: 'all', bookInto: '2026-11', atMs: 1 };
  await ledger.record({ ...recording, charges: [chargeOf('a', '1')] });
  await ledger.close('2026-10', 1);
  await ledger.record({ ...recording, charges: [chargeOf('a', '2')] });
  await ledger.disconnect();
  const database = new DatabaseSync(path);
  try {
    assert.throws(() => database.exec("UPDATE entry SET document = '{}'"), /not changed/);
    assert.throws(() => database.exec("DELETE FROM entry WHERE kind = 'correction'"), /not removed/);
    assert.throws(() => database.exec('UPDATE period SET closed_at_ms = NULL'), /stays closed/);
    assert.throws(() => database.exec('DELETE FROM period'), /not removed/);
  } finally {
    database.close();
  }
});

test('a full disk refuses the recording whole, and it succeeds once there is room', async () => {
  const small = await mkdtemp(join(folder, 'small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'berth-test', small]);
  try {
    const ledger = await openLedger(join(small, 'ledger.db'));
    const recording = { period: '2026-10', scope: 'all', bookInto: '2026-11', atMs: 1 };
    await ledger.record({ ...recording, charges: [chargeOf('a', '1')] });
    const many = Array.from({ length: 20_000 }, (_, index) => chargeOf(`vm-${index}`, '1'));
    await assert.rejects(ledger.record({ ...recording, charges: many }), { kind: 'exhausted', code: 'store.full' });
    assert.equal((await ledger.entries('2026-10')).length, 1);
    execFileSync('mount', ['-o', 'remount,size=200m', small]);
    assert.equal((await ledger.record({ ...recording, charges: many })).added, 20_000);
    await ledger.disconnect();
  } finally {
    execFileSync('umount', [small]);
  }
});

test('a PostgreSQL that is not there is said with its place, and never with a password', async () => {
  await assert.rejects(openLedger('postgres://user:secret@127.0.0.1:1/ledger'), (error: Error) => {
    assert.match(error.message, /127\.0\.0\.1:1\/ledger refused/);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
});
