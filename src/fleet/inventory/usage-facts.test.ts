/** Usage facts in pages: nothing is left out, and nothing comes twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someHost, someVm } from '../fixture.ts';
import { HostTable } from './host-table.ts';
import { Inventory } from './inventory.ts';
import { SourceTable } from './sources.ts';
import { type UsageFact, UsageFacts } from './usage-facts.ts';

const HOUR = 3_600_000;

/** An estate of three VMs that was looked at for two hours, with `gapCount` gaps in its counters. */
function estate(gapCount: number, consumedCount: number, readHours = 0) {
  const inventory = Inventory.open(':memory:');
  const { database } = inventory;
  const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
  const sources = new SourceTable(database);
  const { id: sourceId } = sources.add({ ...fresh, name: 'a', everyMs: 1_000, sampleEveryMs: 60_000 }, 0);
  const vms = ['vm-1', 'vm-2', 'vm-3'].map((nativeId) => someVm({ nativeId, name: nativeId }));
  for (const atMs of [HOUR, 3 * HOUR]) {
    const moment = { how: 'poll' as const, atMs, observedMs: atMs, notBeforeMs: atMs };
    inventory.apply({ sourceId, observation: { kind: 'snapshot', vms, unread: [], isComplete: true }, moment });
  }
  for (let at = 0; at < gapCount; at += 1)
    database.run(
      "INSERT INTO gap (vm_id, source_id, kind, from_ms, to_ms) VALUES (?, ?, 'late', ?, ?)",
      1 + (at % 3),
      sourceId,
      HOUR + at,
      HOUR + at + 1,
    );
  for (let at = 0; at < consumedCount; at += 1)
    database.run(
      "INSERT INTO consumed VALUES (?, ?, ?, 'h', ?, ?, 1, 1, 1, 1, 1, 1, 1, 1)",
      HOUR,
      1 + at,
      sourceId,
      HOUR,
      2 * HOUR,
    );
  if (readHours > 0) new HostTable(database).take(sourceId, [someHost({ nativeId: 'h-1' })], HOUR);
  database.run('UPDATE source SET ok_ms = ?', 3 * HOUR + 1);
  for (let at = 0; at < readHours; at += 1)
    database.run(
      "INSERT INTO host_consumed VALUES (?, ?, 'h-1', 'h', 100, 3600000, 1, 10, 3600000)",
      HOUR * (1 + at),
      sourceId,
    );
  return { inventory, facts: new UsageFacts(database) };
}

function allPages(facts: UsageFacts, limit: number): UsageFact[][] {
  const pages: UsageFact[][] = [];
  for (let after: string | undefined; ; ) {
    const page = facts.page({ fromMs: 0, toMs: 10 * HOUR, limit, after });
    pages.push([...page.items]);
    if (page.next === null) return pages;
    after = page.next;
  }
}

test('however long its pages are, the same facts come, each once, no page longer than asked; gaps as well', () => {
  for (const [gapCount, consumedCount, readHours] of [
    [7, 3, 0],
    [7, 0, 0],
    [0, 3, 0],
    [0, 0, 0],
    [7, 3, 3],
    [7, 0, 2],
    [0, 3, 1],
    [0, 0, 3],
  ] as const) {
    const { inventory, facts } = estate(gapCount, consumedCount, readHours);
    const whole = allPages(facts, 1_000).flat();
    const count = (type: UsageFact['type']): number => whole.filter((fact) => fact.type === type).length;
    assert.deepEqual([count('interval'), count('consumed'), count('gap')], [3, consumedCount, gapCount]);
    assert.equal(count('overhead'), readHours);
    for (const limit of [1, 2, 3, 7]) {
      const pages = allPages(facts, limit);
      assert.deepEqual(pages.flat(), whole);
      // A page may have the hosts, of which there is one, besides.
      assert.ok(pages.every((page) => page.filter((fact) => fact.type !== 'host').length <= limit));
    }
    inventory.close();
  }
});

test('what a host itself needed is what it used less what its VMs did, until its source was last seen', () => {
  const { inventory, facts } = estate(0, 3, 3);
  const overheads = allPages(facts, 100)
    .flat()
    .filter((fact) => fact.type === 'overhead');
  const told = (hour: number, endMs: number) => ({
    type: 'overhead',
    source: 'a',
    host: 'h',
    machine: 'm1',
    // Three VMs used a nanosecond and a KiB·ms each, in the first hour.
    cpuNs: hour === 1 ? '97' : '100',
    memoryByteMs: String((hour === 1 ? 7 : 10) * 1024),
    start: new Date(hour * HOUR).toISOString(),
    end: new Date(endMs).toISOString(),
  });
  assert.deepEqual(overheads, [told(1, 2 * HOUR), told(2, 3 * HOUR), told(3, 3 * HOUR + 1)]);
  inventory.close();
});

test('gaps and intervals of another time are not in it', () => {
  const { inventory, facts } = estate(5, 0);
  const page = facts.page({ fromMs: HOUR + 3, toMs: HOUR + 4, limit: 100 });
  assert.equal(page.items.filter((fact) => fact.type === 'interval').length, 3);
  const gaps = facts.page({ fromMs: HOUR + 3, toMs: HOUR + 4, limit: 100, after: page.next ?? '' });
  assert.deepEqual(
    gaps.items.map((fact) => fact.start),
    [new Date(HOUR + 3).toISOString()],
  );
  assert.equal(gaps.next, null);
  inventory.close();
});
