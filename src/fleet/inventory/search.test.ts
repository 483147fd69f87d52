/** What search finds is what a look at every VM finds, however the work is divided. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Database, SqlValue } from '#store';
import type { VmFacts } from '../facts.ts';
import { someVm } from '../fixture.ts';
import { Inventory } from './inventory.ts';
import { FleetQueries } from './queries.ts';
import { PRESENT, VmSearch } from './search.ts';
import { GONE_ROWS, indexVm, reviveVms } from './search-table.ts';
import { SourceTable } from './sources.ts';
import { searchColumns } from './vm-row.ts';

const SELECT = 'SELECT vm.id, vm.name, vm.facts, vm.host_name';

interface Row {
  readonly id: number;
  readonly name: string;
  readonly facts: string;
  readonly host_name: string;
}

/** The same numbers each time. @source Marsaglia, Xorshift RNGs, 2003: shifts 13, 17, 5 */
function numbersFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const random = numbersFrom(20_261_122);
const word = (letters: string, length: number): string =>
  Array.from({ length }, () => letters[random(letters.length)] ?? '').join('');

/** Of few letters, so that VMs have many pieces in common. */
const vms: VmFacts[] = Array.from({ length: 400 }, (_, n) =>
  someVm({
    nativeId: `vm-${n}`,
    uuid: `${word('01', 8)}-0000-4000-8000-${word('01', 12)}`,
    name: n % 50 === 0 ? `${word('abK', 5)}\u212a\u0130\u017f"${word('kS', 4)}` : word('aBk-', 12),
    hostId: `host-${random(5)}`,
    tags: [`owner=${word('xy', 4)}`, 'stage=test'],
    nics: [{ mac: null, network: 'lan', model: null, addresses: [`10.1.${random(2)}.${random(20)}`, '10.1.10.1'] }],
  }),
);

const inventory = Inventory.open(':memory:');
const SOURCE = {
  name: 'a',
  url: 'test:///',
  driver: 'test',
  sealedSecret: null,
  pin: null,
  allowPower: false,
  everyMs: 1_000,
  sampleEveryMs: 60_000,
};
const source = new SourceTable(inventory.database).add(SOURCE, 0);
function look(seen: readonly VmFacts[], atMs: number): void {
  const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: 0 };
  const observation = { kind: 'snapshot' as const, vms: seen, unread: [], isComplete: true };
  inventory.apply({ sourceId: source.id, observation, hosts: [], moment });
}
look(vms, 1_000);

const needles: readonly string[] = [
  ...Array.from({ length: 20 }, () => word('abk-', 3 + random(6))),
  ...Array.from({ length: 20 }, () => word('01', 7 + random(4))),
  ...Array.from({ length: 10 }, (_, n) => vms[n * 31]?.name.slice(0, 10).toUpperCase() ?? ''),
  ...Array.from({ length: 10 }, (_, n) => vms[n * 39]?.uuid ?? ''),
  ...[
    '10.1.10.1',
    '10.1.10.1.1',
    '10.1.0.1',
    '0-0000-4000-8000-0',
    '0000-0000',
    'owner=xyxy stage',
    'stage=test',
    'kkkkkkk',
  ],
  ...['\u212akssk', 'test 10.1', '" OR 1=1 --', 'host-3 lan', 'lan host-3', '"ksks"ks'],
];

/** The index's own reading of letters beyond ASCII is told apart in needle.test.ts. */
function expected(text: string, seen: readonly VmFacts[]): string[] {
  const fold = (one: string): string =>
    one
      .replace(/\u212a/g, 'k')
      .replace(/\u017f/g, 's')
      .toLowerCase();
  return seen
    .filter((vm) =>
      [
        vm.name,
        `${vm.nativeId} ${vm.uuid}`,
        vm.nics[0]?.addresses.join(' ') ?? '',
        vm.tags.join(' '),
        `${vm.hostId} lan`,
      ].some((column) => fold(column).includes(fold(text))),
    )
    .map((vm) => vm.nativeId);
}

