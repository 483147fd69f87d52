/** The inventory over its real tables, in memory: stories one by one, then many at random with their invariants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmChange } from '../driver.ts';
import type { PowerState, VmFacts } from '../facts.ts';
import { someVm } from '../fixture.ts';
import type { Moment } from './intervals.ts';
import { Inventory } from './inventory.ts';
import { SourceTable } from './sources.ts';
import { UsageFacts } from './usage-facts.ts';

const U = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const mac = (n: number): string => `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`;
const nic = (n: number): VmFacts['nics'][number] => ({ mac: mac(n), network: null, model: null, addresses: [] });
const vm = (n: number, changes: Partial<VmFacts> = {}): VmFacts =>
  someVm({ nativeId: `id-${n}`, uuid: U(n), name: `vm-${n}`, nics: [nic(n)], hostId: 'h1', ...changes });

class Estate {
  readonly inventory = Inventory.open(':memory:');
  readonly #sources = new SourceTable(this.inventory.database);
  nowMs = 1_000;

  source(name: string): number {
    const fresh = {
      name,
      url: `test://${name}`,
      driver: 'test',
      sealedSecret: null,
      pin: null,
      allowPower: false,
      everyMs: 1_000,
      sampleEveryMs: 60_000,
    };
    return this.#sources.add(fresh, this.nowMs).id;
  }

  moment(how: Moment['how'] = 'poll'): Moment {
    this.nowMs += 1_000;
    return { how, atMs: this.nowMs, observedMs: this.nowMs, notBeforeMs: this.nowMs - 1_000 };
  }

  look(sourceId: number, vms: readonly VmFacts[], options: { partial?: true; unread?: string[] } = {}): void {
    const observation = {
      kind: 'snapshot' as const,
      vms,
      unread: options.unread ?? [],
      isComplete: options.partial !== true,
    };
    this.inventory.apply({ sourceId, observation, hosts: [], moment: this.moment() });
    this.check();
  }

  event(sourceId: number, change: VmChange): void {
    this.inventory.apply({ sourceId, observation: { kind: 'change', change }, moment: this.moment('event') });
    this.check();
  }

  get vms(): { id: number; name: string; gone_ms: number | null; power_state: string; host_name: string | null }[] {
    return this.inventory.database.all('SELECT id, name, gone_ms, power_state, host_name FROM vm ORDER BY id');
  }

  get present(): string[] {
    return this.vms.flatMap((one) => (one.gone_ms === null ? [one.name] : []));
  }

  history(vmId: number): {
    power_state: string;
    host_name: string | null;
    causes: string;
    opened_ms: number;
    closed_ms: number | null;
    opened_how: string;
  }[] {
    return this.inventory.database.all('SELECT * FROM interval WHERE vm_id = ? ORDER BY id', vmId);
  }

  /** What is true after every observation, whatever it was. */
  check(): void {
    const { database } = this.inventory;
    for (const { id, gone_ms } of this.vms) {
      const intervals = this.history(id);
      const open = intervals.filter((one) => one.closed_ms === null).length;
      assert.equal(open, gone_ms === null ? 1 : 0, `VM ${id} has ${open} open intervals`);
      const live = database.all('SELECT 1 FROM sighting WHERE vm_id = ? AND gone_ms IS NULL', id).length;
      assert.equal(live > 0, gone_ms === null, `VM ${id} has ${live} live sightings`);
      for (const [at, one] of intervals.entries()) {
        const next = intervals[at + 1];
        if (next === undefined) continue;
        assert.ok(one.closed_ms !== null && one.closed_ms >= one.opened_ms && next.opened_ms >= one.closed_ms);
        if (next.causes !== 'appeared') assert.equal(next.opened_ms, one.closed_ms, 'no gap while it is there');
      }
    }
  }
}

test('moved, stopped and grown: one interval after another', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  estate.look(a, [vm(1)]);
  estate.look(a, [vm(1, { hostId: 'h2' })]);
  estate.event(a, { kind: 'power', nativeId: 'id-1', powerState: 'off' });
  estate.look(a, [vm(1, { hostId: 'h2', powerState: 'off', vcpus: 8 })]);
  assert.deepEqual(
    estate
      .history(1)
      .map(({ causes, host_name, power_state, opened_how }) => [causes, host_name, power_state, opened_how]),
    [
      ['appeared', 'h1', 'running', 'poll'],
      ['moved', 'h2', 'running', 'poll'],
      ['power', 'h2', 'off', 'event'],
      ['shape', 'h2', 'off', 'poll'],
    ],
  );
});

test('renamed: the same VM, the same interval', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  estate.look(a, [vm(1, { name: 'renamed' })]);
  assert.deepEqual(estate.present, ['renamed']);
  assert.equal(estate.history(1).length, 1);
});

test('registered anew under another id: the same VM, and its interval goes on', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  estate.look(a, [vm(1, { nativeId: 'id-new' })]);
  assert.equal(estate.vms.length, 1);
  assert.equal(estate.history(1).length, 1);
});

