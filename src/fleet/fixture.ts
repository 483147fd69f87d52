/** A VM for tests, whole, with what the test is about replaced. */
import type { VmFacts } from './facts.ts';

export function someVm(changes: Partial<VmFacts>): VmFacts {
  return {
    nativeId: 'vm-1',
    uuid: null,
    name: 'web',
    powerState: 'running',
    hostId: 'host-1',
    vcpus: 2,
    memoryBytes: 1_073_741_824,
    disks: [],
    nics: [],
    guestOs: null,
    firmware: 'bios',
    tools: null,
    tags: [],
    createdAtMs: null,
    virtualization: { mode: 'virtio', accelerator: 'kvm', paravirtual: [], emulated: [] },
    ...changes,
  };
}
