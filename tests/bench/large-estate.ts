/** An estate of any size, the same each time: VM n is a function of n. It is written the way a collector writes what it sees. */
import { parseVmFacts, type VmFacts } from '../../src/fleet/facts.ts';
import { Inventory } from '../../src/fleet/inventory/inventory.ts';
import { SourceTable } from '../../src/fleet/inventory/sources.ts';

const ROLES = ['web', 'billing', 'cache', 'search', 'queue', 'build', 'mail', 'ledger'] as const;
/** In one transaction, like the collector. */
const WRITTEN_AT_ONCE = 125;
const HOST_VMS = 40;

export function largeVm(n: number): VmFacts {
  const number = String(n).padStart(7, '0');
  const hex = n.toString(16).padStart(8, '0');
  return parseVmFacts({
    nativeId: `vm-${n + 1_000}`,
    uuid: `${hex}-0000-4000-8000-${hex.padStart(12, '0')}`,
    name: `${ROLES[n % ROLES.length]}-${number}`,
    powerState: n % 9 === 0 ? 'off' : 'running',
    hostId: `host-${Math.floor(n / HOST_VMS)}`,
    vcpus: 1 + (n % 16),
    memoryBytes: (1 + (n % 64)) * 2 ** 30,
    disks: [
      {
        name: 'Hard disk 1',
        format: 'vmdk',
        capacityBytes: 2 ** 35,
        allocatedBytes: null,
        datastore: `ds-${n % 50}`,
        path: null,
      },
    ],
    nics: [
      {
        mac: `00:50:56:${hex.slice(2, 4)}:${hex.slice(4, 6)}:${hex.slice(6, 8)}`,
        network: `vlan-${n % 400}`,
        model: 'vmxnet3',
        addresses: [addressOf(n)],
      },
    ],
    guestOs: n % 3 === 0 ? 'Debian GNU/Linux 12 (64-bit)' : 'Red Hat Enterprise Linux 9 (64-bit)',
    firmware: 'uefi',
    tools: 'guestToolsRunning',
    tags: [`owner=team-${n % 97}`, `stage=${n % 5 === 0 ? 'test' : 'production'}`],
    createdAtMs: null,
    virtualization: { mode: 'virtio', accelerator: 'vmx', paravirtual: ['network:vmxnet3'], emulated: [] },
  });
}

export function addressOf(n: number): string {
  return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
}

/** A source that nobody reaches, with VMs `from` to `to - 1` more than it had. The daemon must not be running. */
export function writeLargeEstate(stateDir: string, from: number, to: number): void {
  const inventory = Inventory.open(`${stateDir}/fleet.db`);
  const sources = new SourceTable(inventory.database);
  const fresh = { name: 'estate', url: 'qemu+unix:///system?socket=/nobody/listens/here', driver: 'libvirt' };
  const rest = { sealedSecret: null, pin: null, allowPower: false, everyMs: 3_600_000, sampleEveryMs: 3_600_000 };
  const known = sources.list().find((source) => source.name === fresh.name);
  const { id: sourceId } = known ?? sources.add({ ...fresh, ...rest }, 0);
  for (let at = from; at < to; at += WRITTEN_AT_ONCE) {
    const vms = Array.from({ length: Math.min(WRITTEN_AT_ONCE, to - at) }, (_, index) => largeVm(at + index));
    const moment = { how: 'poll' as const, atMs: 1_000, observedMs: 1_000, notBeforeMs: 0 };
    inventory.apply({ sourceId, observation: { kind: 'part', vms, leaving: [] }, moment });
  }
  inventory.close();
}