const nativeId = (row: { readonly facts: string }): string => (JSON.parse(row.facts) as VmFacts).nativeId;

test('however the work is divided, what is found is what a look at every VM finds, in the same order and pages', () => {
  const efforts = [
    { quickEntries: 1e9, mostMissed: 0 },
    { quickEntries: 0, mostMissed: 0 },
    { quickEntries: 0, mostMissed: 3 },
    { quickEntries: 0, mostMissed: 1e9 },
  ];
  for (const effort of efforts) {
    const search = new VmSearch<Row>(inventory.database, SELECT, effort);
    for (const text of needles.filter((one) => one.length >= 3))
      for (const limit of [37, 1_000]) {
        const found: string[] = [];
        for (let afterId = 0; ; ) {
          const page = search.rows({ text, withGone: false, afterId, limit });
          found.push(...page.map(nativeId));
          if (page.length < limit) break;
          afterId = page.at(-1)?.id ?? 0;
        }
        assert.deepEqual(found, expected(text, vms), `${text} by ${limit}, ${JSON.stringify(effort)}`);
      }
  }
});

test('the index gives its rows in order, and each VM is read by its id', () => {
  const search = new VmSearch<Row>(inventory.database, SELECT);
  const plan = inventory.database
    .all<{ detail: string }>(`EXPLAIN QUERY PLAN ${search.statement(PRESENT)}`, '"abc"', 0)
    .map((step) => step.detail);
  assert.match(plan[0] ?? '', /^SCAN vm_search VIRTUAL TABLE INDEX [0-9]+:.*M/);
  assert.match(plan[1] ?? '', /^SEARCH vm USING INTEGER PRIMARY KEY/);
  assert.match(plan[2] ?? '', /^SEARCH source USING INTEGER PRIMARY KEY/);
  assert.equal(plan.length, 3, plan.join('; '));
});

test('names that begin with one or two letters are a range of an index', () => {
  const plan: string[] = [];
  const { database } = inventory;
  const listening: Database = {
    ...database,
    all: <R>(sql: string, ...values: SqlValue[]) => {
      const steps = database.all<{ detail: string }>(`EXPLAIN QUERY PLAN ${sql}`, ...values);
      plan.push(...steps.map((step) => step.detail));
      return database.all<R>(sql, ...values);
    },
  };
  assert.ok(new FleetQueries(listening).search('aB', { limit: 5 }).items.length > 0);
  assert.match(plan[0] ?? '', /^SEARCH vm USING INDEX vm_name /);
  assert.ok(!plan.some((step) => step.includes('TEMP B-TREE')), plan.join('; '));
});

test('VMs that are gone are found only when they are asked for, and once when they are back; no row is left behind', () => {
  const search = new VmSearch<Row>(inventory.database, SELECT);
  const found = (withGone: boolean, text = '0000-4000-8000', limit = 1_000): string[] => {
    const all: string[] = [];
    for (let afterId = 0; ; ) {
      const page = search.rows({ text, withGone, afterId, limit });
      all.push(...page.map(nativeId));
      if (page.length < limit) return all;
      afterId = page.at(-1)?.id ?? 0;
    }
  };
  const rows = (): (number | undefined)[] =>
    ['rowid < ?', 'rowid >= ?'].map(
      (part) =>
        inventory.database.get<{ n: number }>(`SELECT COUNT(*) AS n FROM vm_search WHERE ${part}`, GONE_ROWS)?.n,
    );
  const everyone = vms.map((vm) => vm.nativeId);
  const kept = vms.filter((_, n) => n % 3 !== 1);
  // Out of order, as sources tell them.
  look(kept.toReversed(), 2_000);
  assert.deepEqual(
    found(false),
    kept.map((vm) => vm.nativeId),
  );
  assert.deepEqual(found(true), everyone);
  assert.deepEqual(found(true, '0000-4000-8000', 7), everyone);
  assert.deepEqual(rows(), [kept.length, vms.length - kept.length]);
  const changed = vms.map((vm, n) => (n === 4 ? { ...vm, tags: ['owner=returned'] } : vm));
  look(changed.toReversed(), 3_000);
  assert.deepEqual(found(false), everyone);
  assert.deepEqual(found(true), everyone);
  assert.deepEqual(found(true, 'owner=returned'), ['vm-4']);
  assert.deepEqual(rows(), [vms.length, 0]);
  inventory.removeSource(source.id, { how: 'poll', atMs: 4_000, observedMs: 4_000, notBeforeMs: 0 });
  assert.deepEqual(found(false), []);
  assert.deepEqual(found(true), everyone);
  assert.deepEqual(rows(), [0, vms.length]);
});

