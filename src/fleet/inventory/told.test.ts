/** What hypervisors remember: from events to intervals, and into the table once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PastEvent } from '../driver.ts';
import { someVm } from '../fixture.ts';
import { HistoryQueries } from './history-queries.ts';
import { Inventory } from './inventory.ts';
import { SourceTable } from './sources.ts';
import { toldIntervals } from './told.ts';
import { ToldTable } from './told-table.ts';
import { UsageFacts } from './usage-facts.ts';

/** In one moment, the order in which they are called is that of the hypervisor. */
let sequence = 0;
const event = (atMs: number): PastEvent => ({ nativeId: 'vm-1', atMs, sequence: ++sequence });
const on = (atMs: number, hostId = 'h1'): PastEvent => ({ ...event(atMs), powerState: 'running', hostId });
const off = (atMs: number, hostId = 'h1'): PastEvent => ({ ...event(atMs), powerState: 'off', hostId });
const moved = (atMs: number, hostId: string): PastEvent => ({ ...event(atMs), hostId });
const made = (atMs: number): PastEvent => ({ ...off(atMs), existence: 'began' });
const removed = (atMs: number): PastEvent => ({ ...off(atMs), existence: 'ended' });
const FIRST = { atMs: 1_000, powerState: 'running' as const, hostId: 'h2' };
const told = (events: readonly PastEvent[], first = FIRST) =>
  toldIntervals(events, first).map((one) => [
    one.openedMs,
    one.closedMs,
    one.powerState,
    one.hostId,
    one.causes.join(),
  ]);

test('made, switched on, moved: one interval after another, up to the first look', () => {
  const events = [moved(300, 'h2'), on(200), made(100)];
  assert.deepEqual(told(events), [
    [100, 200, 'off', 'h1', 'appeared'],
    [200, 300, 'running', 'h1', 'power'],
    [300, 1_000, 'running', 'h2', 'moved'],
  ]);
  assert.deepEqual(toldIntervals(events, FIRST)[2]?.movedFrom, 'h1');
});

test('made and switched on within one moment: it ran from then on, whichever is heard first', () => {
  const events = [made(100), on(100), off(200), on(300, 'h2')];
  const expected = [
    [100, 200, 'running', 'h1', 'appeared'],
    [200, 300, 'off', 'h1', 'power'],
    [300, 1_000, 'running', 'h2', 'moved,power'],
  ];
  assert.deepEqual(told(events), expected);
  assert.deepEqual(told(events.toReversed()), expected);
});

test('where it went last is where it was found; on no host it has not moved', () => {
  const gone = (atMs: number, powerState: PastEvent['powerState']): PastEvent => ({
    ...event(atMs),
    ...(powerState === undefined ? {} : { powerState }),
    hostId: null,
  });
  assert.deepEqual(told([on(100, 'h1'), gone(200, 'off'), on(300, 'h3'), gone(400, 'running')]), [
    [100, 200, 'running', 'h1', 'appeared'],
    [200, 300, 'off', null, 'power'],
    [300, 400, 'running', 'h3', 'power'],
    [400, 1_000, 'running', 'h2', 'moved'],
  ]);
  assert.deepEqual(told([on(100, 'h1'), gone(200, 'unknown'), on(300, 'h2')]).slice(1), [
    [200, 300, 'unknown', null, 'power'],
    [300, 1_000, 'running', 'h2', 'power'],
  ]);
});

test('what does not lead to what was found is left out: something in between is missing', () => {
  assert.deepEqual(told([on(200), off(300)]), [[200, 300, 'running', 'h1', 'appeared']]);
  assert.deepEqual(told([on(200)]), []);
  assert.deepEqual(told([on(200)], { ...FIRST, hostId: 'h1' }), [[200, 1_000, 'running', 'h1', 'appeared']]);
});

test('how it stood at a move is told by the event after it, or by the first look', () => {
  assert.deepEqual(told([moved(100, 'h1'), off(200), on(300, 'h2')]).slice(0, 1), [
    [100, 200, 'running', 'h1', 'appeared'],
  ]);
  assert.deepEqual(told([moved(100, 'h2')]), [[100, 1_000, 'running', 'h2', 'appeared']]);
});

