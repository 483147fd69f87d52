/** Which hosts are one machine, and that such a machine is there once, in usage facts as in what became of hosts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HostConsumptionTable } from '../consumption/host-consumption-table.ts';
import type { HypervisorHost } from '../facts.ts';
import { someHost, someVm } from '../fixture.ts';
import { oneAtATime } from './host-book.ts';
import { HostUseQueries } from './host-use.ts';
import { Inventory } from './inventory.ts';
import { comparableUuid, machineOf } from './machine.ts';
import { FleetQueries } from './queries.ts';
import { SourceTable } from './sources.ts';
import { type UsageFact, UsageFacts } from './usage-facts.ts';

const HOUR = 3_600_000;
const UUID = '4c4c4544-0035-4b10-8051-b4c04f4d3133';
const SWAPPED = '44454c4c-3500-104b-8051-b4c04f4d3133';
const host = (changes: Partial<HypervisorHost> = {}): HypervisorHost =>
  someHost({ nativeId: 'h', name: 'rack1', uuid: UUID, ...changes });

test('one UUID in either order of its bytes is one; none, all zeros and what makers leave in every board are none', () => {
  assert.equal(comparableUuid(UUID), comparableUuid(SWAPPED));
  assert.equal(comparableUuid(UUID.toUpperCase()), comparableUuid(UUID));
  assert.notEqual(comparableUuid(UUID), comparableUuid('5c4c4544-0035-4b10-8051-b4c04f4d3133'));
  for (const none of [
    null,
    '',
    'rack1',
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '03000200-0400-0500-0006-000700080009',
    '00020003-0004-0005-0006-000700080009',
  ])
    assert.equal(comparableUuid(none), null);
});

test('the same UUID joins two sources’ hosts unless their names contradict it; copies of it within a source say nothing', () => {
  const one = { sourceId: 1, machine: 7, name: 'rack1.lab.example' };
  const join = (name: string, known = [one], machine?: number) => machineOf({ sourceId: 2, name, machine }, known);
  for (const name of ['rack1', 'RACK1.other.example', '10.0.0.7', 'fe80::1', 'localhost.localdomain'])
    assert.equal(join(name), 7, name);
  assert.equal(join('rack2'), undefined);
  assert.equal(join('rack2', [one], 7), 7, 'renamed later, it stays joined');
  assert.equal(join('rack1', [one], 3), 3, 'of two that exist the older number stays');
  assert.equal(join('rack1', [one, { ...one, machine: 8 }]), undefined, 'two in the other source');
  assert.equal(join('rack1', [one, { ...one, sourceId: 2, machine: 9 }]), undefined, 'another one here');
  assert.equal(join('rack1', []), undefined);
});

/** Two sources, which look at whole hours. */
class World {
  readonly inventory = Inventory.open(':memory:');
  readonly #sources = new SourceTable(this.inventory.database);

  source(name: string): number {
    const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
    return this.#sources.add({ ...fresh, name, everyMs: 1_000, sampleEveryMs: 60_000 }, 0).id;
  }

  look(sourceId: number, hour: number, hosts: readonly HypervisorHost[], vms: readonly string[] = []): void {
    const observation = {
      kind: 'snapshot' as const,
      vms: vms.map((name) => someVm({ nativeId: name, name, hostId: 'h' })),
      unread: [],
      isComplete: true,
    };
    this.inventory.apply({ sourceId, observation, hosts, moment: momentAt(hour) });
  }

  remove(sourceId: number, hour: number): void {
    this.inventory.removeSource(sourceId, momentAt(hour));
  }

  /** What a host used in an hour of its own, all of it read. */
  read(sourceId: number, hour: number, cpuSeconds: number): void {
    new HostConsumptionTable(this.inventory.database).takePeriods(
      { sourceId, nowMs: (hour + 1) * HOUR, everyMs: HOUR },
      [
        {
          nativeId: 'h',
          startMs: hour * HOUR,
          endMs: (hour + 1) * HOUR,
          cpuNanoseconds: BigInt(cpuSeconds) * 1_000_000_000n,
          memoryUsedBytes: 1_048_576n,
        },
      ],
    );
  }

  /** What the VM, by its number, used in an hour. */
  used(sourceId: number, hour: number, { vm, cpuSeconds }: { vm: number; cpuSeconds: number }): void {
    this.inventory.database.run(
      "INSERT INTO consumed VALUES (?, ?, ?, 'rack1', ?, ?, ?, 0, 0, 0, 0, 0, 0, 0)",
      hour * HOUR,
      vm,
      sourceId,
      hour * HOUR,
      (hour + 1) * HOUR,
      BigInt(cpuSeconds) * 1_000_000_000n,
    );
  }