test('a VM that an earlier berth left in its place when it went is found with those that are gone, and can come back', () => {
  const { database } = inventory;
  const search = new VmSearch<Row>(database, SELECT);
  const [vm] = search.rows({ text: '0000-4000-8000', withGone: true, afterId: 0, limit: 1 });
  assert.ok(vm !== undefined);
  database.run('DELETE FROM vm_search WHERE rowid = ?', GONE_ROWS + vm.id);
  indexVm(database, vm.id, searchColumns(JSON.parse(vm.facts) as VmFacts, vm.host_name));
  const asked = { text: '0000-4000-8000', afterId: 0, limit: 1 };
  assert.deepEqual(search.rows({ ...asked, withGone: false }), []);
  assert.equal(search.rows({ ...asked, withGone: true })[0]?.id, vm.id);
  assert.deepEqual(reviveVms(database, [vm.id]), new Set());
});

test('VMs without a row in the index are found as well, whatever happens to them before they get it', () => {
  const later = Inventory.open(':memory:');
  const { id: sourceId } = new SourceTable(later.database).add(SOURCE, 0);
  const tell = (seen: readonly VmFacts[], atMs: number): void => {
    const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: 0 };
    const observation = { kind: 'snapshot' as const, vms: seen, unread: [], isComplete: true };
    later.apply({ sourceId, observation, hosts: [], moment, indexLater: true });
  };
  const search = new VmSearch<Row>(later.database, SELECT, { quickEntries: 0, mostMissed: 3 });
  const agrees = (there: readonly VmFacts[], all: readonly VmFacts[]): void => {
    for (const text of needles.filter((one, n) => one.length >= 3 && n % 3 === 0))
      for (const [withGone, among] of [
        [false, there],
        [true, all],
      ] as const)
        for (const limit of [37, 1_000]) {
          const found: string[] = [];
          for (let afterId = 0; ; ) {
            const page = search.rows({ text, withGone, afterId, limit });
            found.push(...page.map(nativeId));
            if (page.length < limit) break;
            afterId = page.at(-1)?.id ?? 0;
          }
          assert.deepEqual(found, expected(text, among), `${text} by ${limit}, ${later.dueAtMost} due`);
        }
  };
  tell(vms, 1_000);
  assert.equal(later.dueAtMost, vms.length);
  agrees(vms, vms);
  assert.equal(later.indexDue(150), 150);
  agrees(vms, vms);
  // On both sides of the mark some leave, some change, some come back.
  const changed = vms.map((vm, n) => (n % 7 === 3 ? { ...vm, tags: ['owner=changed'] } : vm));
  const kept = changed.filter((_, n) => n % 5 !== 2);
  tell(kept, 2_000);
  const known = vms.map((vm, n) => (n % 5 === 2 ? vm : (changed[n] ?? vm)));
  agrees(kept, known);
  assert.equal(later.indexDue(100), 100);
  agrees(kept, known);
  tell(changed, 3_000);
  agrees(changed, changed);
  assert.equal(later.indexDue(1_000), vms.length - 250);
  assert.deepEqual([later.dueAtMost, later.indexDue(1_000)], [0, 0]);
  agrees(changed, changed);
  const count = later.database.get<{ n: number }>('SELECT COUNT(*) AS n FROM vm_search');
  assert.equal(count?.n, vms.length);
  later.close();
});