test('removed and registered again leaves a gap; events of the time after the first look, and twice the same, tell nothing', () => {
  assert.deepEqual(
    told([made(100), removed(200), made(400), on(500, 'h2'), on(500, 'h2'), on(600, 'h2'), off(1_500)]),
    [
      [100, 200, 'off', 'h1', 'appeared'],
      [400, 500, 'off', 'h1', 'appeared'],
      [500, 1_000, 'running', 'h2', 'moved,power'],
    ],
  );
});

test('property: whatever is told, intervals follow each other, end before the first look, and any order tells the same', () => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 500; round += 1) {
    const makers = [
      (at: number) => on(at, `h${random(3)}`),
      (at: number) => off(at, `h${random(3)}`),
      (at: number) => moved(at, `h${random(3)}`),
      made,
      removed,
    ];
    const events = Array.from(
      { length: random(12) },
      (_, at) => makers[random(makers.length)]?.(at * 100 + random(99)) ?? on(0),
    );
    const intervals = toldIntervals(events, FIRST);
    for (const [at, one] of intervals.entries()) {
      assert.ok(one.openedMs < one.closedMs && one.closedMs <= FIRST.atMs);
      assert.ok(at === 0 || one.openedMs >= (intervals[at - 1]?.closedMs ?? 0));
    }
    assert.deepEqual(toldIntervals([...events].reverse(), FIRST), intervals);
  }
});

test('written once, however often a collector is stopped in the middle; before what was seen, and no usage', () => {
  const inventory = Inventory.open(':memory:');
  const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
  const sources = new SourceTable(inventory.database);
  const { id: sourceId } = sources.add({ ...fresh, name: 'a', everyMs: 1_000, sampleEveryMs: 60_000 }, 0);
  inventory.takeLease(sourceId, 'me', { nowMs: 0, untilMs: 1e15 });
  const moment = { how: 'poll' as const, atMs: 1_000, observedMs: 1_000, notBeforeMs: 1_000 };
  const vms = ['vm-1', 'vm-2'].map((nativeId) => someVm({ nativeId, name: nativeId, hostId: 'h1' }));
  const look = (atMs: number, seen = vms): void => {
    const observation = { kind: 'snapshot' as const, vms: seen, unread: [], isComplete: true };
    inventory.apply({ sourceId, observation, moment: { ...moment, atMs, observedMs: atMs } });
  };
  look(1_000);
  const table = new ToldTable(inventory.database);
  const who = { sourceId, holder: 'me', nowMs: 2_000 };
  const events = (nativeId: string): PastEvent[] => [made(100), on(200)].map((one) => ({ ...one, nativeId }));
  table.write(who, new Map([['vm-1', events('vm-1')]]));
  // Killed here; begun again with an older event forgotten by the hypervisor.
  const again = new Map([
    ['vm-1', [on(200)]],
    ['vm-2', events('vm-2')],
    ['vm-nobody', events('vm-nobody')],
  ]);
  table.write(who, again);
  table.write(who, again);
  assert.throws(() => table.write({ ...who, holder: 'another' }, again), { code: 'fleet.lease_lost' });
  table.finish(who);
  assert.equal(sources.get(sourceId).toldMs, 2_000);
  look(3_000, [someVm({ nativeId: 'vm-1', name: 'vm-1', hostId: 'h1', powerState: 'off' })]);
  const past = new HistoryQueries(inventory.database);
  const history = (vmId: number) =>
    past
      .ofVm(vmId, { limit: 10 })
      .items.map((one) => [one.opened.atMs, one.closed?.atMs ?? null, one.powerState, one.opened.how]);
  const before = [
    [100, 200, 'off', 'told'],
    [200, 1_000, 'running', 'told'],
  ];
  assert.deepEqual(history(1), [...before, [1_000, 3_000, 'running', 'poll'], [3_000, null, 'off', 'poll']]);
  assert.deepEqual(history(2), [...before, [1_000, 3_000, 'running', 'poll']]);
  assert.deepEqual(
    past.at(150, { limit: 10 }).items.map((one) => [one.name, one.powerState]),
    [
      ['vm-1', 'off'],
      ['vm-2', 'off'],
    ],
  );
  const facts = new UsageFacts(inventory.database).page({ fromMs: 0, toMs: 9_000, limit: 10 }).items;
  assert.ok(facts.length > 0 && facts.every((fact) => fact.start >= new Date(1_000).toISOString()));
  inventory.close();
});
