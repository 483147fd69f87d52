/** Usage facts in pages: nothing is left out, and nothing comes twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { someVm } from '../fixture.ts';
import { Inventory } from './inventory.ts';
import { SourceTable } from './sources.ts';
import { type UsageFact, UsageFacts } from './usage-facts.ts';

const HOUR = 3_600_000;

/** An estate of three VMs that was looked at for two hours, with `gapCount` gaps in its counters. */
function estate(gapCount: number, consumedCount: number) {
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
  for (const [gapCount, consumedCount] of [
    [7, 3],
    [7, 0],
    [0, 3],
    [0, 0],
  ] as const) {
    const { inventory, facts } = estate(gapCount, consumedCount);
    const whole = allPages(facts, 1_000).flat();
    const count = (type: UsageFact['type']): number => whole.filter((fact) => fact.type === type).length;
    assert.deepEqual([count('interval'), count('consumed'), count('gap')], [3, consumedCount, gapCount]);
    for (const limit of [1, 2, 3, 7]) {
      const pages = allPages(facts, limit);
      assert.deepEqual(pages.flat(), whole);
      assert.ok(pages.every((page) => page.length <= limit));
    }
    inventory.close();
  }
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
