/** What a look has read is gathered and written some at a time: when, over a real inventory and with real time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LookWriter } from '../../src/fleet/collector/look-writer.ts';
import type { VmFacts } from '../../src/fleet/facts.ts';
import { someVm } from '../../src/fleet/fixture.ts';
import type { Moment } from '../../src/fleet/inventory/intervals.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';
import { eventually } from '../harness/vm-client.ts';

const vms = (from: number, to: number): VmFacts[] =>
  Array.from({ length: to - from }, (_, at) => someVm({ nativeId: `id-${from + at}`, name: `vm-${from + at}` }));
const page = (all: readonly VmFacts[]) => ({ hosts: [], vms: all, unread: [] });
const moment = (): Moment => ({ how: 'poll', atMs: Date.now(), observedMs: Date.now(), notBeforeMs: 0 });

class Scene {
  readonly inventory = Inventory.open(':memory:');
  readonly sourceId: number;

  constructor() {
    const pace = { everyMs: 1_000, sampleEveryMs: 60_000 };
    const fresh = {
      name: 's',
      url: 'test://s',
      driver: 'test',
      sealedSecret: null,
      pin: null,
      allowPower: false,
      ...pace,
    };
    this.sourceId = new SourceTable(this.inventory.database).add(fresh, Date.now()).id;
    this.lease('me');
  }

  lease(holder: string): void {
    const nowMs = Date.now();
    // Whoever had it is gone for long.
    this.inventory.database.run('DELETE FROM lease');
    assert.ok(this.inventory.takeLease(this.sourceId, holder, { nowMs, untilMs: nowMs + 60_000 }));
  }

  look(): LookWriter {
    const { inventory, sourceId } = this;
    return new LookWriter({ inventory, sourceId, holder: 'me', moment, signal: new AbortController().signal });
  }

  count(): number {
    return this.inventory.database.get<{ n: number }>('SELECT COUNT(*) AS n FROM vm WHERE gone_ms IS NULL')?.n ?? 0;
  }
}

test('few VMs wait for more, but not for long', async () => {
  const scene = new Scene();
  const look = scene.look();
  await look.take(page(vms(0, 10)));
  assert.equal(scene.count(), 0);
  await eventually('they are written though nothing more comes', 5_000, () => Promise.resolve(scene.count() === 10));
  await look.take(page(vms(10, 1_020)));
  assert.equal(scene.count(), 1_010, 'as many as are written at once do not wait');
  await look.finish();
  assert.equal(scene.count(), 1_020);
  look.end();
  scene.inventory.close();
});

test('a look that breaks off has told of whom it read, and takes nobody away', async () => {
  const scene = new Scene();
  const first = scene.look();
  await first.take(page(vms(0, 20)));
  await first.finish();
  first.end();
  const second = scene.look();
  await second.take(page(vms(15, 30)));
  second.end();
  assert.equal(scene.count(), 30);
  const third = scene.look();
  await third.take(page(vms(15, 30)));
  await third.finish();
  third.end();
  assert.equal(scene.count(), 15);
  scene.inventory.close();
});

test('what an event told while it waited is newer than the look', async () => {
  const scene = new Scene();
  const look = scene.look();
  const [old] = vms(0, 1);
  assert.ok(old !== undefined);
  await look.take(page([old]));
  const vm = { ...old, name: 'renamed' };
  const observation = { kind: 'change', change: { kind: 'seen', vm } } as const;
  scene.inventory.apply({ sourceId: scene.sourceId, observation, moment: moment(), holder: 'me' });
  look.overtake(old.nativeId);
  await look.finish();
  look.end();
  const names = scene.inventory.database.all<{ name: string }>('SELECT name FROM vm');
  assert.deepEqual(
    names.map(({ name }) => name),
    ['renamed'],
  );
  scene.inventory.close();
});

test('what cannot be written is not lost without a word', async () => {
  const scene = new Scene();
  const look = scene.look();
  await look.take(page(vms(0, 5)));
  scene.lease('somebody else');
  // Tries, in vain and without a word: who comes next is told.
  look.end();
  assert.equal(scene.count(), 0);
  await assert.rejects(look.finish(), { code: 'fleet.lease_lost' });
  scene.lease('me');
  await look.finish();
  assert.equal(scene.count(), 5);
  scene.inventory.close();
});
