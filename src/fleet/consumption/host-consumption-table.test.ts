/** Readings of hosts into the fleet's real tables, in memory, and what utilization tells of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostPeriod, HostSample } from '../driver.ts';
import { someSample, someVm } from '../fixture.ts';
import { HostBook } from '../inventory/host-book.ts';
import { HostUseQueries } from '../inventory/host-use.ts';
import { Inventory } from '../inventory/inventory.ts';
import { OverheadFacts } from '../inventory/overhead-facts.ts';
import { SourceTable } from '../inventory/sources.ts';
import { ConsumptionTable } from './consumption-table.ts';
import { HostConsumptionTable } from './host-consumption-table.ts';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const START = 1_700_000_000_000 - (1_700_000_000_000 % HOUR);
const SECOND = 1_000_000_000n;
const GIB = 2 ** 30;

class Watched {
  readonly inventory = Inventory.open(':memory:');
  readonly table = new HostConsumptionTable(this.inventory.database);
  readonly sourceId: number;
  readonly #vms = new ConsumptionTable(this.inventory.database);

  constructor(driver = 'test') {
    const fresh = { url: 'test:///', driver, sealedSecret: null, pin: null, allowPower: false };
    const paces = { everyMs: 1_000, sampleEveryMs: MINUTE };
    this.sourceId = new SourceTable(this.inventory.database).add({ ...fresh, ...paces, name: 'a' }, START).id;
  }

  /** Of a host of two threads and a GiB with one VM on it. */
  look(atMs: number, hostName = 'rack1'): void {
    const host = {
      nativeId: 'host-1',
      name: hostName,
      uuid: null,
      cpuModel: null,
      threads: 2,
      memoryBytes: GIB,
      hypervisor: 'Test',
      hypervisorVersion: null,
      architecture: null,
      uptimeSeconds: null,
    };
    const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: atMs - MINUTE };
    this.inventory.apply({
      sourceId: this.sourceId,
      observation: { kind: 'snapshot', vms: [someVm({})], unread: [], isComplete: true },
      hosts: [host],
      moment,
    });
    this.inventory.setSourceState(this.sourceId, 'up', { moment });
  }

  read(atMs: number, host: Partial<HostSample>, vmNanoseconds: bigint): void {
    const round = { sourceId: this.sourceId, nowMs: atMs, everyMs: MINUTE };
    const figures = { cpuNanoseconds: null, cpuHoldsVms: true, memoryUsedBytes: null };
    this.table.take(round, [{ nativeId: 'host-1', atMs, run: 'boot', beganMs: null, ...figures, ...host }]);
    this.#vms.take(round, [someSample({ atMs, cpuNanoseconds: vmNanoseconds })]);
    this.#vms.finish(round, new Set(['vm-1']));
  }

  get hours() {
    return new HostUseQueries(this.inventory.database).hours({ fromMs: START, toMs: START + 10 * HOUR });
  }
}

/** Every minute the VM uses 30 s and the host 12 s more. */
function readHour(world: Watched, minutes: readonly number[]): void {
  for (const minute of minutes) {
    const cpuNanoseconds = BigInt(minute) * 42n * SECOND;
    world.read(
      START + minute * MINUTE,
      { cpuNanoseconds, memoryUsedBytes: BigInt(GIB / 4) },
      BigInt(minute) * 30n * SECOND,
    );
  }
}

test('an hour that was read minute by minute: VMs, the host itself and idle time are the whole host, and nothing is unknown', () => {
  const world = new Watched();
  world.look(START);
  readHour(world, [...Array(61).keys()]);
  const [hour, ...others] = world.hours;
  assert.deepEqual(others, []);
  assert.deepEqual(hour?.cpuNs, {
    capacity: String(7_200n * SECOND),
    used: String(1_800n * SECOND),
    overhead: String(720n * SECOND),
    idle: String(4_680n * SECOND),
    unknown: '0',
    beyond: '0',
  });
  assert.deepEqual(
    [hour?.memoryKibMs.overhead, hour?.memoryKibMs.unknown, hour?.gaps],
    [String((BigInt(GIB) / 4n / 1024n) * BigInt(HOUR)), '0', []],
  );
});

test('the same readings again and in another order change nothing; hosts that no look has shown are not counted', () => {
  const world = new Watched();
  readHour(world, [0]);
  assert.deepEqual(world.hours, []);
  world.look(START);
  readHour(world, [0, 1, 1, 2, 1, 2, 3]);
  assert.deepEqual(
    { ...world.inventory.database.get<object>('SELECT cpu_ns, cpu_seen_ms, memory_seen_ms FROM host_consumed') },
    { cpu_ns: Number(126n * SECOND), cpu_seen_ms: 3 * MINUTE, memory_seen_ms: 3 * MINUTE },
  );
});