  facts(type: UsageFact['type']): UsageFact[] {
    const facts = new UsageFacts(this.inventory.database);
    const all: UsageFact[] = [];
    for (let after: string | undefined; ; ) {
      const page = facts.page({ fromMs: 0, toMs: 100 * HOUR, limit: 3, after });
      all.push(...page.items);
      if (page.next === null) return all.filter((fact) => fact.type === type);
      after = page.next;
    }
  }

  hostFacts(): string[] {
    return this.facts('host').map((fact) =>
      fact.type === 'host'
        ? `${fact.source}/${fact.host} ${fact.machine} ${hourIn(fact.start)}-${hourIn(fact.end)} ${fact.vcpus}${(fact.also ?? []).map((one) => ` = ${one.source}/${one.host}`).join('')}`
        : '',
    );
  }
}

function momentAt(hour: number) {
  return { how: 'poll' as const, atMs: hour * HOUR, observedMs: hour * HOUR, notBeforeMs: hour * HOUR };
}

function hourIn(time: string): number {
  return Date.parse(time) / HOUR;
}

test('a machine that two sources show is told once, by the one that is left when the other goes; VMs of both are on it', () => {
  const world = new World();
  const [a, b] = [world.source('a'), world.source('b')];
  world.look(a, 1, [host()], ['web']);
  world.look(b, 2, [host({ name: 'rack1.lab', nativeId: 'h', uuid: SWAPPED })], ['db']);
  world.look(b, 9, [host({ name: 'rack1.lab', nativeId: 'h', uuid: SWAPPED })], ['db']);
  world.look(a, 8, [host()], ['web']);
  assert.deepEqual(world.hostFacts(), ['a/rack1 m1 1-2 2', 'a/rack1 m1 2-8 2 = b/rack1.lab', 'b/rack1.lab m1 8-9 2']);
  assert.deepEqual(
    world.facts('interval').map((fact) => (fact.type === 'interval' ? [fact.name, fact.source, fact.machine] : [])),
    [
      ['web', 'a', 'm1'],
      ['db', 'b', 'm1'],
    ],
  );
  const [first, second] = new FleetQueries(world.inventory.database).hosts();
  assert.deepEqual(
    [first?.also, second?.also],
    [[{ source: 'b', host: 'rack1.lab' }], [{ source: 'a', host: 'rack1' }]],
  );
  world.remove(a, 10);
  world.look(b, 12, [host({ name: 'rack1.lab', nativeId: 'h', uuid: SWAPPED })], ['db']);
  assert.deepEqual(world.hostFacts(), [
    'a/rack1 m1 1-2 2',
    'a/rack1 m1 2-10 2 = b/rack1.lab',
    'b/rack1.lab m1 10-12 2',
  ]);
});

test('one that turns out to be a known machine later is one from then on, and what was before stays as it was', () => {
  const world = new World();
  const [a, b] = [world.source('a'), world.source('b')];
  world.look(a, 1, [host()], ['web']);
  world.look(b, 1, [host({ uuid: null })], ['db']);
  world.look(b, 3, [host()], ['db']);
  world.look(a, 5, [host()], ['web']);
  world.look(b, 5, [host()], ['db']);
  assert.deepEqual(world.hostFacts(), ['a/rack1 m1 1-3 2', 'a/rack1 m1 3-5 2 = b/rack1', 'b/rack1 m2 1-3 2']);
  assert.deepEqual(
    world
      .facts('interval')
      .map((fact) => (fact.type === 'interval' ? [fact.name, fact.machine, hourIn(fact.start), hourIn(fact.end)] : [])),
    [
      ['web', 'm1', 1, 5],
      ['db', 'm2', 1, 3],
      ['db', 'm1', 3, 5],
    ],
  );
});

test('the source that knows most of its memory describes a machine, whatever others say of it', () => {
  const world = new World();
  const [a, b] = [world.source('a'), world.source('b')];
  world.look(a, 1, [host({ threads: 1, memoryBytes: 1_024 })]);
  world.look(b, 2, [host({ threads: 64 })]);
  world.look(a, 4, [host({ threads: 1, memoryBytes: 1_024 })]);
  world.look(b, 3, [host({ threads: 64 })]);
  assert.deepEqual(world.hostFacts(), ['a/rack1 m1 1-2 1', 'a/rack1 m1 3-4 1', 'b/rack1 m1 2-3 64 = a/rack1']);
});

