/** Old consumption is let go by a process that is killed again and again: what is kept is as it was, and in the end all that may go has gone. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { prunedMonths } from '../../src/fleet/consumption/prune-table.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { contentsOf, openOldEstate } from '../../src/fleet/old-estate-fixture.ts';

const PRUNER = new URL('../harness/fleet-pruner.ts', import.meta.url).pathname;
const KEPT_FROM_MS = Date.parse('2024-10-01');
const MOST_RUNS = 200;

/** SIGKILL at its second line, between two steps or within one. @returns whether it was done before. */
async function pruneUntilKilled(path: string, afterMs: number): Promise<boolean> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PRUNER, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let lines = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    lines += chunk.toString().split('\n').length - 1;
    if (lines >= 2) setTimeout(() => child.kill('SIGKILL'), afterMs);
  });
  const [code] = await new Promise<[number | null]>((resolve) => child.once('exit', (status) => resolve([status])));
  return code === 0;
}

test('killed anywhere: no row that is kept differs, no hour is half gone unmarked, and the next one goes on', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-prune-'));
  const path = join(folder, 'fleet.db');
  const estate = openOldEstate(path, 600);
  const before = contentsOf(estate);
  estate.close();
  const kept = before.hours.filter((row) => (JSON.parse(row) as { hour_ms: number }).hour_ms >= KEPT_FROM_MS);
  let kills = 0;
  for (let isDone = false; !isDone; ) {
    assert.ok(kills < MOST_RUNS, 'it makes no headway');
    isDone = await pruneUntilKilled(path, kills % 5);
    if (!isDone) kills += 1;
    const inventory = Inventory.open(path);
    assert.equal(inventory.database.get<{ integrity_check: string }>('PRAGMA integrity_check')?.integrity_check, 'ok');
    const { others, hours, gaps } = contentsOf(inventory);
    assert.equal(others, before.others);
    assert.deepEqual(gaps, before.gaps);
    assert.deepEqual(hours.slice(-kept.length), kept);
    const whole = new Set(hours);
    const marked = prunedMonths(inventory.database);
    for (const row of before.hours)
      if (!whole.has(row))
        assert.ok(marked.has(new Date((JSON.parse(row) as { hour_ms: number }).hour_ms).toISOString().slice(0, 7)));
    if (isDone) assert.deepEqual(hours, kept);
    inventory.close();
  }
  assert.ok(kills >= 3, `it was killed ${kills} times only`);
  rmSync(folder, { recursive: true });
});