test('a host that nobody read for two hours: its processors are known as a sum in each hour, its memory is unknown, and said', () => {
  const world = new Watched();
  world.look(START);
  readHour(world, [0, 1, 130]);
  const hours = world.hours;
  assert.equal(hours.length, 3);
  for (const { cpuNs, memoryKibMs, gaps } of hours) {
    assert.equal(cpuNs.unknown, '0');
    assert.equal(BigInt(cpuNs.overhead) * 5n, BigInt(cpuNs.used) * 2n);
    assert.notEqual(memoryKibMs.unknown, '0');
    assert.deepEqual(
      gaps.map((gap) => gap.kind),
      ['late'],
    );
  }
});

test('a host that booted unseen: what it was down is unknown, what it used since is not lost', () => {
  const world = new Watched();
  world.look(START);
  readHour(world, [0, 1]);
  const booted = { run: 'boot-2', beganMs: START + 31 * MINUTE, cpuNanoseconds: 100n * SECOND };
  world.read(START + 61 * MINUTE, booted, 0n);
  const [first, second] = world.hours;
  assert.equal(first?.cpuNs.unknown, String(2n * 30n * 60n * SECOND));
  const overhead = BigInt(first?.cpuNs.overhead ?? 0) + BigInt(second?.cpuNs.overhead ?? 0);
  assert.equal(overhead, 112n * SECOND);
  assert.deepEqual(
    first?.gaps.map((gap) => gap.kind),
    ['reset'],
  );
});

test('a host that is called otherwise now has its earlier hours as they were: what VMs used does not become its own', () => {
  const world = new Watched();
  world.look(START);
  readHour(world, [...Array(61).keys()]);
  const [before] = world.hours;
  world.look(START + 61 * MINUTE, 'rack-one');
  readHour(world, [62, 63]);
  const [first, second] = world.hours;
  assert.deepEqual([first?.host, first?.cpuNs], ['rack1', before?.cpuNs]);
  const overheads = new OverheadFacts(world.inventory.database).page(
    { book: HostBook.read(world.inventory.database, 'look'), fromMs: 0, toMs: START + HOUR, limit: 9 },
    undefined,
  );
  assert.deepEqual(
    overheads.items.map((one) => [one.host, one.cpuNs]),
    [['rack1', first?.cpuNs.overhead]],
  );
  // It was called so when the hour began.
  assert.equal(second?.host, 'rack1');
  assert.deepEqual(second?.also, []);
});

test('a collector that lost its source keeps nothing of its hosts', () => {
  const world = new Watched();
  world.look(START);
  world.inventory.takeLease(world.sourceId, 'other', { nowMs: START, untilMs: START + HOUR });
  const round = { sourceId: world.sourceId, nowMs: START + MINUTE, everyMs: MINUTE, holder: 'me' };
  assert.throws(() => world.table.takePeriods(round, [somePeriod(START)]), { code: 'fleet.lease_lost' });
  assert.equal(world.inventory.database.get('SELECT 1 FROM host_reading'), undefined);
});

function somePeriod(startMs: number): HostPeriod {
  const used = { cpuNanoseconds: 10n * SECOND, memoryUsedBytes: BigInt(GIB / 2) };
  return { nativeId: 'host-1', startMs, endMs: startMs + MINUTE, ...used };
}

test('periods that a host measured itself count once each, and what none of them covers is unknown', () => {
  const world = new Watched();
  world.look(START);
  const round = { sourceId: world.sourceId, nowMs: START + 30 * MINUTE, everyMs: MINUTE };
  const periods = Array.from({ length: 30 }, (_, minute) => somePeriod(START + minute * MINUTE));
  for (const turn of [periods, periods.slice(10), periods]) world.table.takePeriods(round, turn);
  const since = world.table.periodsSince(world.sourceId);
  assert.deepEqual([since('host-1'), since('host-9')], [START + 30 * MINUTE, undefined]);
  world.look(START + HOUR);
  const [hour] = world.hours;
  assert.deepEqual([hour?.cpuNs.overhead, hour?.cpuNs.unknown], [String(300n * SECOND), String(3_600n * SECOND)]);
});

test('a Xen host that booted unseen gives the same number again: its boot tells the runs apart, and both count', () => {
  const world = new Watched('xen');
  const vms = new ConsumptionTable(world.inventory.database);
  const cpu = (): string | undefined =>
    world.inventory.database.get<{ ns: string }>('SELECT CAST(SUM(cpu_ns) AS TEXT) AS ns FROM consumed')?.ns;
  world.look(START);
  const round = { sourceId: world.sourceId, nowMs: START, everyMs: MINUTE };
  vms.take(round, [someSample({ atMs: START, run: 'boot-1.1', cpuNanoseconds: 0n })]);
  vms.take(round, [someSample({ atMs: START + MINUTE, run: 'boot-1.1', cpuNanoseconds: 40n })]);
  vms.take(round, [someSample({ atMs: START + 9 * MINUTE, run: 'boot-2.1', cpuNanoseconds: 100n })]);
  assert.equal(cpu(), '140');
});
