/**
 * Writes generations of an estate into an inventory until it is killed: in each, all VMs have as many processors as the
 * generation's number, and one VM is replaced by a new one. Argument: the database. Prints each generation it has begun.
 */
import { someVm } from '../../src/fleet/fixture.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';

const VMS = 150;

const inventory = Inventory.open(process.argv[2] ?? '');
const sources = new SourceTable(inventory.database);
const fresh = {
  name: 'writer',
  url: 'test:///',
  driver: 'test',
  sealedSecret: null,
  pin: null,
  allowPower: false,
  everyMs: 1_000,
  sampleEveryMs: 60_000,
};
const sourceId = sources.list()[0]?.id ?? sources.add(fresh, 0).id;
const last =
  inventory.database.get<{ vcpus: number | null }>('SELECT MAX(vcpus) AS vcpus FROM vm WHERE gone_ms IS NULL')?.vcpus ??
  0;

for (let generation = last + 1; ; generation += 1) {
  process.stdout.write(`${generation}\n`);
  const vms = Array.from({ length: VMS }, (_, at) =>
    someVm({ nativeId: `id-${generation + at}`, name: `vm-${generation + at}`, vcpus: generation }),
  );
  const moment = { how: 'poll' as const, atMs: generation * 1_000, observedMs: generation * 1_000, notBeforeMs: 0 };
  inventory.apply({
    sourceId,
    observation: { kind: 'snapshot', vms, unread: [], isComplete: true },
    hosts: [],
    moment,
  });
}
