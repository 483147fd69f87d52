/** Lists, search and history over an inventory of its real tables in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmFacts } from '../facts.ts';
import { someVm } from '../fixture.ts';
import { HistoryQueries } from './history-queries.ts';
import { Inventory } from './inventory.ts';
import { type FilterName, FleetQueries, type ListQuery, type SortKey } from './queries.ts';
import { SourceTable } from './sources.ts';

const inventory = Inventory.open(':memory:');
const queries = new FleetQueries(inventory.database);
const past = new HistoryQueries(inventory.database);
const sources = new SourceTable(inventory.database);
const fresh = {
  url: 'test:///',
  driver: 'test',
  sealedSecret: null,
  pin: null,
  allowPower: false,
  everyMs: 1_000,
  sampleEveryMs: 60_000,
};
const a = sources.add({ ...fresh, name: 'a' }, 0).id;
const b = sources.add({ ...fresh, name: 'b' }, 0).id;

const vms: VmFacts[] = Array.from({ length: 57 }, (_, n) =>
  someVm({
    nativeId: `id-${n}`,
    uuid: `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`,
    name: `vm-${String(n % 40).padStart(2, '0')}`,
    powerState: n % 3 === 0 ? 'off' : 'running',
    hostId: `h${n % 4}`,
    vcpus: n % 5 === 0 ? null : (n % 5) * 2,
    memoryBytes: (n % 7) * 1024,
    tags: n % 2 === 0 ? ['tier=gold', `owner=o${n % 3}`] : ['tier'],
    nics: [
      {
        mac: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`,
        network: 'lan',
        model: null,
        addresses: [`10.1.2.${n}`],
      },
    ],
  }),
);

function look(sourceId: number, seen: readonly VmFacts[], atMs: number): void {
  const observation = { kind: 'snapshot' as const, vms: seen, unread: [], isComplete: true };
  inventory.apply({
    sourceId,
    observation,
    hosts: [],
    moment: { how: 'poll', atMs, observedMs: atMs, notBeforeMs: 0 },
  });
}
look(a, vms.slice(0, 30), 1_000);
look(b, vms.slice(30), 1_000);

function all(query: Omit<ListQuery, 'limit' | 'after'>, limit: number): string[] {
  const ids: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = queries.list({ ...query, limit, after });
    assert.ok(page.items.length <= limit);
    ids.push(...page.items.map((vm) => vm.id));
    if (page.next === null) return ids;
    after = page.next;
  }
}

test('pages of any size, in any order, hold every VM once and in that order', () => {
  for (const sort of ['name', 'state', 'host', 'vcpus', 'memory', 'disk', 'changed'] satisfies SortKey[]) {
    const whole = all({ sort }, 1_000);
    assert.equal(new Set(whole).size, 57);
    for (const limit of [1, 7, 57]) assert.deepEqual(all({ sort }, limit), whole, `${sort} by ${limit}`);
    assert.deepEqual(all({ sort, isDescending: true }, 10), [...whole].reverse());
  }
  const memory = queries.list({ sort: 'memory', limit: 1_000 }).items.map((vm) => vm.facts.memoryBytes ?? 0);
  assert.deepEqual(
    memory,
    [...memory].sort((x, y) => x - y),
  );
});

test('filters: several values of one name are or, several names are and', () => {
  const count = (filters: Partial<Record<FilterName, string[]>>): number =>
    all({ filters: new Map(Object.entries(filters) as [FilterName, string[]][]) }, 9).length;
  assert.equal(count({ source: ['a'] }), 30);
  assert.equal(count({ source: ['a', 'b'] }), 57);
  assert.equal(count({ state: ['off'] }), 19);
  assert.equal(count({ state: ['off'], source: ['a'] }), 10);
  assert.equal(count({ tag: ['tier=gold'] }), 29);
  assert.equal(count({ tag: ['tier'] }), 57);
  assert.equal(count({ owner: ['o0'] }), 10);
  assert.equal(count({ name: ['vm-0*'] }), 20);
  assert.equal(
    count({ host: ['h1'], state: ['running'] }),
    vms.filter((vm, n) => n % 4 === 1 && vm.powerState === 'running').length,
  );
  assert.equal(count({ stale: ['true'] }), 0);
  assert.equal(count({ mode: ['virtio'], accelerator: ['kvm'] }), 57);
  assert.equal(count({ name: ["x' OR 1=1 --"] }), 0);
});

test('search finds parts of names, addresses and tags, pages, and takes quotes as they are', () => {
  const found = (text: string, limit = 100): string[] => queries.search(text, { limit }).items.map((vm) => vm.name);
  assert.deepEqual(found('m-05').sort(), ['vm-05', 'vm-05']);
  assert.deepEqual(found('10.1.2.56'), ['vm-16']);
  assert.equal(found('tier=gold').length, 29);
  assert.equal(found('vm').length, 57, 'fewer than three characters: the beginning of names');
  assert.deepEqual(found('5000:', 3), []);
  assert.deepEqual(found('"; DROP TABLE vm; --'), []);
  const first = queries.search('tier=gold', { limit: 20 });
  const second = queries.search('tier=gold', { limit: 20, after: first.next ?? '' });
  assert.equal(first.items.length + second.items.length, 29);
  assert.equal(second.next, null);
});

test('a VM is found by its id, name, UUID and native id; a name that several have says which', () => {
  assert.equal(queries.find('v1').name, 'vm-00');
  assert.equal(queries.find('vm-39').id, queries.find('id-39').id);
  assert.equal(queries.find('00000000-0000-4000-8000-000000000039').name, 'vm-39');
  assert.throws(() => queries.find('vm-00'), { code: 'vm.ambiguous', message: /v1 \(a\)/ });
  assert.throws(() => queries.find('nosuch'), { code: 'vm.not_found' });
});

test('hosts and counts', () => {
  const counts = queries.counts().map((row) => ({ ...row }));
  assert.deepEqual(counts, [
    { source: 'a', state: 'off', vms: 10 },
    { source: 'a', state: 'running', vms: 20 },
    { source: 'b', state: 'off', vms: 9 },
    { source: 'b', state: 'running', vms: 18 },
  ]);
});

test('the estate at a time is what it was, and moves and drift say what happened since', () => {
  const moved = vms.slice(0, 30).map((vm, n) => (n === 3 ? { ...vm, hostId: 'h9' } : vm));
  look(a, moved.slice(0, 29), 5_000);
  assert.equal(past.at(999, { limit: 100 }).items.length, 0);
  const before = past.at(4_999, { limit: 100 }).items;
  assert.equal(before.length, 57);
  assert.equal(before.find((one) => one.vm === 'v4')?.host, 'h3');
  const after = past.at(5_000, { limit: 100 }).items;
  assert.equal(after.length, 56);
  assert.equal(after.find((one) => one.vm === 'v4')?.host, 'h9');
  const paged = [past.at(5_000, { limit: 50 })];
  paged.push(past.at(5_000, { limit: 50, after: paged[0]?.next ?? '' }));
  assert.deepEqual(
    paged.flatMap((page) => page.items),
    after,
  );
  const moves = past.moves({ limit: 10 }).items;
  assert.deepEqual(
    moves.map((one) => [one.name, one.movedFrom, one.host, one.opened.atMs]),
    [['vm-03', 'h3', 'h9', 5_000]],
  );
  assert.deepEqual(past.moves({ limit: 10, fromMs: 0, toMs: 5_000 }).items, []);
  const drift = past.drift({ limit: 10 }).items.map((one) => [one.name, one.field, one.before, one.after]);
  assert.deepEqual(drift.sort(), [
    ['vm-03', 'host', 'h3', 'h9'],
    ['vm-29', 'existence', 'present', 'gone'],
  ]);
  const history = past.ofVm(4, { limit: 10 }).items;
  assert.deepEqual(
    history.map((one) => [one.host, one.closed?.atMs ?? null]),
    [
      ['h3', 5_000],
      ['h9', null],
    ],
  );
});
