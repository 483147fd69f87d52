/** What is let go is what nobody wants and nobody needs; what is kept is as it was, to the byte. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PruneTable, prunedMonths } from '../consumption/prune-table.ts';
import { someHost } from '../fixture.ts';
import { HostTable } from '../inventory/host-table.ts';
import { HostUseQueries } from '../inventory/host-use.ts';
import { contentsOf, NOW_MS, openOldEstate } from '../old-estate-fixture.ts';
import { Pruner, type Retention } from './pruner.ts';

const monthOf = (ms: number): string => new Date(ms).toISOString().slice(0, 7);

async function pruned(retention: Retention, needed: readonly string[] = [], hours = 4) {
  const inventory = openOldEstate(':memory:', hours);
  const before = contentsOf(inventory);
  const asked: string[][] = [];
  const table = new PruneTable(inventory.database);
  const neededMonths = async (months: readonly string[]): Promise<readonly string[]> => {
    asked.push([...months]);
    return needed;
  };
  const log: string[] = [];
  await new Pruner({ table, retention, neededMonths, log: (line) => log.push(line) }).prune(NOW_MS);
  return { inventory, before, after: contentsOf(inventory), asked, log };
}

interface HourRow {
  readonly hour_ms: number;
}
interface GapRow {
  readonly from_ms: number;
  readonly to_ms: number;
}

test('hours and gaps older than 25 whole months go; all other rows of all tables are as they were', async () => {
  const { inventory, before, after, asked, log } = await pruned({ hoursMonths: 25, gapsMonths: 25 });
  const cutMs = Date.parse('2024-10-01');
  assert.equal(after.others, before.others);
  assert.deepEqual(
    after.hours,
    before.hours.filter((row) => (JSON.parse(row) as HourRow).hour_ms >= cutMs),
  );
  assert.deepEqual(
    after.gaps,
    before.gaps.filter((row) => (JSON.parse(row) as GapRow).to_ms >= cutMs),
  );
  assert.ok(after.hours.length < before.hours.length && after.gaps.length < before.gaps.length);
  const nine = Array.from({ length: 9 }, (_, at) => `2024-0${at + 1}`);
  assert.deepEqual(asked, [nine, nine]);
  assert.deepEqual([...prunedMonths(inventory.database)].sort(), nine);
  assert.equal(log.length, 18);
  assert.match(log[0] ?? '', /hours of consumption of 2024-01 are not kept any more: 24 rows/);
  inventory.close();
});

test('months in a bill that is not closed stay whole, with every gap that reaches into them', async () => {
  const needed = ['2024-03', '2024-07'];
  const { inventory, before, after } = await pruned({ hoursMonths: 25, gapsMonths: 25 }, needed);
  const cutMs = Date.parse('2024-10-01');
  assert.deepEqual(
    after.hours,
    before.hours.filter((row) => {
      const { hour_ms } = JSON.parse(row) as HourRow;
      return hour_ms >= cutMs || needed.includes(monthOf(hour_ms));
    }),
  );
  assert.deepEqual(
    after.gaps,
    before.gaps.filter((row) => {
      const { from_ms, to_ms } = JSON.parse(row) as GapRow;
      return to_ms >= cutMs || needed.includes(monthOf(from_ms)) || needed.includes(monthOf(to_ms));
    }),
  );
  assert.deepEqual(
    [...prunedMonths(inventory.database)].filter((month) => needed.includes(month)),
    [],
  );
  inventory.close();
});

test('each kind has its own time; "all" keeps all; nobody who can be asked keeps all', async () => {
  const hoursOnly = await pruned({ hoursMonths: 2, gapsMonths: undefined });
  assert.equal(hoursOnly.after.gaps.length, hoursOnly.before.gaps.length);
  assert.equal(monthOf((JSON.parse(hoursOnly.after.hours[0] ?? '') as HourRow).hour_ms), '2026-09');
  hoursOnly.inventory.close();
  const inventory = openOldEstate(':memory:');
  const before = contentsOf(inventory);
  const pruner = new Pruner({
    table: new PruneTable(inventory.database),
    retention: { hoursMonths: 25, gapsMonths: 25 },
    neededMonths: () => Promise.reject(new Error('the ledger does not answer')),
    log: () => {},
  });
  await assert.rejects(pruner.prune(NOW_MS), /does not answer/);
  assert.deepEqual(contentsOf(inventory), before);
  assert.equal(prunedMonths(inventory.database).size, 0);
  inventory.close();
});

test('a step takes a bounded number of rows, and the month is marked with the first of them', () => {
  const inventory = openOldEstate(':memory:', 300);
  const table = new PruneTable(inventory.database);
  const [first] = table.monthsBefore('hours', NOW_MS);
  assert.ok(first !== undefined);
  const when = { sinceMs: 0, nowMs: NOW_MS };
  assert.equal(prunedMonths(inventory.database).size, 0);
  let [rows, steps] = [0, 0];
  for (;;) {
    const began = performance.now();
    const taken = table.step('hours', first, when);
    if (taken === 0) break;
    assert.ok(taken % 100 === 0 && performance.now() - began < 1_000);
    assert.deepEqual([...prunedMonths(inventory.database)], [first.name]);
    rows += taken;
    steps += 1;
  }
  assert.equal(rows, 1_800);
  assert.ok(steps >= 1);
  assert.equal(table.step('hours', first, when), 0);
  inventory.close();
});

test('hours of hosts are not said to have been idle in months of which the consumption is gone', async () => {
  const { inventory } = await pruned({ hoursMonths: 25, gapsMonths: 25 });
  new HostTable(inventory.database).take(1, [someHost({ nativeId: 'h' })], Date.parse('2024-09-30T22:00:00Z'));
  const span = { fromMs: Date.parse('2024-09-30T20:00:00Z'), toMs: Date.parse('2024-10-01T02:00:00Z') };
  const hours = new HostUseQueries(inventory.database).hours(span);
  assert.deepEqual(
    hours.map((hour) => hour.start),
    ['2024-10-01T00:00:00.000Z', '2024-10-01T01:00:00.000Z'],
  );
  inventory.close();
});
