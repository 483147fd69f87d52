/** A VM for tests, whole, with what the test is about replaced. */
import type { VmSample } from './driver.ts';
import type { HypervisorHost, VmFacts } from './facts.ts';

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

/** A reading of counters for tests: nothing is told but what the test says. */
export function someSample(changes: Partial<VmSample>): VmSample {
  return {
    nativeId: 'vm-1',
    atMs: 60_000,
    run: '1',
    cpuNanoseconds: null,
    memoryUsedBytes: null,
    diskReadBytes: null,
    diskWrittenBytes: null,
    diskReads: null,
    diskWrites: null,
    receivedBytes: null,
    sentBytes: null,
    ...changes,
  };
}

/** A host for tests, whole, with what the test is about replaced. */
export function someHost(changes: Partial<HypervisorHost>): HypervisorHost {
  return {
    nativeId: 'host-1',
    name: 'h',
    uuid: null,
    cpuModel: null,
    threads: 2,
    memoryBytes: 4_294_967_296,
    hypervisor: 'test',
    hypervisorVersion: null,
    architecture: null,
    uptimeSeconds: null,
    ...changes,
  };
}
