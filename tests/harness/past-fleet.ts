/**
 * History as a daemon would have written it, in the database of one that does not run: a source that nobody reaches any more,
 * with one VM of one processor that ran since the beginning of last month.
 */
import { someVm } from '../../src/fleet/fixture.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';

const SOURCE = 'archive';

/** @param atMs - the source was looked at then, and the VM was still running. */
export function writePast(stateDir: string, atMs: number): void {
  const inventory = Inventory.open(`${stateDir}/fleet.db`);
  const sources = new SourceTable(inventory.database);
  const fresh = {
    name: SOURCE,
    url: 'test+unix:///default?socket=/nobody/listens/here',
    driver: 'libvirt',
    sealedSecret: null,
    pin: null,
    allowPower: false,
    everyMs: 3_600_000,
    sampleEveryMs: 3_600_000,
  };
  const known = sources.list().find((source) => source.name === SOURCE);
  const sourceId = (known ?? sources.add(fresh, atMs)).id;
  inventory.apply({
    sourceId,
    observation: {
      kind: 'snapshot',
      vms: [someVm({ nativeId: 'ledger-1', name: 'ledgered', vcpus: 1, hostId: null })],
      unread: [],
      isComplete: true,
    },
    hosts: [],
    moment: { how: 'poll', atMs, observedMs: atMs, notBeforeMs: atMs },
  });
  inventory.close();
}
