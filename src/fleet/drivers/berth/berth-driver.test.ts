import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SourceLoop } from '../../collector/source-loop.ts';
import { ConsumptionTable } from '../../consumption/consumption-table.ts';
import { HostConsumptionTable } from '../../consumption/host-consumption-table.ts';
import type { SourceTarget } from '../../driver.ts';
import type { VmFacts } from '../../facts.ts';
import { someVm } from '../../fixture.ts';
import { Inventory } from '../../inventory/inventory.ts';
import { SourceTable } from '../../inventory/sources.ts';
import { berthDriver, OWN_URL, type OwnVms } from './berth-driver.ts';

const HOST = {
  nativeId: 'here',
  name: 'here',
  uuid: null,
  cpuModel: 'none',
  threads: 2,
  memoryBytes: 2 ** 30,
  hypervisor: 'QEMU',
  hypervisorVersion: '7.2.22',
  architecture: 'x86_64',
  uptimeSeconds: 1,
};

const factsOf = (nativeId: string): VmFacts => someVm({ nativeId, name: `vm-${nativeId}`, hostId: 'here' });

const TARGET: SourceTarget = {
  name: 'own',
  url: new URL(OWN_URL),
  credentials: undefined,
  pin: undefined,
  allowPower: false,
};

/** Stands in for the engine: the ids in `ids`, which tells nobody when they change. */
function portOver(ids: ReadonlySet<string>): OwnVms {
  return {
    version: '0',
    host: () => HOST,
    list: () => [...ids].map(factsOf),
    find: (nativeId) => (ids.has(nativeId) ? factsOf(nativeId) : undefined),
    onChange: () => () => {},
    verbs: [],
    act: async () => {},
    samples: async () => [],
    hostSamples: async () => [],
  };
}

test('many VMs come in pages behind their host, and all of them', async () => {
  const ids = new Set(Array.from({ length: 120 }, (_, index) => String(index)));
  const session = await berthDriver(portOver(ids)).open(TARGET, new AbortController().signal);
  const pages = [];
  for await (const page of session.snapshot(new AbortController().signal)) pages.push(page);
  assert.equal(pages[0]?.hosts.length, 1);
  assert.ok(pages.every((page) => page.vms.length <= 50));
  assert.deepEqual(new Set(pages.flatMap((page) => page.vms.map((vm) => vm.nativeId))), ids);
  await session.close();
});

test('VMs written page by page stay when the look is complete; one that is no more leaves then', async () => {
  const ids = new Set(Array.from({ length: 120 }, (_, index) => String(index)));
  const inventory = Inventory.open(':memory:');
  const sources = new SourceTable(inventory.database);
  const source = sources.add(
    {
      name: 'own',
      url: OWN_URL,
      driver: 'berth',
      sealedSecret: null,
      pin: null,
      allowPower: false,
      everyMs: 1_000,
      sampleEveryMs: 60_000,
    },
    0,
  );
  const loop = new SourceLoop(source, {
    inventory,
    consumption: new ConsumptionTable(inventory.database),
    hostConsumption: new HostConsumptionTable(inventory.database),
    sources,
    driver: berthDriver(portOver(ids)),
    target: () => TARGET,
    holder: 'test',
    log: () => {},
  });
  const live = (): number =>
    inventory.database.get<{ n: number }>('SELECT count(*) AS n FROM vm WHERE gone_ms IS NULL')?.n ?? 0;
  const lookedAt = (): number | null => sources.get(source.id).okMs;
  const until = async (condition: () => boolean): Promise<void> => {
    const deadline = Date.now() + 10_000;
    while (!condition()) {
      assert.ok(Date.now() < deadline, `${live()} VMs are live`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  loop.start();
  await until(() => lookedAt() !== null);
  assert.equal(live(), 120);
  ids.delete('60');
  loop.askForLook();
  await until(() => live() === 119);
  const gone = inventory.database.get<{ name: string }>('SELECT name FROM vm WHERE gone_ms IS NOT NULL');
  assert.equal(gone?.name, 'vm-60');
  assert.equal(
    inventory.database.get<{ n: number }>('SELECT count(*) AS n FROM interval WHERE closed_ms IS NULL')?.n,
    119,
  );
  await loop.stop();
  inventory.close();
});
