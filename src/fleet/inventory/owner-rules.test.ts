/** Owners by rules: in lists, in the past, in usage; whatever a card says by then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someVm } from '../fixture.ts';
import { HistoryQueries } from './history-queries.ts';
import { Inventory } from './inventory.ts';
import { type Owned, type OwnedSubject, OwnerBook, type OwnerRules, TAGS_ONLY } from './owner-rules.ts';
import { FleetQueries } from './queries.ts';
import { SourceTable } from './sources.ts';
import { UsageFacts } from './usage-facts.ts';

const HOUR = 3_600_000;
const SUBJECT: OwnedSubject = {
  source: 's',
  host: 'h',
  name: 'n',
  tags: {},
  told: { owner: 'tag', project: null },
};

/** `owners[i]` from the i-th cut on; what tags say where it is undefined, and before the first. */
function dated(cutsMs: readonly number[], owners: readonly (string | undefined)[], prefix = ''): OwnerRules {
  return {
    fingerprint: JSON.stringify([cutsMs, owners, prefix]),
    cutsMs,
    at: ({ name, told }, atMs): Owned => {
      const owner = owners[cutsMs.findLastIndex((cut) => cut <= atMs)];
      return owner === undefined || !name.startsWith(prefix) ? told : { owner, project: `of-${owner}` };
    },
  };
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

test('pieces lie one after the other, say at each moment what the rules say, and two neighbours never say the same', () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const next = random(seed);
    const cutsMs = [...new Set(Array.from({ length: 8 }, () => Math.floor(next() * 100)))].sort((a, b) => a - b);
    const rules = dated(
      cutsMs,
      cutsMs.map(() => ['ann', 'bob', undefined][Math.floor(next() * 3)]),
    );
    const book = new OwnerBook();
    book.replace(rules);
    const startMs = Math.floor(next() * 50);
    const endMs = startMs + Math.floor(next() * 60);
    const pieces = book.pieces(SUBJECT, { startMs, endMs });
    assert.equal(pieces[0]?.startMs, startMs);
    assert.equal(pieces.at(-1)?.endMs, endMs);
    for (const [at, piece] of pieces.entries()) {
      assert.ok(at === 0 || (pieces[at - 1]?.endMs === piece.startMs && pieces[at - 1]?.owner !== piece.owner));
      for (let ms = piece.startMs; ms < piece.endMs; ms += 1) assert.equal(rules.at(SUBJECT, ms).owner, piece.owner);
    }
    for (let ms = 0; ms < 120; ms += 1) {
      const cut = book.nextCutMs(ms);
      assert.ok(cut === undefined || book.epochAt(cut) !== book.epochAt(ms));
      if (cut !== undefined) assert.equal(book.epochAt(cut - 1), book.epochAt(ms));
    }
  }
});

/** 120 VMs, seen from 1:00 to 5:00; every third has the tag owner=tagged. */
function estate() {
  const inventory = Inventory.open(':memory:');
  const { database, ownerBook } = inventory;
  const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
  const { id: sourceId } = new SourceTable(database).add(
    { ...fresh, name: 'a', everyMs: 1_000, sampleEveryMs: 60_000 },
    0,
  );
  const vms = Array.from({ length: 120 }, (_, n) =>
    someVm({
      nativeId: `id-${n}`,
      name: `${n % 2 === 0 ? 'shop' : 'mail'}-${String(n).padStart(3, '0')}`,
      tags: n % 3 === 0 ? ['owner=tagged', 'project=old'] : [],
    }),
  );
  const look = (atMs: number, seen = vms) => {
    const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: atMs };
    inventory.apply({ sourceId, observation: { kind: 'snapshot', vms: seen, unread: [], isComplete: true }, moment });
  };
  look(HOUR);
  look(5 * HOUR);
  const queries = new FleetQueries(database);
  const sweep = (nowMs: number): void => {
    for (let steps = 0; !inventory.owners.step(nowMs); steps += 1) assert.ok(steps < 100);
  };
  const listed = (owner: string): string[] =>
    queries.list({ filters: new Map([['owner', [owner]]]), limit: 1_000 }).items.map((vm) => vm.name);
  return { inventory, ownerBook, queries, sweep, listed, look, vms };
}

