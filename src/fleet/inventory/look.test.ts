/** Looks that are taken in pages, over the inventory's real tables in memory: cut in any way they mean the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmFacts } from '../facts.ts';
import { someVm } from '../fixture.ts';
import { Inventory } from './inventory.ts';
import { Look, related } from './look.ts';
import { SourceTable } from './sources.ts';

const HOLDER = 'test';
const U = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const nic = (n: number): VmFacts['nics'][number] => ({
  mac: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`,
  network: null,
  model: null,
  addresses: [],
});

class Estate {
  readonly inventory = Inventory.open(':memory:');
  readonly #sources = new SourceTable(this.inventory.database);
  #nowMs = 1_000;

  source(name: string): number {
    const fresh = { url: 'test:///', driver: 'test', sealedSecret: null, pin: null, allowPower: false };
    const { id } = this.#sources.add({ ...fresh, name, everyMs: 1_000, sampleEveryMs: 60_000 }, 0);
    this.inventory.takeLease(id, HOLDER, { nowMs: 0, untilMs: Number.MAX_SAFE_INTEGER });
    return id;
  }

  /** As the collector does it. */
  look(sourceId: number, pages: readonly (readonly VmFacts[])[], atMost: number): void {
    const look = new Look();
    const apply = (vms: readonly VmFacts[], leaving: readonly string[]): void => {
      const observation = { kind: 'part' as const, vms, leaving };
      this.inventory.apply({ sourceId, observation, moment: this.#moment(), holder: HOLDER });
    };
    for (const page of pages) apply(look.take(this.inventory.previous(sourceId), page), []);
    for (const part of look.rest(this.inventory.previous(sourceId), () => false, atMost)) apply(part.vms, part.leaving);
    this.inventory.completeLook(sourceId, { hostIds: [], moment: this.#moment(), beganMs: 0, holder: HOLDER });
  }

  #moment() {
    this.#nowMs += 1;
    return { how: 'poll' as const, atMs: this.#nowMs, observedMs: this.#nowMs, notBeforeMs: 0 };
  }

  /** All that is meant, without the numbers and instants that the order of writing gives. */
  meaning(): string {
    const { database } = this.inventory;
    const vms = database.all<{ id: number; name: string; gone: number; host: string }>(
      'SELECT id, name, gone_ms IS NOT NULL AS gone, host_name AS host FROM vm',
    );
    return vms
      .map(({ id, ...vm }) => {
        const sightings = database.all(
          'SELECT source_id, native_id, gone_ms IS NULL AS live FROM sighting WHERE vm_id = ? ORDER BY 1, 2, 3',
          id,
        );
        const intervals = database.all(
          `SELECT source_id, host_name, power_state, causes, closed_ms IS NULL AS open FROM interval
           WHERE vm_id = ? ORDER BY opened_ms, id`,
          id,
        );
        const found = database.all('SELECT rowid FROM vm_search WHERE rowid = ?', id).length;
        return JSON.stringify([vm, sightings, intervals, found]);
      })
      .sort()
      .join('\n');
  }
}

function randomNumbers(seed: number): (below: number) => number {
  let state = Math.imul(seed, 2_654_435_761);
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % below;
  };
}

function shuffled<T>(all: readonly T[], random: (below: number) => number): T[] {
  const order = [...all];
  for (let at = order.length - 1; at > 0; at -= 1) {
    const other = random(at + 1);
    [order[at], order[other]] = [order[other] as T, order[at] as T];
  }
  return order;
}

function cut<T>(all: readonly T[], random: (below: number) => number): T[][] {
  const pages: T[][] = [];
  for (let from = 0; from < all.length; ) {
    const size = 1 + random(4);
    pages.push(all.slice(from, from + size));
    from += size;
  }
  return pages;
}

test('property: a look cut into pages in any way, in any order, gives the same inventory', () => {
  for (let seed = 1; seed <= 100; seed += 1) {
    const random = randomNumbers(seed);
    const [whole, paged] = [new Estate(), new Estate()];
    const sources = ['a', 'b'].map((name) => {
      const id = whole.source(name);
      assert.equal(paged.source(name), id);
      return id;
    });
    const worlds = new Map<number, VmFacts[]>(sources.map((id) => [id, []]));
    for (let turn = 0; turn < 12; turn += 1) {
      const sourceId = sources[random(2)] ?? 0;
      const other = worlds.get(sources.find((id) => id !== sourceId) ?? 0) ?? [];
      let world = worlds.get(sourceId) ?? [];
      for (let change = 0; change < 4; change += 1) {
        const fresh = `${sourceId}-${turn}-${change}`;
        const some = world[random(Math.max(1, world.length))];
        const elsewhere = other[random(Math.max(1, other.length))];
        const action = random(8);
        // Few UUIDs, cards and names, so that they meet.
        if (action < 3)
          world = [
            ...world,
            someVm({ nativeId: fresh, uuid: U(random(4)), name: `n${random(3)}`, nics: [nic(random(4))] }),
          ];
        else if (action === 3 && some) world = [...world, { ...some, nativeId: fresh }];
        else if (action === 4 && some) world = [...world.filter((vm) => vm !== some), { ...some, nativeId: fresh }];
        else if (action === 5 && some) world = world.filter((vm) => vm !== some);
        else if (action === 6 && elsewhere) world = [...world, { ...elsewhere, nativeId: fresh }];
        else if (action === 7 && some)
          world = world.map((vm) => (vm === some ? { ...vm, uuid: U(random(4)), hostId: `h${random(3)}` } : vm));
      }
      worlds.set(sourceId, world);
      whole.look(sourceId, [world], Number.POSITIVE_INFINITY);
      paged.look(sourceId, cut(shuffled(world, random), random), 1 + random(3));
      assert.equal(paged.meaning(), whole.meaning(), `seed ${seed}, turn ${turn}`);
    }
  }
});

test('one whole observation and one that is taken in parts mean the same', () => {
  const [whole, paged] = [new Estate(), new Estate()];
  for (const estate of [whole, paged]) estate.source('a');
  const vms = Array.from({ length: 40 }, (_, n) =>
    someVm({ nativeId: `id-${n}`, uuid: U(n % 30), name: `vm-${n % 35}`, nics: [nic(n % 25)] }),
  );
  for (const seen of [vms, vms.slice(5).map((vm) => ({ ...vm, nativeId: `new-${vm.nativeId}` })), []]) {
    const moment = { how: 'poll' as const, atMs: 5_000, observedMs: 5_000, notBeforeMs: 0 };
    const observation = { kind: 'snapshot' as const, vms: seen, unread: [], isComplete: true };
    whole.inventory.apply({ sourceId: 1, observation, moment });
    paged.look(
      1,
      seen.map((vm) => [vm]),
      3,
    );
    assert.equal(paged.meaning(), whole.meaning());
  }
});

test('a stranger who may be somebody waits for the end; who is nobody known is told at once', () => {
  const estate = new Estate();
  const [a, b] = [estate.source('a'), estate.source('b')];
  const shared = someVm({ nativeId: 'a-1', uuid: U(1), name: 'shared', nics: [nic(1)] });
  estate.look(a, [[shared]], 10);
  const look = new Look();
  const previous = estate.inventory.previous(b);
  const fresh = someVm({ nativeId: 'b-2', uuid: U(2) });
  assert.deepEqual(look.take(previous, [{ ...shared, nativeId: 'b-1' }, fresh]), [fresh]);
  const told = look.rest(previous, () => false, 10);
  assert.deepEqual(
    told.map((part) => part.vms.map((vm) => vm.nativeId)),
    [['b-1']],
  );
  assert.deepEqual(
    look.rest(previous, (nativeId) => nativeId === 'b-1', 10),
    [],
  );
});

test('pages that change underneath: who comes twice is one, by the later word, and who is told of meanwhile does not leave', () => {
  const estate = new Estate();
  const a = estate.source('a');
  const one = someVm({ nativeId: 'id-1', uuid: U(1), name: 'before' });
  const two = someVm({ nativeId: 'id-2', uuid: U(2), name: 'two' });
  estate.look(a, [[one], [two, { ...one, name: 'after' }]], 10);
  const names = (): string[] =>
    estate.inventory.database
      .all<{ name: string }>('SELECT name FROM vm WHERE gone_ms IS NULL ORDER BY id')
      .map((row) => row.name);
  assert.deepEqual(names(), ['after', 'two']);
  const look = new Look();
  look.take(estate.inventory.previous(a), [one]);
  assert.deepEqual(
    look.rest(estate.inventory.previous(a), (nativeId) => nativeId === 'id-2', 10),
    [],
  );
  const [rest] = look.rest(estate.inventory.previous(a), () => false, 10);
  assert.deepEqual(rest?.leaving, ['id-2']);
});

test('who shares something, directly or through others, is in one group', () => {
  const keys: Readonly<Record<string, readonly number[]>> = { a: [1], b: [2], c: [1, 2], d: [3], e: [] };
  const groups = related(Object.keys(keys), (name) => keys[name] ?? []).map((group) => group.members.sort().join(''));
  assert.deepEqual(groups.sort(), ['abc', 'd', 'e']);
});