test('cloned with the same UUID: two VMs, with the same card or not', () => {
  for (const changes of [{}, { nics: [nic(9)] }]) {
    const estate = new Estate();
    const a = estate.source('a');
    estate.look(a, [vm(1)]);
    estate.look(a, [vm(1), vm(1, { nativeId: 'id-clone', name: 'clone', ...changes })]);
    assert.deepEqual(estate.present, ['vm-1', 'clone']);
  }
});

test('deleted and made again with the same name between two looks: two VMs, one gone', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  estate.look(a, [vm(2, { name: 'vm-1' })]);
  assert.deepEqual(
    estate.vms.map((one) => [one.name, one.gone_ms !== null]),
    [
      ['vm-1', true],
      ['vm-1', false],
    ],
  );
  assert.ok(estate.history(1).every((one) => one.closed_ms !== null));
});

test('seen through a second source: one VM; gone there: still here; gone everywhere: gone, and its history stays', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  estate.look(a, [vm(1)]);
  estate.look(b, [vm(1, { nativeId: 'vm-77', name: 'VM one', nics: [nic(1), nic(2)] })]);
  assert.equal(estate.vms.length, 1);
  estate.look(a, []);
  assert.deepEqual(estate.present, ['VM one']);
  estate.look(b, []);
  assert.deepEqual(estate.present, []);
  assert.ok(estate.history(1).length >= 1);
});

test('the source whose word counted is removed: another one goes on, and the time is known by it from then on', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  estate.look(a, [vm(1)]);
  estate.look(b, [vm(1)]);
  const endOf = () =>
    new UsageFacts(estate.inventory.database)
      .page({ fromMs: 0, toMs: 1e9, limit: 9 })
      .items.map((fact) => (fact.type === 'interval' ? [fact.source, Date.parse(fact.end)] : []));
  estate.look(a, [vm(1)]);
  assert.deepEqual(endOf(), [['a', estate.nowMs]]);
  estate.inventory.setSourceState(a, 'down', { moment: estate.moment() });
  estate.look(b, [vm(1)]);
  assert.deepEqual(endOf(), [['a', estate.nowMs]]);
  estate.inventory.removeSource(a, estate.moment());
  const removedMs = estate.nowMs;
  estate.look(b, [vm(1)]);
  assert.deepEqual(endOf(), [
    ['a', removedMs],
    ['b', estate.nowMs],
  ]);
  assert.deepEqual(
    estate.inventory.database.all<{ causes: string }>('SELECT causes FROM interval').map(({ causes }) => causes),
    ['appeared', 'source'],
  );
});

test('migrated from one source to another: one VM, and the move is in its history', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  estate.look(a, [vm(1)]);
  estate.look(a, []);
  estate.look(b, [vm(1, { hostId: 'h9' })]);
  assert.equal(estate.vms.length, 1);
  assert.deepEqual(
    estate.history(1).map((one) => one.host_name),
    ['h1', 'h9'],
  );
});

test('a clone of a VM that two sources show is not mixed up with it', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  const clone = vm(1, { nativeId: 'id-clone', name: 'clone', nics: [nic(9)] });
  estate.look(a, [vm(1), clone]);
  estate.look(b, [{ ...clone, nativeId: 'b-2' }, vm(1, { nativeId: 'b-1' })]);
  assert.equal(estate.vms.length, 2);
  const pairs = estate.inventory.database.all<{ vm_id: number; native_id: string }>(
    'SELECT vm_id, native_id FROM sighting ORDER BY vm_id, source_id',
  );
  assert.deepEqual(
    pairs.map((one) => one.native_id),
    ['id-1', 'b-1', 'id-clone', 'b-2'],
  );
});

test('part of a snapshot, and what could not be read, makes nobody leave', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1), vm(2), vm(3)]);
  estate.look(a, [vm(1)], { partial: true });
  assert.equal(estate.present.length, 3);
  estate.look(a, [vm(1)], { unread: ['id-2'] });
  assert.deepEqual(estate.present, ['vm-1', 'vm-2']);
});

test('a source that is down keeps its VMs; of two sources the one that answers has the word', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  estate.look(a, [vm(1)]);
  estate.look(b, [vm(1, { nativeId: 'b-1', powerState: 'off' })]);
  assert.deepEqual(
    estate.vms.map((one) => one.power_state),
    ['running'],
  );
  estate.inventory.setSourceState(a, 'down', { moment: estate.moment(), problem: { message: 'no route' } });
  estate.check();
  assert.deepEqual(
    estate.vms.map((one) => one.power_state),
    ['off'],
  );
  estate.inventory.setSourceState(a, 'up', { moment: estate.moment() });
  estate.check();
  assert.deepEqual(
    estate.vms.map((one) => one.power_state),
    ['running'],
  );
});

test('back after it was gone: the same VM, with a gap in its history', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  estate.event(a, { kind: 'gone', nativeId: 'id-1' });
  estate.event(a, { kind: 'seen', vm: vm(1) });
  assert.equal(estate.vms.length, 1);
  const [first, second] = estate.history(1);
  assert.ok((second?.opened_ms ?? 0) > (first?.closed_ms ?? 0));
});

