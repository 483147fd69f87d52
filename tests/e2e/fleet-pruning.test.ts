/** Old consumption is let go by the shipped daemon, but for months in a bill that is not closed. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestDaemon, type TestDaemon } from '#harness';
import { runProcess } from '#platform';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { writePast } from '../harness/past-fleet.ts';
import { eventually } from '../harness/vm-client.ts';

const BERTH = new URL('../../berth', import.meta.url).pathname;
const HOUR_MS = 3_600_000;
/** It looks ten seconds after its start. */
const DEADLINE_MS = 60_000;
const now = new Date();
const monthMs = (ago: number): number => Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago);
const monthName = (ago: number): string => new Date(monthMs(ago)).toISOString().slice(0, 7);
const CARD = `rate-card: house
format: 1
currency: EUR
charge-per: day
month: calendar
versions:
  - version: only
    effective: { from: 2020-01-01 }
    items:
      - { id: cpu, resource: vcpu, unit: vcpu-hour, price: 1 }
      - { id: used, resource: cpu-used, unit: cpu-hour, price: 1 }
    idle: { share: none }
    overhead: { share: none }
`;

let daemon: TestDaemon;
let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'berth-pruning-'));
  daemon = await startTestDaemon({
    env: { BERTH_POOL: 'off', BERTH_TEMPLATES: 'off', BERTH_KEEP_HOURS_MONTHS: '2', BERTH_KEEP_GAPS_MONTHS: 'all' },
  });
});

after(async () => {
  const leaks = await daemon.dispose();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(leaks, []);
});

const berth = (...words: string[]) => runProcess([BERTH, '--socket', daemon.socket, ...words]);

async function said(...words: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await berth(...words);
  assert.equal(exitCode, 0, `berth ${words.join(' ')}: ${stderr}`);
  return stdout;
}

/** Hours of consumption in the daemon's usage, by month. */
async function hoursOf(ago: number): Promise<number> {
  const lines = (await said('fleet', 'usage')).split('\n').filter((line) => line.includes('"consumed"'));
  return lines.filter((line) => (JSON.parse(line) as { start: string }).start.startsWith(monthName(ago))).length;
}

const logged = (text: string): boolean => readFileSync(daemon.logPath, 'utf8').includes(text);

test('a month that was closed goes, one that is open stays until it is closed; neither bill changes', async () => {
  await daemon.stop();
  writePast(daemon.stateDir, monthMs(6));
  writePast(daemon.stateDir, monthMs(1));
  await daemon.start();
  const card = join(folder, 'card.yaml');
  writeFileSync(card, CARD);
  await said('cost', 'card', 'set', card);
  for (const ago of [6, 5]) await said('cost', 'rate', '--month', monthName(ago));
  await said('cost', 'close', '--month', monthName(5));
  await daemon.stop();
  const { database } = Inventory.open(join(daemon.stateDir, 'fleet.db'));
  const vm = database.get<{ id: number; source_id: number }>("SELECT id, source_id FROM vm WHERE name = 'ledgered'");
  for (const ago of [6, 5, 4, 2])
    for (let hour = 0; hour < 30; hour += 1) {
      const ms = monthMs(ago) + hour * HOUR_MS;
      database.run(
        "INSERT INTO consumed VALUES (?, ?, ?, '', ?, ?, 1000000000, 0, 0, 0, 0, 0, 0, 0)",
        ms,
        vm?.id ?? 0,
        vm?.source_id ?? 0,
        ms,
        ms + HOUR_MS,
      );
    }
  database.close();
  await daemon.start();
  const bills = await said('cost', 'report', '--month', monthName(6), '--month', monthName(5), '--by', 'item', '--csv');
  assert.equal(await hoursOf(6), 30);
  await eventually('the closed month has gone, and the one that nobody charged', DEADLINE_MS, () =>
    Promise.resolve(
      [5, 4].every((ago) => logged(`hours of consumption of ${monthName(ago)} are not kept any more: 30`)),
    ),
  );
  assert.deepEqual(await Promise.all([6, 5, 4, 2].map(hoursOf)), [30, 0, 0, 30]);
  // Whoever reckons by hand is told what is missing, and only where he asks for it.
  const lost = `berth: of ${monthName(5)}, ${monthName(4)} only what was allocated is known`;
  assert.ok((await berth('fleet', 'usage')).stderr.startsWith(lost));
  const byHand = (ago: number) => berth('cost', 'report', '--card', card, '--month', monthName(ago));
  assert.match((await byHand(5)).stderr, new RegExp(`^berth: of ${monthName(5)} only what was allocated is known`));
  assert.doesNotMatch((await byHand(6)).stderr, /what was allocated/);
  for (const ago of [5, 4]) {
    const refused = await berth('cost', 'rate', '--month', monthName(ago));
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stderr, new RegExp(`${monthName(ago)} cannot be rated: its consumption is not kept any more`));
  }
  const again = await said('cost', 'report', '--month', monthName(6), '--month', monthName(5), '--by', 'item', '--csv');
  assert.equal(again, bills);
  // Safe to repeat, whatever is left of it.
  await said('cost', 'close', '--month', monthName(5));
  await said('cost', 'close', '--month', monthName(6));
  assert.match(await said('cost', 'report', '--month', monthName(6), '--by', 'item', '--csv'), /^used,/m);
  await daemon.crash();
  await daemon.start();
  await eventually('closed at last, it goes', DEADLINE_MS, () =>
    Promise.resolve(logged(`hours of consumption of ${monthName(6)} are not kept any more: 30`)),
  );
  assert.match(await said('cost', 'report', '--month', monthName(6), '--by', 'item', '--csv'), /^used,/m);
  assert.ok((await said('fleet', 'history', 'ledgered')).includes(new Date(monthMs(6)).toISOString().slice(0, 10)));
});

test('a daemon whose variables say no time does not start, and says what is wrong', async () => {
  await assert.rejects(
    startTestDaemon({ env: { BERTH_KEEP_HOURS_MONTHS: 'forever' } }),
    /BERTH_KEEP_HOURS_MONTHS is "forever"; "all" or 2 to 1200 months are expected/,
  );
});