test('lists show, filter and sort by the rules in force; tags count where none does, and after the rules are gone', () => {
  const { inventory, ownerBook, queries, sweep, listed } = estate();
  sweep(HOUR);
  assert.equal(listed('tagged').length, 40);
  ownerBook.replace(dated([2 * HOUR, 4 * HOUR], ['ann', 'bob'], 'shop'));
  for (const [nowMs, owner, shops] of [
    [HOUR, 'ann', 0],
    [3 * HOUR, 'ann', 60],
    [4 * HOUR, 'ann', 0],
    [4 * HOUR, 'bob', 60],
  ] as const) {
    sweep(nowMs);
    assert.equal(listed(owner).length, shops, `${owner} at ${nowMs / HOUR} h`);
    const { items } = queries.list({ limit: 1_000 });
    for (const name of ['tagged', 'ann', 'bob'])
      assert.deepEqual(
        listed(name),
        items.flatMap((vm) => (vm.owner === name ? [vm.name] : [])),
      );
  }
  const { items: ofBob } = queries.list({ filters: new Map([['project', ['of-bob']]]), limit: 1_000 });
  assert.ok(ofBob.length === 60 && ofBob.every((vm) => vm.project === 'of-bob'));
  assert.equal(queries.find('shop-000').owner, 'bob');
  assert.ok(queries.search('shop-0', { limit: 10 }).items.every((vm) => vm.owner === 'bob'));
  for (const isDescending of [false, true]) {
    const whole = queries.list({ sort: 'owner', isDescending, limit: 1_000 }).items;
    const sorted = [...whole].sort((a, b) => {
      const [x, y] = [a, b].map((vm) => `${vm.owner ?? ''}\0${vm.name}`) as [string, string];
      return (x < y ? -1 : 1) * (isDescending ? -1 : 1);
    });
    assert.deepEqual(whole, sorted);
    const paged: string[] = [];
    for (let after: string | undefined; ; ) {
      const page = queries.list({ sort: 'owner', isDescending, limit: 7, after });
      paged.push(...page.items.map((vm) => vm.id));
      if (page.next === null) break;
      after = page.next;
    }
    assert.deepEqual(
      paged,
      whole.map((vm) => vm.id),
    );
  }
  ownerBook.replace(TAGS_ONLY);
  sweep(4 * HOUR);
  assert.equal(listed('tagged').length, 40);
  assert.equal(listed('bob').length, 0);
  inventory.close();
});

test('what is seen while rules are in force is written as theirs at once', () => {
  const { inventory, ownerBook, listed, look, vms } = estate();
  ownerBook.replace(dated([2 * HOUR], ['ann'], 'new'));
  const renamed = vms.map((vm, at) => (at === 0 ? { ...vm, name: 'new-name' } : vm));
  look(6 * HOUR, [...renamed, someVm({ nativeId: 'fresh', name: 'new-vm' })]);
  assert.deepEqual(listed('ann'), ['new-name', 'new-vm']);
  inventory.close();
});

test('a sweep that is broken off anywhere goes on where it was; one that other rules overtake begins anew', () => {
  const { inventory, ownerBook, listed, sweep } = estate();
  sweep(5 * HOUR);
  ownerBook.replace(dated([HOUR], ['ann'], 'shop'));
  inventory.database.run(
    'INSERT OR REPLACE INTO owner_sweep (id, epoch, done_to) VALUES (1, ?, 60)',
    ownerBook.epochAt(5 * HOUR),
  );
  sweep(5 * HOUR);
  // VMs 1 to 60 were done before, as far as it is written: they are left as they are.
  assert.equal(listed('ann').length, 30);
  ownerBook.replace(dated([HOUR], ['bob'], 'shop'));
  sweep(5 * HOUR);
  assert.equal(listed('bob').length, 60);
  inventory.close();
});

test('the past is told by the rules of its time: the estate, histories, and usage, where no moment is twice or lost', () => {
  const { inventory, ownerBook } = estate();
  const past = new HistoryQueries(inventory.database, ownerBook);
  const usage = new UsageFacts(inventory.database, ownerBook);
  const span = { fromMs: 0, toMs: 10 * HOUR, limit: 1_000 };
  const before = usage.page(span).items.filter((fact) => fact.type === 'interval');
  ownerBook.replace(dated([2 * HOUR, 4 * HOUR], ['ann', undefined], 'shop'));
  const ownersAt = (ms: number): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const { owner } of past.at(ms, { limit: 1_000 }).items) counts[owner ?? '-'] = (counts[owner ?? '-'] ?? 0) + 1;
    return counts;
  };
  assert.deepEqual(ownersAt(HOUR), { tagged: 40, '-': 80 });
  assert.deepEqual(ownersAt(2 * HOUR), { ann: 60, tagged: 20, '-': 40 });
  assert.deepEqual(ownersAt(4 * HOUR), { tagged: 40, '-': 80 });
  const pieces = past.ofVm(1, { limit: 10 }).items;
  assert.deepEqual(
    pieces.map((one) => [one.opened.atMs / HOUR, one.opened.how, one.owner, one.project, one.causes]),
    [
      [1, 'poll', 'tagged', 'old', ['appeared']],
      [2, 'rule', 'ann', 'of-ann', ['owner']],
      [4, 'rule', 'tagged', 'old', ['owner']],
    ],
  );
  assert.deepEqual(
    pieces.map((one) => one.closed?.atMs),
    [2 * HOUR, 4 * HOUR, undefined],
  );
  assert.deepEqual(
    past.ofVm(1, { fromMs: 2 * HOUR + 1, toMs: 3 * HOUR, limit: 10 }).items.map((one) => one.owner),
    ['ann'],
  );
  const after = usage.page(span).items.filter((fact) => fact.type === 'interval');
  assert.equal(after.length, before.length + 2 * 60);
  for (const whole of before) {
    const parts = after.filter((fact) => fact.vm === whole.vm);
    assert.equal(parts[0]?.start, whole.start);
    assert.equal(parts.at(-1)?.end, whole.end);
    for (const [at, part] of parts.entries()) {
      if (at > 0) assert.equal(part.start, parts[at - 1]?.end);
      const { start: _s, end: _e, owner: _o, project: _p, ...rest } = part;
      const { start: _ws, end: _we, owner: _wo, project: _wp, ...wholeRest } = whole;
      assert.deepEqual(rest, wholeRest);
    }
    assert.equal(parts.length, whole.name.startsWith('shop') ? 3 : 1);
  }
  inventory.close();
});
