/** Readings into the fleet's real tables, in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Database } from '#store';
import type { VmSample } from '../driver.ts';
import type { VmFacts } from '../facts.ts';
import { someSample, someVm } from '../fixture.ts';
import { Inventory } from '../inventory/inventory.ts';
import { SourceTable } from '../inventory/sources.ts';
import { ConsumptionTable } from './consumption-table.ts';

const MINUTE = 60_000;
const START = 1_700_000_000_000 - (1_700_000_000_000 % 3_600_000);

class Watched {
  readonly inventory = Inventory.open(':memory:');
  readonly table = new ConsumptionTable(this.inventory.database);
  readonly #sources = new SourceTable(this.inventory.database);

  source(name: string): number {
    const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
    return this.#sources.add({ ...fresh, name, everyMs: 1_000, sampleEveryMs: MINUTE }, START).id;
  }

  look(sourceId: number, atMs: number, vms: readonly Partial<VmFacts>[]): void {
    this.inventory.apply({
      sourceId,
      observation: { kind: 'snapshot', vms: vms.map(someVm), unread: [], isComplete: true },
      hosts: [],
      moment: { how: 'poll', atMs, observedMs: atMs, notBeforeMs: atMs - MINUTE },
    });
  }

  read(sourceId: number, atMs: number, samples: readonly Partial<VmSample>[]): void {
    const round = { sourceId, nowMs: atMs, everyMs: MINUTE };
    const read = samples.map((one) => someSample({ atMs, ...one }));
    this.table.take(round, read);
    this.table.finish(round, new Set(read.map((one) => one.nativeId)));
  }

  get cpu(): { vm: number; ns: string }[] {
    return total(this.inventory.database);
  }

  get gaps(): string[] {
    return this.inventory.database.all<{ kind: string }>('SELECT kind FROM gap ORDER BY id').map((row) => row.kind);
  }
}

function total(database: Database): { vm: number; ns: string }[] {
  return database
    .all<{ vm: number; ns: string }>(
      `SELECT vm_id AS vm, CAST(SUM(cpu_ns) AS TEXT) AS ns FROM consumed
       GROUP BY vm_id HAVING SUM(cpu_ns) > 0 ORDER BY vm_id`,
    )
    .map((row) => ({ ...row }));
}

test('a VM that was there before counts from its first reading, one that comes later from its beginning', () => {
  const world = new Watched();
  const source = world.source('a');
  world.look(source, START, [{ nativeId: 'old', name: 'old' }]);
  world.read(source, START + MINUTE, [{ nativeId: 'old', cpuNanoseconds: 1_000_000n }]);
  world.look(source, START + MINUTE, [
    { nativeId: 'old', name: 'old' },
    { nativeId: 'new', name: 'new' },
  ]);
  world.read(source, START + 2 * MINUTE, [
    { nativeId: 'old', cpuNanoseconds: 1_000_300n },
    { nativeId: 'new', cpuNanoseconds: 70n },
  ]);
  assert.deepEqual(world.cpu, [
    { vm: 1, ns: '300' },
    { vm: 2, ns: '70' },
  ]);
  assert.deepEqual(world.gaps, []);
});

test('a VM that is stopped and started again counts both runs, and what nobody saw of the first one’s end is a gap', () => {
  const world = new Watched();
  const source = world.source('a');
  world.look(source, START, [{ powerState: 'off' }]);
  world.look(source, START + MINUTE, [{ powerState: 'running' }]);
  world.read(source, START + 2 * MINUTE, [{ cpuNanoseconds: 100n }]);
  world.look(source, START + 3 * MINUTE, [{ powerState: 'off' }]);
  world.read(source, START + 3 * MINUTE, []);
  world.look(source, START + 4 * MINUTE, [{ powerState: 'running' }]);
  world.read(source, START + 5 * MINUTE, [{ run: '2', cpuNanoseconds: 130n }]);
  assert.deepEqual(world.cpu, [{ vm: 1, ns: '230' }]);
  assert.deepEqual(world.gaps, ['ended']);
});

test('a VM that two sources show is counted by one of them; when that one falls silent the other goes on where it stopped', () => {
  const world = new Watched();
  const [a, b] = [world.source('a'), world.source('b')];
  const uuid = '00000000-0000-4000-8000-000000000001';
  for (const source of [a, b]) world.look(source, START, [{ uuid, powerState: 'off' }]);
  for (const source of [a, b]) world.look(source, START + 1, [{ uuid, powerState: 'running' }]);
  for (const minute of [1, 2, 3])
    for (const source of [a, b])
      world.read(source, START + minute * MINUTE, [{ cpuNanoseconds: BigInt(minute * 600) }]);
  assert.deepEqual(world.cpu, [{ vm: 1, ns: '1800' }]);
  const moment = { how: 'poll' as const, atMs: START, observedMs: START, notBeforeMs: START };
  for (const source of [a, b]) world.inventory.setSourceState(source, 'up', { moment });
  world.inventory.setSourceState(a, 'down', { moment: { ...moment, atMs: START + 3 * MINUTE } });
  world.read(b, START + 4 * MINUTE, [{ cpuNanoseconds: 2_400n }]);
  assert.deepEqual(world.cpu, [{ vm: 1, ns: '2400' }]);
});

test('hours are apart, and the same reading twice changes nothing', () => {
  const world = new Watched();
  const source = world.source('a');
  world.look(source, START, [{}]);
  world.read(source, START + 59 * MINUTE, [{ cpuNanoseconds: 0n }]);
  world.read(source, START + 61 * MINUTE, [{ cpuNanoseconds: 200n }]);
  world.read(source, START + 61 * MINUTE, [{ cpuNanoseconds: 200n }]);
  const hours = world.inventory.database.all('SELECT hour_ms, cpu_ns FROM consumed WHERE cpu_ns > 0 ORDER BY hour_ms');
  assert.deepEqual(
    hours.map((row) => ({ ...(row as object) })),
    [
      { hour_ms: START, cpu_ns: 100 },
      { hour_ms: START + 60 * MINUTE, cpu_ns: 100 },
    ],
  );
});

test('a collector that lost its source keeps nothing', () => {
  const world = new Watched();
  const source = world.source('a');
  world.look(source, START, [{ powerState: 'off' }]);
  world.look(source, START + 1, [{}]);
  world.inventory.takeLease(source, 'other', { nowMs: START, untilMs: START + 10 * MINUTE });
  const round = { sourceId: source, nowMs: START + MINUTE, everyMs: MINUTE, holder: 'me' };
  assert.throws(() => world.table.take(round, [someSample({ atMs: START + MINUTE, cpuNanoseconds: 5n })]), {
    code: 'fleet.lease_lost',
  });
  assert.deepEqual(world.cpu, []);
});

test('periods are wanted of each VM since what was counted of it: of a silent one alone from further back, of strangers never', () => {
  const world = new Watched();
  const source = world.source('a');
  const since = (name: string): number | undefined => world.table.periodsSince(source)(name);
  assert.equal(since('there'), undefined);
  const there = { nativeId: 'there', name: 'there' };
  const silent = { nativeId: 'silent', name: 'silent' };
  world.look(source, START, [there, silent]);
  assert.deepEqual([since('there'), since('silent'), since('stranger')], [START, START, undefined]);
  const period = (nativeId: string, endMs: number) => {
    const { run: _run, atMs: _atMs, ...amounts } = someSample({ nativeId, cpuNanoseconds: 1n });
    return { ...amounts, startMs: endMs - MINUTE, endMs };
  };
  const take = (nativeId: string, endMs: number): void =>
    world.table.takePeriods({ sourceId: source, nowMs: endMs, everyMs: MINUTE }, [period(nativeId, endMs)]);
  take('there', START + MINUTE);
  take('silent', START + MINUTE);
  for (let minute = 2; minute < 5; minute += 1) take('there', START + minute * MINUTE);
  assert.deepEqual([since('there'), since('silent')], [START + 4 * MINUTE, START + MINUTE]);
  // Not there at the look before: it may have begun since then.
  const late = { nativeId: 'late', name: 'late' };
  world.look(source, START + 5 * MINUTE, [there, silent, late]);
  assert.equal(since('late'), START + 4 * MINUTE);
});