test('a host that grew, was renamed or was away has its past as it was', () => {
  const world = new World();
  const a = world.source('a');
  world.look(a, 1, [host()], ['web']);
  world.look(a, 2, [host({ threads: 4 })], ['web']);
  world.look(a, 3, [host({ threads: 4, name: 'rack-one' })], ['web']);
  world.look(a, 4, [], []);
  world.look(a, 6, [host({ threads: 4, name: 'rack-one' })], ['web']);
  // Not told just now: as it was.
  world.look(a, 7, [host({ threads: null, memoryBytes: null, uuid: null, name: 'rack-one' })], ['web']);
  assert.deepEqual(world.hostFacts(), [
    'a/rack-one m1 3-4 4',
    'a/rack-one m1 6-7 4',
    'a/rack1 m1 1-2 2',
    'a/rack1 m1 2-3 4',
  ]);
  assert.ok(world.facts('interval').every((fact) => fact.type === 'interval' && fact.machine === 'm1'));
});

test('other hardware under the same name is another machine from then on, and no VM has moved by it', () => {
  const world = new World();
  const a = world.source('a');
  world.look(a, 1, [host()], ['web']);
  world.look(a, 2, [host({ uuid: '5c4c4544-0035-4b10-8051-b4c04f4d3133' })], ['web']);
  world.look(a, 3, [host({ uuid: '5c4c4544-0035-4b10-8051-b4c04f4d3133' })], ['web']);
  assert.deepEqual(world.hostFacts(), ['a/rack1 m1 1-2 2', 'a/rack1 m2 2-3 2']);
  assert.equal(world.inventory.database.all('SELECT id FROM interval').length, 1);
});

test('what two sources read of one machine counts once, less what VMs of both used; the parts are the whole machine', () => {
  const world = new World();
  const [a, b] = [world.source('a'), world.source('b')];
  for (const hour of [1, 3]) {
    world.look(a, hour, [host()], ['web']);
    world.look(b, hour, [host()], ['db']);
  }
  world.read(a, 1, 3_600);
  world.read(b, 1, 3_590);
  world.read(b, 2, 1_800);
  world.used(a, 1, { vm: 1, cpuSeconds: 1_000 });
  world.used(b, 1, { vm: 2, cpuSeconds: 2_000 });
  world.used(b, 2, { vm: 2, cpuSeconds: 900 });
  const overheads = world
    .facts('overhead')
    .map((fact) => (fact.type === 'overhead' ? [fact.host, fact.machine, fact.cpuNs] : []));
  assert.deepEqual(overheads, [
    ['rack1', 'm1', '600000000000'],
    // The one that describes it was not read in this hour: the other one's word is taken.
    ['rack1', 'm1', '900000000000'],
  ]);
  const hours = new HostUseQueries(world.inventory.database).hours({ fromMs: HOUR, toMs: 3 * HOUR });
  assert.deepEqual(
    hours.map(({ source, also, cpuNs }) => [source, also, cpuNs.used, cpuNs.overhead, cpuNs.idle]),
    [
      ['a', [{ source: 'b', host: 'rack1' }], '3000000000000', '600000000000', '3600000000000'],
      ['a', [{ source: 'b', host: 'rack1' }], '900000000000', '900000000000', '5400000000000'],
    ],
  );
});

test('at each moment the source that knows most describes a machine, and all others that show it are named', () => {
  let seed = 7;
  const upTo = (most: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % most;
  };
  for (let round = 0; round < 200; round += 1) {
    const spans = Array.from({ length: 1 + upTo(8) }, (_, n) => {
      const startMs = upTo(30);
      const shape = { threads: 2, memoryBytes: upTo(4), startMs, endMs: startMs + upTo(20) };
      return { ...shape, sourceId: n, source: `s${n}`, nativeId: 'h', key: 'h', name: 'h', machine: 1 };
    });
    const times = oneAtATime(spans);
    for (let atMs = 0; atMs < 60; atMs += 1) {
      const there = spans.filter((one) => one.startMs <= atMs && one.endMs > atMs);
      const [best] = there.toSorted((a, b) => b.memoryBytes - a.memoryBytes || a.sourceId - b.sourceId);
      const found = times.filter((one) => one.startMs <= atMs && one.endMs > atMs);
      assert.deepEqual(
        found.map((one) => one.source),
        best === undefined ? [] : [best.source],
      );
      const others = there.filter((one) => one !== best).map((one) => one.source);
      assert.deepEqual(found.flatMap(({ also }) => also.map(({ source }) => source)).sort(), others.sort());
    }
  }
});