test('a first look is no drift; what changes afterwards is, unless a verb of ours did it', () => {
  const estate = new Estate();
  const a = estate.source('a');
  const drift = () =>
    estate.inventory.database.all<{ field: string; by_berth: number }>(
      'SELECT field, by_berth FROM change ORDER BY id',
    );
  estate.look(a, [vm(1)]);
  assert.deepEqual(drift(), []);
  estate.look(a, [vm(1, { vcpus: 4 }), vm(2)]);
  estate.inventory.noteIntent(1, 'stop', estate.nowMs);
  estate.event(a, { kind: 'power', nativeId: 'id-1', powerState: 'off' });
  const rows = drift().map(({ field, by_berth }) => [field, by_berth]);
  assert.deepEqual(rows, [
    ['vcpus', 0],
    ['existence', 0],
    ['powerState', 1],
  ]);
});

test('two collectors: one has the lease, and the other can write nothing', () => {
  const a = new Estate();
  const id = a.source('a');
  assert.ok(a.inventory.takeLease(id, 'one', { nowMs: 0, untilMs: 100 }));
  assert.ok(!a.inventory.takeLease(id, 'two', { nowMs: 50, untilMs: 150 }));
  assert.ok(a.inventory.takeLease(id, 'one', { nowMs: 60, untilMs: 160 }));
  assert.ok(a.inventory.takeLease(id, 'two', { nowMs: 160, untilMs: 260 }));
  const moment = { how: 'poll' as const, atMs: 170, observedMs: 170, notBeforeMs: 0 };
  const observation = { kind: 'snapshot' as const, vms: [vm(1)], unread: [], isComplete: true };
  assert.throws(() => a.inventory.apply({ sourceId: id, observation, moment, holder: 'one' }), {
    code: 'fleet.lease_lost',
  });
  assert.deepEqual(a.present, []);
  a.inventory.apply({ sourceId: id, observation, moment, holder: 'two' });
  assert.deepEqual(a.present, ['vm-1']);
});

test('the database itself refuses a second open interval', () => {
  const estate = new Estate();
  const a = estate.source('a');
  estate.look(a, [vm(1)]);
  assert.throws(
    () =>
      estate.inventory.database.run(
        `INSERT INTO interval (vm_id, source_id, power_state, causes, opened_ms, opened_observed_ms, opened_not_before_ms, opened_how) VALUES (1, ${a}, 'off', '', 1, 1, 1, 'poll')`,
      ),
    /UNIQUE/,
  );
});

test('three hundred random lives of an estate keep every invariant', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    try {
      randomLife(seed);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

function randomLife(seed: number): void {
  let state = seed * 2_654_435_761;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % below;
  };
  const estate = new Estate();
  const sources = [estate.source('a'), estate.source('b')];
  const worlds = new Map<number, Map<string, VmFacts>>(sources.map((id) => [id, new Map()]));
  const states: readonly PowerState[] = ['running', 'off', 'paused'];
  let made = 0;
  for (let turn = 0; turn < 25; turn += 1) {
    const source = sources[random(2)] ?? 0;
    const world = worlds.get(source) ?? new Map<string, VmFacts>();
    const other = worlds.get(sources.find((id) => id !== source) ?? 0) ?? new Map<string, VmFacts>();
    const some = [...world.values()][random(Math.max(1, world.size))];
    const elsewhere = [...other.values()][random(Math.max(1, other.size))];
    made += 1;
    const fresh = `${source}-${made}`;
    const action = random(10);
    // Few UUIDs and few cards, so that they meet.
    if (action < 2) world.set(fresh, vm(random(4), { nativeId: fresh, name: `n${random(3)}`, nics: [nic(random(4))] }));
    else if (action === 2 && some) world.set(fresh, { ...some, nativeId: fresh });
    else if (action === 3 && some) {
      world.delete(some.nativeId);
      world.set(fresh, { ...some, nativeId: fresh });
    } else if (action === 4 && some) world.delete(some.nativeId);
    else if (action === 5 && elsewhere) world.set(fresh, { ...elsewhere, nativeId: fresh });
    else if (action === 6 && some)
      world.set(some.nativeId, { ...some, hostId: `h${random(3)}`, powerState: states[random(3)] ?? 'off' });
    else if (action === 7) estate.nowMs -= random(5_000);
    else if (action === 8)
      estate.inventory.setSourceState(source, random(2) ? 'up' : 'down', { moment: estate.moment() });
    estate.check();
    const before = estate.present.length;
    if (random(4) === 0) {
      estate.look(source, [...world.values()].slice(0, random(3)), { partial: true });
      assert.ok(estate.present.length >= before, 'a part never takes away');
    } else if (random(3) === 0 && some) {
      const now = world.get(some.nativeId);
      estate.event(source, now === undefined ? { kind: 'gone', nativeId: some.nativeId } : { kind: 'seen', vm: now });
    } else {
      estate.look(source, [...world.values()]);
      const live = estate.inventory.database.all<{ native_id: string }>(
        'SELECT native_id FROM sighting WHERE source_id = ? AND gone_ms IS NULL',
        source,
      );
      assert.deepEqual(live.map((one) => one.native_id).sort(), [...world.keys()].sort());
    }
  }
}
